"""Conflicts between settings, and problems with values that no type can express; each a sentence."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from oam_mosaic_assets.core.cron import problem_with
from oam_mosaic_assets.core.product import MOSAIC, PRODUCTS
from oam_mosaic_assets.core.release import SAMPLE, Keys
from oam_mosaic_assets.settings.values import (
    KEY,
    MAILBOX,
    is_mail_server,
    is_plain_address,
    is_web_address,
    needs_escaping,
)

if TYPE_CHECKING:
    from pydantic import SecretStr

    from oam_mosaic_assets.settings import Settings

TEST: Final = "test"
"""The folder that `TEST_MODE` builds go to."""


def disagreements(settings: Settings) -> list[str]:
    """Everything that is wrong with settings that are each valid on their own."""
    problems = [*_source_problems(settings), *_store_problems(settings), *_key_problems(settings)]
    problems += [*_alert_problems(settings), *_imagery_problems(settings), *_serving_problems(settings)]
    if settings.zoom_min > settings.zoom_max:
        problems.append(f"ZOOM_MIN ({settings.zoom_min}) must not be above ZOOM_MAX ({settings.zoom_max})")
    if settings.fresh_warn_hours >= settings.fresh_fail_hours:
        problems.append("FRESH_WARN_HOURS must be less than FRESH_FAIL_HOURS")
    if problem := problem_with(settings.mosaic_cron):
        problems.append(f"MOSAIC_CRON {problem}")
    return problems


def _source_problems(settings: Settings) -> list[str]:
    problems = []
    named = {
        "PG_DSN or PGHOST": settings.names_postgres,
        "STAC_API_URL": settings.stac_api_url is not None,
        "STAC_ITEMS": settings.stac_items is not None,
    }
    chosen = [name for name, is_set in named.items() if is_set]
    if len(chosen) > 1:
        problems.append(f"{' and '.join(chosen)} name more than one source of images; keep one")
    if settings.names_postgres and settings.pg_dsn is None and settings.pghost is None:
        problems.append("PGPASSWORD is set, but PGHOST is not; to read a database, set PGHOST or PG_DSN")
    for name, value in (("PGHOST", settings.pghost), ("PGDATABASE", settings.pgdatabase)):
        if value is not None and re.search("://|=|.@", value):  # it may hold a password, and is not quoted
            problems.append(
                f"A connection string goes into PG_DSN, not into {name}, which is shown to everyone"
            )
    if settings.stac_api_url is not None and not is_web_address(settings.stac_api_url):
        problems.append("STAC_API_URL must be a web address that begins with http:// or https://")
    return problems


def _store_problems(settings: Settings) -> list[str]:
    problems = []
    if (settings.s3_access_key is None) != (settings.s3_secret_key is None):
        problems.append("S3_ACCESS_KEY and S3_SECRET_KEY go together: set both, or neither")
    if not is_web_address(settings.endpoint_url):
        problems.append("S3_ENDPOINT must be a host, or a web address that begins with http:// or https://")
    if settings.s3_public_url is not None and not is_web_address(settings.s3_public_url):
        problems.append("S3_PUBLIC_URL must be a web address that begins with http:// or https://")
    shown = {
        "S3_BUCKET": settings.s3_bucket,
        "S3_ENDPOINT": settings.s3_endpoint,
        "S3_PUBLIC_URL": settings.s3_public_url,
    }
    for name, address in shown.items():
        if address is not None and "@" in address:
            problems.append(f"{name} must not contain a user name or password: it is shown to everyone")
        if address is not None and needs_escaping(address):
            problems.append(f"{name} must not contain spaces, control characters, quotes, $ or \\")
    if settings.mosaic_publish == "folder" and settings.names_s3:
        problems.append("MOSAIC_PUBLISH=folder contradicts S3_BUCKET or S3_ENDPOINT; keep one")
    return problems


def _key_problems(settings: Settings) -> list[str]:
    """No key may equal another or be a folder above it: the folder store cannot hold both."""
    problems = []
    plain = Keys()
    meanings = {
        plain.archive: "the mosaic itself",
        plain.tilejson: "the mosaic's TileJSON",
        **{
            each.name: f"the product {each.word!r}; keep one of them (MOSAIC_PRODUCTS says which are built)"
            for each in settings.mosaic_products
            if each != MOSAIC and each.name not in settings.mosaic_keys
        },
        SAMPLE: "the sample's place on S3",
        TEST: "the place of TEST_MODE builds",
    }
    stated = [("MOSAIC_PREFIX", settings.prefix.removesuffix("/"), "MOSAIC_PREFIX")]
    words = {each.name: f"the key of the product {each.word!r}" for each in PRODUCTS}
    stated += [("MOSAIC_KEYS", key, words[name]) for name, key in settings.mosaic_keys.items()]
    stated += [("MOSAIC_ALIASES", alias, "another alias") for alias in settings.mosaic_aliases]
    for name, key, meaning in stated:
        taken = [
            other for other in meanings if f"{key}/".startswith(f"{other}/") or other.startswith(f"{key}/")
        ]
        if KEY.fullmatch(key) is None:
            shown = repr(key) if "@" not in key else "the value"
            problems.append(
                f"{name}: {shown} is not a key: use letters, digits, . _ - and /; begin no part with a dot"
            )
        elif taken:
            problems.append(f"{name}: {key!r} clashes with {taken[0]!r}, {meanings[taken[0]]}")
        else:
            meanings[key] = meaning
    return problems


def _alert_problems(settings: Settings) -> list[str]:
    problems = []
    for name in ("alert_webhook_url", "alert_slack_url"):
        secret: SecretStr | None = getattr(settings, name)
        if secret is not None and not is_web_address(secret.get_secret_value()):
            problems.append(f"{name.upper()} must be a web address that begins with http:// or https://")
    if settings.alert_smtp_url is not None and not is_mail_server(settings.alert_smtp_url.get_secret_value()):
        problems.append(
            "ALERT_SMTP_URL must be like smtp://host:587 or smtp://user:password@host:587, or with smtps://"
        )
    smtp = settings.alert_smtp_url, settings.alert_email_from, settings.alert_email_to or None
    if len({each is None for each in smtp}) > 1:
        problems.append("ALERT_SMTP_URL, ALERT_EMAIL_FROM and ALERT_EMAIL_TO go together: set all, or none")
    mailboxes = [each for each in (settings.alert_email_from, *settings.alert_email_to) if each is not None]
    if not all(map(MAILBOX.fullmatch, mailboxes)):
        problems.append("ALERT_EMAIL_FROM and ALERT_EMAIL_TO must be plain addresses such as me@example.org")
    if settings.alert_ui_url is not None and (
        not is_web_address(settings.alert_ui_url) or "@" in settings.alert_ui_url
    ):
        problems.append("ALERT_UI_URL must be a web address without a password: alerts contain it")
    return problems


def _is_template(address: str) -> bool:
    """Whether it is a web address with a place for a tile."""
    is_whole = all(address.count(each) == 1 for each in ("{z}", "{x}", "{y}"))
    return is_whole and is_plain_address(re.sub(r"\{[zxy]\}", "0", address))


def _imagery_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.imagery_tiles_url is not None:
        template, images = re.subn(r"\{(?:id|url)\}", "0", settings.imagery_tiles_url)
        if images != 1 or not _is_template(template):
            problems.append(
                "IMAGERY_TILES_URL must be a web address that contains {z}, {x}, {y}, and {id} or {url}, "
                "once each"
            )
    if not all(re.fullmatch(r"[^\s/@*?\[\]]+", each) for each in settings.imagery_private_hosts):
        problems.append(
            "IMAGERY_PRIVATE_HOSTS must be hosts as host or host:port, separated by commas: "
            "no web addresses, ranges or patterns, and no brackets"
        )
    if not is_plain_address(settings.imagery_s3_endpoint):
        problems.append("IMAGERY_S3_ENDPOINT must be a web address without a password")
    return problems


def _serving_problems(settings: Settings) -> list[str]:
    problems = []
    if len({*settings.serve_ports}) < len(settings.serve_ports):
        problems.append("SERVE_VECTOR_PORT, SERVE_RASTER_PORT and SERVE_VIEWER_PORT must differ")
    try:
        ip_address(settings.serve_address)
    except ValueError:
        problems.append("SERVE_ADDRESS must be an IP address to listen on, such as 0.0.0.0")
    else:
        if "%" in settings.serve_address:
            problems.append("SERVE_ADDRESS must not name an interface (%): nginx takes no such address")
    if not _is_template(settings.titiler_url):
        problems.append("TITILER_URL must be a web address that contains {z}, {x} and {y}, once each")
    for name in ("serve_vector_url", "serve_raster_url", "serve_viewer_url"):
        address: str | None = getattr(settings, name)
        if address is not None and not is_plain_address(address):
            problems.append(f"{name.upper()} must be a web address without a password: it is given to maps")
    for name in ("stac_item_url", "preview_url"):
        with_id: str = getattr(settings, name)
        if with_id.count("{id}") != 1 or not is_plain_address(with_id.replace("{id}", "0")):
            problems.append(f"{name.upper()} must be a web address that contains {{id}} once")
    return problems

"""The gateways that the settings ask for. No others are imported, so that commands start fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from oam_mosaic_assets.core.alerts import Message
from oam_mosaic_assets.gateways.alerts import Email, Webhook
from oam_mosaic_assets.gateways.catalogue.source import Catalogue
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.settings import Settings

if TYPE_CHECKING:
    from oam_mosaic_assets.gateways.catalogue.pgstac import PgstacCatalogue
    from oam_mosaic_assets.gateways.diagnosis.probed_bucket import ProbedBucket
    from oam_mosaic_assets.gateways.imagery_mosaic import ImageryMosaic
    from oam_mosaic_assets.gateways.viewer import Viewer

HASTY_STATEMENT_SECONDS: Final = 30
"""What PostgreSQL may take for a statement whose result somebody waits for, or a tick, which has a minute."""


def store_of(settings: Settings, *, patient: bool = True) -> ObjectStore:
    """S3 if the settings name it, otherwise the folder.

    Args:
        patient: whether to wait long for a server that does not answer, and to retry.
    """
    if not settings.publishes_to_s3:
        from oam_mosaic_assets.gateways.folder_store import FolderStore  # noqa: PLC0415

        return FolderStore(settings.mosaic_store)
    from oam_mosaic_assets.gateways.s3_store import S3Store  # noqa: PLC0415

    haste: dict[str, Any] = {} if patient else {"connect_timeout": 5.0, "read_timeout": 10.0, "attempts": 1}
    return S3Store(settings.s3_bucket, **_s3(settings), **haste)


def imagery_of(settings: Settings, store: ObjectStore) -> ImageryMosaic:
    """The imagery mosaic in this store."""
    from oam_mosaic_assets.gateways.imagery_mosaic import ImageryMosaic, ImageryPlan  # noqa: PLC0415

    gigabytes, hours = settings.imagery_budget_gb, settings.imagery_budget_hours
    plan = ImageryPlan(
        order=settings.imagery_order,
        kind=settings.imagery_kind,
        feather=settings.imagery_feather,
        tiles=settings.imagery_tiles_url,
        private_hosts=settings.imagery_private_hosts,
        s3_endpoint=settings.imagery_s3_endpoint.rstrip("/"),
        processes=settings.imagery_processes,
        per_host=settings.imagery_per_host,
        budget_bytes=None if gigabytes is None else int(gigabytes * 1e9),
        budget_seconds=None if hours is None else hours * 3600.0,
    )
    return ImageryMosaic(store, settings.keys, plan)


def viewer_of(settings: Settings, store: ObjectStore) -> Viewer:
    """The viewer's page in this store."""
    from oam_mosaic_assets.gateways.viewer import Viewer, config_of  # noqa: PLC0415

    keys = settings.keys
    # a folder has no public address of its own: that depends on who serves it
    base = store.public_address(keys.archive).removesuffix(keys.archive) if settings.publishes_to_s3 else None
    return Viewer(store, keys, settings.serve_viewer, config_of(settings, base))


def probed_bucket_of(settings: Settings) -> ProbedBucket:
    """The bucket that the settings name, with short timeouts for somebody who waits for the answer."""
    from oam_mosaic_assets.gateways.diagnosis.probed_bucket import ProbedBucket  # noqa: PLC0415

    haste: dict[str, Any] = {"connect_timeout": 5.0, "read_timeout": 15.0, "attempts": 2}
    return ProbedBucket(settings.s3_bucket, **_s3(settings), **haste)


def catalogue_of(settings: Settings, *, patient: bool = True) -> Catalogue:
    """The one source that the settings name, otherwise the sample.

    Args:
        patient: whether to wait long for a source that does not answer, and to retry often.
    """
    if settings.source == "pgstac":
        return pgstac_of(settings, patient=patient)
    if settings.stac_api_url is not None:
        from oam_mosaic_assets.gateways.catalogue.stac_api import StacApiCatalogue  # noqa: PLC0415

        haste: dict[str, Any] = {} if patient else {"timeout_seconds": 15.0, "retries": 1}
        return StacApiCatalogue(settings.stac_api_url, settings.collection, **haste)
    if settings.stac_items is not None:
        from oam_mosaic_assets.gateways.catalogue.items_file import ItemsFile  # noqa: PLC0415

        return ItemsFile(settings.stac_items, settings.collection)
    from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue  # noqa: PLC0415

    return SampleCatalogue()


def pgstac_of(settings: Settings, *, patient: bool = True) -> PgstacCatalogue:
    """The database that the settings name.

    Args:
        patient: whether to wait as long as the settings say for a statement.

    Raises:
        CatalogueRefused: its address cannot be parsed.
    """
    from oam_mosaic_assets.gateways.catalogue.pgstac import PgstacCatalogue  # noqa: PLC0415

    parts = {
        "host": settings.pghost,
        "port": settings.pgport,
        "user": settings.pguser,
        "password": _revealed(settings.pgpassword),
        "dbname": settings.pgdatabase,
    }
    stated = {name: value for name, value in parts.items() if value is not None}
    seconds = settings.pg_statement_timeout
    return PgstacCatalogue(
        _revealed(settings.pg_dsn) or stated,
        settings.collection,
        statement_timeout_seconds=seconds if patient else min(seconds, HASTY_STATEMENT_SECONDS),
        can_be_raised=patient or seconds < HASTY_STATEMENT_SECONDS,
    )


def _s3(settings: Settings) -> dict[str, Any]:
    return {
        "region": settings.s3_region,
        "endpoint": settings.endpoint_url,
        "access_key": _revealed(settings.s3_access_key),
        "secret_key": _revealed(settings.s3_secret_key),
        "public_base": settings.s3_public_url,
    }


def channels_of(settings: Settings) -> list[Webhook | Email]:
    """The alert channels that the settings name, if any."""
    channels: list[Webhook | Email] = []
    if address := _revealed(settings.alert_webhook_url):
        channels.append(Webhook("webhook", address, variable="ALERT_WEBHOOK_URL", write=Message.as_json))
    if address := _revealed(settings.alert_slack_url):
        channels.append(Webhook("Slack", address, variable="ALERT_SLACK_URL", write=Message.as_slack))
    if (address := _revealed(settings.alert_smtp_url)) and settings.alert_email_from:
        channels.append(Email(address, sender=settings.alert_email_from, recipients=settings.alert_email_to))
    return channels


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()

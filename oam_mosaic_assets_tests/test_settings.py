"""Settings: every problem at once, never a secret, and nothing goes to S3 that nobody sent there."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets import settings as settings_module
from oam_mosaic_assets.environment import env_file
from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.gateways.object_store import check_key
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets.values import KEY

SECRET = "s3cr3t-and-private"


MAIL = {
    "ALERT_SMTP_URL": "smtps://me:p%40ss@mail.example.org",
    "ALERT_EMAIL_FROM": "mosaic@example.org",
    "ALERT_EMAIL_TO": "ann@example.org",
}


def test_without_settings_the_sample_goes_into_a_folder() -> None:
    settings = Settings.read({})
    assert (settings.source, settings.publishes_to_s3) == ("sample", False)
    assert (settings.zoom_min, settings.zoom_max) == (0, 15)
    assert settings.keys.archive == "global-mosaic.pmtiles"
    assert settings.keys.pointer == "mosaic/latest.json"


def test_every_problem_is_named_at_once() -> None:
    wrong = {
        "ZOOM_MAX": "5",
        "ZOOM_MIN": "low",
        "PGPORT": "0",
        "TEST_MODE": "perhaps",
        "S3_ENDPOINT": "ftp://x",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.read(wrong)
    for name in wrong:
        assert name in caught.value.message


def test_no_secret_is_ever_shown() -> None:
    environment = {
        "PG_DSN": f"postgresql://reader:{SECRET}@db/eoapi",
        "PGPASSWORD": SECRET,
        "S3_ACCESS_KEY": SECRET,
        "S3_SECRET_KEY": SECRET,
        "S3_BUCKET": "b",
        "ALERT_WEBHOOK_URL": f"https://hooks.example.org/{SECRET}",
        "ALERT_SLACK_URL": f"https://hooks.example.org/{SECRET}",
        "ALERT_SMTP_URL": f"smtp://me:{SECRET}@mail.example.org",
        "ALERT_EMAIL_FROM": "mosaic@example.org",
        "ALERT_EMAIL_TO": "ann@example.org",
    }
    settings = Settings.read(environment)
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(SettingsError) as caught:
        Settings.read({**environment, "STAC_ITEMS": "items.ndjson", "ZOOM_MAX": SECRET, "PGPORT": SECRET})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ZOOM_MAX", "abc"),
        ("TEST_MODE", "perhaps"),
        ("MOSAIC_CRON", "daily"),
        ("MOSAIC_CRON", "61 3 * * *"),
        ("S3_ENDPOINT", "ftp://x"),
        ("MOSAIC_ALIASES", "/root.pmtiles"),
    ],
)
def test_a_wrong_value_is_quoted(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({name: value})
    assert caught.value.message.count(repr(value)) == 1


def test_a_wrong_value_that_is_long_is_cut() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({"ZOOM_MAX": "9" * 61})
    assert f"(got '{'9' * 60}'…)" in caught.value.message


@pytest.mark.parametrize(
    "environment",
    [
        {"STAC_API_URL": f"ftp://stac.example.org/?key={SECRET}"},
        {"MOSAIC_CRON": f"postgresql://me:{SECRET}@db"},
        {"MOSAIC_ALIASES": f"me:{SECRET}@db"},
        {"LOG_LEVEL": f"x{SECRET}", "S3_SECRET_KEY": SECRET},
        {"PG_DSN": SECRET, "PGPASSWORD": SECRET, "STAC_ITEMS": "x", "S3_ACCESS_KEY": SECRET},
    ],
)
def test_a_wrong_value_that_may_hold_a_secret_is_not_quoted(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environment)
    assert SECRET not in str(caught.value)


def test_every_setting_that_is_a_secret_is_known_as_one() -> None:
    hidden = {
        name
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation) or not field.repr
    }
    assert hidden == settings_module.SECRET


@pytest.mark.parametrize(
    ("environment", "source"),
    [
        ({"PG_DSN": "postgresql://db/eoapi"}, "pgstac"),
        ({"PGHOST": "db"}, "pgstac"),
        ({"STAC_API_URL": "https://stac.example.org"}, "stac_api"),
        ({"STAC_ITEMS": "items.ndjson"}, "items_file"),
        ({"STAC_ITEMS": "  "}, "sample"),
        ({"PGUSER": "me", "PGPORT": "5433", "PGDATABASE": "mine"}, "sample"),
    ],
)
def test_the_source_is_the_one_that_is_named(environment: dict[str, str], source: str) -> None:
    assert Settings.read(environment).source == source


def test_an_address_of_the_catalogue_may_hold_a_password_and_is_never_shown() -> None:
    settings = Settings.read({"STAC_API_URL": f"https://me:{SECRET}@stac.example.org"})
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json() + str(
        settings.model_dump()
    )
    assert settings.stac_api_url is not None
    assert SECRET in settings.stac_api_url


@pytest.mark.parametrize("name", ["S3_ENDPOINT", "S3_PUBLIC_URL"])
def test_an_address_that_everyone_sees_must_hold_no_password(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} must hold no user name or password") as caught:
        Settings.read({name: f"https://me:{SECRET}@s3.example.org"})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["STAC_API_URL", "S3_ENDPOINT", "S3_PUBLIC_URL"])
@pytest.mark.parametrize(
    "address", ["http://", "https://[::1", "http://host:port", "http://host:99999", "ftp://h"]
)
def test_an_address_that_leads_nowhere_is_named_with_all_else(name: str, address: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({name: address, "MOSAIC_CRON": "daily"})
    assert name in caught.value.message
    assert "MOSAIC_CRON" in caught.value.message


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("s3.amazonaws.com", "https://s3.amazonaws.com"),
        ("minio:9000", "https://minio:9000"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/s3", "http://[::1]:9000/s3"),
    ],
)
def test_an_endpoint_is_asked_by_tls_unless_it_says_http(endpoint: str, address: str) -> None:
    assert Settings.read({"S3_ENDPOINT": endpoint}).endpoint_url == address


def test_two_sources_are_an_error_that_names_them() -> None:
    with pytest.raises(SettingsError, match=r"PG_DSN or PGHOST and STAC_ITEMS"):
        Settings.read({"PGHOST": "db", "STAC_ITEMS": "items.ndjson"})


def test_a_password_without_a_host_is_an_error() -> None:
    with pytest.raises(SettingsError, match="PGHOST is not"):
        Settings.read({"PGPASSWORD": SECRET})


def test_two_keys_alone_publish_nothing_to_s3_and_say_so() -> None:
    settings = Settings.read({"S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"})
    assert not settings.publishes_to_s3
    assert any("nothing goes to S3" in remark for remark in settings.remarks())


@pytest.mark.parametrize(
    "environment", [{"S3_BUCKET": "b"}, {"S3_ENDPOINT": "http://127.0.0.1:9000"}, {"MOSAIC_PUBLISH": "s3"}]
)
def test_s3_is_used_where_someone_says_so(environment: dict[str, str]) -> None:
    assert Settings.read({**environment, "PGHOST": "db"}).publishes_to_s3


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"S3_BUCKET": "b"}, "sample/"),
        ({"S3_BUCKET": "b", "TEST_MODE": "yes"}, "sample/test/"),
        ({"S3_BUCKET": "b", "TEST_MODE": "yes", "PGHOST": "db"}, "test/"),
        ({"TEST_MODE": "yes"}, "test/"),
    ],
)
def test_neither_test_mode_nor_on_s3_the_sample_writes_a_fixed_key(
    environment: dict[str, str], root: str
) -> None:
    settings = Settings.read({"MOSAIC_ALIASES": "old.pmtiles", **environment})
    keys = settings.keys
    assert keys.fixed_archives() == (f"{root}global-mosaic.pmtiles", f"{root}old.pmtiles")
    assert keys.tilejson == f"{root}global-mosaic.json"
    assert keys.pointer == f"{root}mosaic/latest.json"
    for place in root.removesuffix("/").split("/"):
        assert any(f"`{place}/`" in remark for remark in settings.remarks())


@pytest.mark.parametrize("spelling", ["1", "true", "yes", "TRUE", "Yes"])
def test_test_mode_is_on(spelling: str) -> None:
    assert Settings.read({"TEST_MODE": spelling}).test_mode


@pytest.mark.parametrize("spelling", ["", "0", "false", "no"])
def test_test_mode_is_off(spelling: str) -> None:
    assert not Settings.read({"TEST_MODE": spelling}).test_mode


@pytest.mark.parametrize(
    "aliases",
    [
        "global-mosaic.pmtiles",
        "global-mosaic.json",
        "mosaic/builds/x.pmtiles",
        "a.pmtiles,a.pmtiles",
        "../up.pmtiles",
        "/root.pmtiles",
        "with space.pmtiles",
        "a//b.pmtiles",
        "./here.pmtiles",
        ".well-known/mosaic.pmtiles",
        "a/.b.pmtiles",
        "mosaic",
        "global-mosaic.pmtiles/x",
        "a.pmtiles,a.pmtiles/b",
        "a/b,a",
        "test/global-mosaic.pmtiles",
        "sample",
    ],
)
def test_a_key_with_two_meanings_or_none_is_an_error(aliases: str) -> None:
    with pytest.raises(SettingsError, match="MOSAIC_ALIASES"):
        Settings.read({"MOSAIC_ALIASES": aliases})


@given(key=st.from_regex(KEY, fullmatch=True))
def test_a_key_that_the_settings_take_is_one_for_every_store(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "aliases", ["mosaics", "old/a.pmtiles,old/b.pmtiles", "global-mosaic.pmtiles.old", "tests"]
)
def test_keys_that_only_begin_alike_do_not_clash(aliases: str) -> None:
    assert Settings.read({"MOSAIC_ALIASES": aliases}).mosaic_aliases == tuple(aliases.split(","))


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"FRESH_WARN_HOURS": "40"}, "FRESH_WARN_HOURS"),
        ({"MOSAIC_CRON": "daily"}, "MOSAIC_CRON"),
        ({"S3_ACCESS_KEY": "a"}, "S3_SECRET_KEY"),
        ({"MAX_SHRINK_SHARE": "10"}, "MAX_SHRINK_SHARE"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"STAC_API_URL": "file:///etc/passwd"}, "STAC_API_URL"),
        ({"ZOOM_MIN": "14", "ZOOM_MAX": "12"}, "ZOOM_MIN"),
        ({"MOSAIC_PREFIX": "../"}, "MOSAIC_PREFIX"),
        ({"MOSAIC_PREFIX": "a/./b"}, "MOSAIC_PREFIX"),
        ({"MOSAIC_PREFIX": "/a"}, "MOSAIC_PREFIX"),
        ({"MOSAIC_PREFIX": "a//"}, "MOSAIC_PREFIX"),
        ({"MOSAIC_PREFIX": ".m/"}, "MOSAIC_PREFIX"),
        ({"MOSAIC_PREFIX": "global-mosaic.pmtiles/"}, "MOSAIC_PREFIX"),
        ({"MOSAIC_PREFIX": "test/mosaic/"}, "MOSAIC_PREFIX"),
        ({"MAX_SET_ASIDE_SHARE": "nan"}, "MAX_SET_ASIDE_SHARE"),
        ({"FRESH_FAIL_HOURS": "inf"}, "FRESH_FAIL_HOURS"),
        ({"FRESH_WARN_HOURS": "36"}, "FRESH_WARN_HOURS"),
        ({"FRESH_WARN_HOURS": "0.00001", "FRESH_FAIL_HOURS": "0.00002"}, "FRESH_FAIL_HOURS"),
        ({"RETAIN_BUILDS": "0"}, "RETAIN_BUILDS"),
        ({"RETAIN_DAYS": "nan"}, "RETAIN_DAYS"),
        ({"ZOOM_MAX": "7"}, "ZOOM_MAX"),
        ({"ZOOM_MAX": "19"}, "ZOOM_MAX"),
        ({"MOSAIC_PUBLISH": "ftp"}, "MOSAIC_PUBLISH"),
        ({"MOSAIC_PUBLISH": "folder", "S3_BUCKET": "b"}, "MOSAIC_PUBLISH"),
        ({"TEST_MODE": "2"}, "TEST_MODE"),
        ({"ALERT_WEBHOOK_URL": "hooks.example.org"}, "ALERT_WEBHOOK_URL"),
        ({"ALERT_SLACK_URL": "ftp://hooks.example.org"}, "ALERT_SLACK_URL"),
        ({"ALERT_UI_URL": "dagster.example.org"}, "ALERT_UI_URL"),
        ({"ALERT_UI_URL": "https://me:you@dagster.example.org"}, "ALERT_UI_URL"),
        ({"ALERT_SMTP_URL": "smtp://mail"}, "ALERT_EMAIL_FROM"),
        ({"ALERT_EMAIL_TO": "ann@example.org"}, "ALERT_SMTP_URL"),
        ({**MAIL, "ALERT_SMTP_URL": "https://mail"}, "ALERT_SMTP_URL must"),
        ({**MAIL, "ALERT_SMTP_URL": "smtp://"}, "ALERT_SMTP_URL must"),
        ({**MAIL, "ALERT_SMTP_URL": "smtp://me@mail"}, "ALERT_SMTP_URL must"),
        ({**MAIL, "ALERT_SMTP_URL": "smtp://mail:many"}, "ALERT_SMTP_URL must"),
        ({**MAIL, "ALERT_SMTP_URL": "smtp://mail/?x=1"}, "ALERT_SMTP_URL must"),
        ({**MAIL, "ALERT_EMAIL_FROM": "Mosaic <m@example.org>"}, "ALERT_EMAIL_FROM"),
        ({**MAIL, "ALERT_EMAIL_TO": "ann@example.org, ben"}, "ALERT_EMAIL_TO"),
        ({**MAIL, "ALERT_EMAIL_TO": "ann@example.org\nBcc: all@example.org"}, "ALERT_EMAIL_TO"),
    ],
)
def test_what_cannot_be_meant_is_an_error(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings.read(environment)


def test_a_dot_env_file_fills_in_what_the_environment_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("STAC_ITEMS=from-file.ndjson\nZOOM_MAX=9\nPGSSLMODE=require\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"ZOOM_MAX": "11"})
    settings = Settings.read()
    assert (settings.stac_items, settings.zoom_max) == (Path("from-file.ndjson"), 11)
    assert os.environ["PGSSLMODE"] == "require", "libpq, boto3 and Dagster look for their own"


@pytest.mark.parametrize("content", [b"PGPASSWORD=\xff\xfe", b"\xff" + SECRET.encode()])
def test_a_dot_env_file_that_is_no_text_is_named_and_not_quoted(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"The file \.env cannot be read") as caught:
        Settings.read()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_dot_env_file_elsewhere_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ZOOM_MAX=9\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert Settings.read().zoom_max == 15


CONTRACT = {
    "S3_BUCKET": ("s3_bucket", "oin-hotosm-temp", "mine"),
    "S3_REGION": ("s3_region", "us-east-1", "eu-central-1"),
    "S3_ENDPOINT": ("s3_endpoint", "s3.amazonaws.com", "minio:9000"),
    "S3_PUBLIC_URL": ("s3_public_url", None, "https://images.example.org"),
    "PGHOST": ("pghost", None, "db"),
    "PGPORT": ("pgport", 5432, 5433),
    "PGUSER": ("pguser", None, "reader"),
    "PGDATABASE": ("pgdatabase", "eoapi", "other"),
    "COLLECTION": ("collection", "openaerialmap", "other"),
    "ZOOM_MIN": ("zoom_min", 0, 2),
    "ZOOM_MAX": ("zoom_max", 15, 12),
    "TEST_MODE": ("test_mode", False, True),
    "LOG_LEVEL": ("log_level", "INFO", "DEBUG"),
    "MOSAIC_CRON": ("mosaic_cron", "0 3 * * *", "0 */6 * * *"),
    "MOSAIC_STORE": ("mosaic_store", Path("data/store"), Path("elsewhere")),
    "MOSAIC_PREFIX": ("mosaic_prefix", "mosaic/", "m/"),
    "MOSAIC_ALIASES": ("mosaic_aliases", (), ("coverage/old.pmtiles",)),
    "FRESH_WARN_HOURS": ("fresh_warn_hours", 25.0, 2.0),
    "FRESH_FAIL_HOURS": ("fresh_fail_hours", 36.0, 100.0),
    "DAGSTER_HOME": ("dagster_home", Path("data/dagster"), Path("elsewhere")),
    "MAX_SET_ASIDE_SHARE": ("max_set_aside_share", 0.02, 0.5),
    "MAX_SHRINK_SHARE": ("max_shrink_share", 0.10, 0.5),
    "RETAIN_BUILDS": ("retain_builds", 7, 3),
    "RETAIN_DAYS": ("retain_days", 30.0, 1.5),
}
"""Variables that others rely on: the field, what it is where nobody sets it, and another value."""


@pytest.mark.parametrize("name", CONTRACT)
def test_a_variable_others_rely_on_has_its_default_and_can_be_set(name: str) -> None:
    field, default, other = CONTRACT[name]
    stated = ",".join(other) if isinstance(other, tuple) else str(other)
    assert getattr(Settings.read({}), field) == default
    assert getattr(Settings.read({name: f" {stated} "}), field) == other
    for nothing in ("", "  "):
        assert getattr(Settings.read({name: nothing}), field) == default


def test_letters_go_to_every_recipient() -> None:
    settings = Settings.read({**MAIL, "ALERT_EMAIL_TO": "ann@example.org, ben+oam@example.org"})
    assert settings.alert_email_to == ("ann@example.org", "ben+oam@example.org")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVE_ADDRESS", "localhost"),
        ("SERVE_RASTER_PORT", "3004"),
        ("SERVE_VECTOR_PORT", "0"),
        ("SERVE_VECTOR_URL", "tiles.example.org"),
        ("SERVE_RASTER_URL", "https://me:secret@tiles.example.org"),
        ("TITILER_URL", "https://titiler.example.org/{z}/{x}.png"),
        ("TITILER_URL", "https://titiler.example.org/{z}/{x}/{y}/{y}.png"),
        ("TITILER_URL", "https://titiler.example.org/{z}/{x}/{y}.png?x=$host"),
        ("TITILER_URL", 'https://titiler.example.org/{z}/{x}/{y}.png";'),
    ],
)
def test_what_the_tile_server_cannot_use_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.read({name: value})


@pytest.mark.parametrize("name", ["PG_DSN", "PGPASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"])
def test_a_secret_that_is_empty_is_not_set(name: str) -> None:
    assert getattr(Settings.read({name: ""}), name.lower()) is None


def test_the_mosaic_is_among_the_products_whatever_is_asked_for() -> None:
    everything = ["mosaic", "details", "exact", "whole", "density", "statistics", "changes"]
    assert [each.word for each in Settings.read({}).keys.products] == everything
    stated = {"MOSAIC_PRODUCTS": " changes,whole,statistics,exact,density,details,"}
    assert Settings.read(stated).keys == Settings.read({}).keys
    assert [each.word for each in Settings.read({"MOSAIC_PRODUCTS": "mosaic"}).keys.products] == ["mosaic"]
    with pytest.raises(SettingsError, match="MOSAIC_PRODUCTS: 'maps' is no product; there are: mosaic, d"):
        Settings.read({"MOSAIC_PRODUCTS": "maps"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COVERAGE_COLOUR", "grey"),
        ("COVERAGE_COLOUR", "128,128"),
        ("COVERAGE_COLOUR", "0,0,256"),
        ("COVERAGE_COLOUR", "0,-1,0"),
        ("COVERAGE_OPACITY", "0"),
        ("COVERAGE_OPACITY", "1.5"),
        ("COVERAGE_TILE_PIXELS", "300"),
    ],
)
def test_what_coverage_cannot_be_drawn_in_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.read({name: value})


def test_the_colour_of_coverage_is_read() -> None:
    assert Settings.read({"COVERAGE_COLOUR": "255, 102,0"}).coverage_colour == (255, 102, 0)
    assert Settings.read({}).coverage_colour == (128, 128, 128)


def test_a_product_and_an_alias_have_no_key_in_common() -> None:
    with pytest.raises(SettingsError, match=r"'global-data.pmtiles' clashes .* the product 'details'"):
        Settings.read({"MOSAIC_ALIASES": "global-data.pmtiles"})
    Settings.read({"MOSAIC_ALIASES": "global-data.pmtiles", "MOSAIC_PRODUCTS": "mosaic"})


def test_the_key_of_the_seed_era_follows_one_contract() -> None:
    """The density grid by default; an alias of the mosaic where the grid is not made; never both."""
    seed_era = {"MOSAIC_ALIASES": "global-coverage.pmtiles"}
    with pytest.raises(SettingsError, match=r"the product 'density'; keep one of them, MOSAIC_PRODUCTS says"):
        Settings.read(seed_era)
    keys = Settings.read({**seed_era, "MOSAIC_PRODUCTS": "mosaic,details,statistics,changes"}).keys
    assert keys.product_at("global-coverage.pmtiles") == "global-mosaic.pmtiles"
    assert Settings.read({}).keys.product_at("global-coverage.pmtiles") == "global-coverage.pmtiles"


def test_the_readme_lists_every_setting() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in readme] == []


def test_every_secret_is_known_as_one() -> None:
    held_as_secrets = {
        name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    }

    assert held_as_secrets <= settings_module.SECRET


@pytest.mark.parametrize(
    "line", ["S3_BUCKET", "FOO BAR=baz", 'TEST_MODE="1'], ids=["no value", "two words", "an open quote"]
)
def test_a_line_of_the_env_file_that_says_nothing_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"# ours\nZOOM_MAX=12\n{line}\n")

    with pytest.raises(SettingsError, match=r"Line 3 of the file \.env is no NAME=value"):
        Settings.read()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PG_DNS", "PG_DSN"),
        ("STAC_ITEM", "STAC_ITEMS"),
        ("S3_BUKET", "S3_BUCKET"),
        ("s3_bucket", "S3_BUCKET"),
    ],
)
def test_a_name_that_is_nearly_a_setting_is_refused_in_the_env_file_and_remarked_on_elsewhere(
    name: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"{name}={SECRET}\n")
    with pytest.raises(SettingsError) as caught:
        Settings.read()
    assert f"  - {name}: {meant} may be meant" in caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert name not in os.environ

    remark = f"{name} is set and no setting; {meant} may be meant, and is not set."
    assert Settings.read({name: SECRET}).remarks() == [remark]
    assert Settings.read({name: " "}).remarks() == []


def test_what_others_read_is_no_mistyped_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = (Path(__file__).parents[1] / ".env.example").read_text()
    theirs = [line[1:].split("=")[0] for line in example.splitlines() if re.match(r"#[A-Z]\w*=", line)]
    theirs += [
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "PGHOSTADDR",
        "PGSSLMODE",
        "PGPASSFILE",
        "PGDATA",
        "PATH",
        "PORT",
    ]
    ours = {name.upper() for name in Settings.model_fields}
    others = {name: "x" for name in theirs if name not in ours}
    assert {"DAGSTER_PG_HOST", "PORT", "MOSAIC_IMAGE"} <= others.keys()
    assert Settings.read(others).remarks() == []
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("S3_ENDPOINT_URL=http://a\n")
    assert env_file(ours, {"S3_ENDPOINT": "http://a"}), "what may be meant is set"

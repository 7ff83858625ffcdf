"""Settings: every problem is reported at once, and never a secret."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.settings import Settings, problems

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
    assert hidden == problems.SECRET


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


@pytest.mark.parametrize("name", ["S3_BUCKET", "S3_ENDPOINT", "S3_PUBLIC_URL"])
def test_an_address_that_everyone_sees_must_hold_no_password(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} must not contain a user name or password") as caught:
        Settings.read({name: f"https://me:{SECRET}@s3.example.org"})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["PGHOST", "PGDATABASE"])
@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://reader:{SECRET}@db.example.org/eoapi",
        f"postgresql://db.example.org/eoapi?user=reader&password={SECRET}",
        f"host=db.example.org user=reader password={SECRET}",
        f"reader:{SECRET}@db.example.org",
    ],
)
def test_a_connection_string_in_a_place_that_everyone_sees_is_refused_and_not_shown(
    name: str, text: str
) -> None:
    with pytest.raises(SettingsError, match=f"goes into PG_DSN, not into {name}") as caught:
        Settings.read({"PGHOST": "/var/run/postgresql", name: text})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["S3_ENDPOINT", "S3_PUBLIC_URL"])
@pytest.mark.parametrize("character", ["$", '"', "'", "`", "\\", " ", "\n", "\t", "\x7f", "\u00a0"])
def test_an_address_that_needs_escaping_is_refused(name: str, character: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} must not contain spaces, control characters, quotes"):
        Settings.read({name: f"https://s3.example.org/a{character}b"})


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


@pytest.mark.parametrize("spelling", ["1", "true", "yes", "TRUE", "Yes"])
def test_test_mode_is_on(spelling: str) -> None:
    assert Settings.read({"TEST_MODE": spelling}).test_mode


@pytest.mark.parametrize("spelling", ["", "0", "false", "no"])
def test_test_mode_is_off(spelling: str) -> None:
    assert not Settings.read({"TEST_MODE": spelling}).test_mode


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


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FRESH_WARN_HOURS", "0.001", "must be at least 0.017, which is a minute"),
        ("FRESH_FAIL_HOURS", "9000", "must be at most 8760"),
        ("RETAIN_BUILDS", "0", "must be at least 1"),
        ("COVERAGE_OPACITY", "0", "must be above 0"),
        ("COVERAGE_COLOUR", "1,2", "must be red, green and blue, such as 128,128,128"),
        ("COVERAGE_COLOUR", "1,2,3,4", "must be red, green and blue, such as 128,128,128"),
        ("IMAGERY_BUDGET_GB", "inf", "must be a finite number"),
        ("MOSAIC_PUBLISH", "ftp", "must be 's3' or 'folder'"),
    ],
)
def test_what_a_value_must_be_is_said_in_plain_words(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({name: value})
    assert caught.value.problems == [f"{name}: {said} (got {value!r})"]


def test_the_shortest_age_is_the_one_that_the_message_names() -> None:
    assert Settings.read({"FRESH_WARN_HOURS": "0.017"}).fresh_warn_hours == 0.017


@pytest.mark.parametrize(
    ("name", "address", "advice"),
    [
        ("MOSAIC_STORE", "s3://my-bucket/x", "must be a folder, not an address; for a bucket set S3_BUCKET"),
        ("MOSAIC_STORE", "s3:/my-bucket/x", "must be a folder, not an address"),
        ("MOSAIC_SCRATCH", "FILE:///scratch", "must be a folder, not an address"),
        ("DAGSTER_HOME", "postgresql://db/dagster", "must be a folder, not an address"),
        ("STAC_ITEMS", "https://a.org/x.ndjson", "must be a file, not an address; download it first, or set"),
    ],
)
def test_an_address_is_no_folder_and_no_file(name: str, address: str, advice: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: {advice}") as caught:
        Settings.read({name: address, "ZOOM_MAX": "5"})
    assert f"(got {address!r})" in caught.value.message
    assert "ZOOM_MAX" in caught.value.message


def test_a_password_in_an_address_that_should_be_a_file_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="STAC_ITEMS") as caught:
        Settings.read({"STAC_ITEMS": f"https://me:{SECRET}@stac.example.org/x.ndjson"})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("folder", ["C:/mosaic", "a b:c", "./s3:/x", "/srv/2026-01-15T03:00/x"])
def test_a_folder_with_a_colon_is_one(folder: str) -> None:
    assert Settings.read({"MOSAIC_STORE": folder}).mosaic_store == Path(folder)


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
"""Variables that others rely on: the field, its default, and another value."""


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
        ("SERVE_ADDRESS", "fe80::1%eth0"),
        ("SERVE_RASTER_PORT", "3004"),
        ("SERVE_VECTOR_PORT", "0"),
        ("SERVE_VECTOR_URL", "tiles.example.org"),
        ("SERVE_RASTER_URL", "https://me:secret@tiles.example.org"),
        ("TITILER_URL", "https://titiler.example.org/{z}/{x}.png"),
        ("TITILER_URL", "https://titiler.example.org/{z}/{x}/{y}/{y}.png"),
        ("TITILER_URL", "https://titiler.example.org/{z}/{x}/{y}.png?x=$host"),
        ("TITILER_URL", 'https://titiler.example.org/{z}/{x}/{y}.png";'),
        ("IMAGERY_TILES_URL", "https://titiler.example.org/{z}/{x}/{y}.png"),
        ("IMAGERY_TILES_URL", "https://titiler.example.org/{z}/{x}.png?url={url}"),
        ("IMAGERY_TILES_URL", "https://titiler.example.org/{id}/{z}/{x}/{y}.png?url={url}"),
        ("IMAGERY_TILES_URL", "s3://titiler/{id}/{z}/{x}/{y}.png"),
    ],
)
def test_what_the_tile_server_cannot_use_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.read({name: value})


@pytest.mark.parametrize(
    "stated", ["https://minio:9000", "minio/bucket", "10.0.0.0/8", "*.example.org", "[fd00::5]:9000", "a b"]
)
def test_a_private_host_that_would_allow_nothing_is_refused(stated: str) -> None:
    with pytest.raises(SettingsError, match="IMAGERY_PRIVATE_HOSTS must be hosts as host or host:port"):
        Settings.read({"IMAGERY_PRIVATE_HOSTS": f"images.example.org, {stated}"})


def test_a_private_host_may_be_a_name_or_an_ip_address_with_and_without_a_port() -> None:
    hosts = ("images.example.org", "minio:9000", "10.0.0.5", "10.0.0.5:9000", "fd00::5", "fd00::5:9000")
    assert Settings.read({"IMAGERY_PRIVATE_HOSTS": ",".join(hosts)}).imagery_private_hosts == hosts


@pytest.mark.parametrize("name", ["PG_DSN", "PGPASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"])
def test_a_secret_that_is_empty_is_not_set(name: str) -> None:
    assert getattr(Settings.read({name: ""}), name.lower()) is None


def test_the_readme_lists_every_setting() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in readme] == []


def test_every_secret_is_known_as_one() -> None:
    held_as_secrets = {
        name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    }

    assert held_as_secrets <= problems.SECRET

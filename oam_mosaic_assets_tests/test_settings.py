"""Settings: every problem at once, never a secret, and nothing goes to S3 that nobody sent there."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.settings import Settings

SECRET = "s3cr3t-and-private"


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
    }
    settings = Settings.read(environment)
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(SettingsError) as caught:
        Settings.read({**environment, "STAC_ITEMS": "items.ndjson", "ZOOM_MAX": SECRET, "PGPORT": SECRET})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


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
    ("environment", "root"), [({}, "sample/"), ({"TEST_MODE": "yes", "PGHOST": "db"}, "test/")]
)
def test_neither_sample_nor_test_mode_writes_a_fixed_key_on_s3(
    environment: dict[str, str], root: str
) -> None:
    settings = Settings.read({"S3_BUCKET": "b", "MOSAIC_ALIASES": "old.pmtiles", **environment})
    keys = settings.keys
    assert keys.fixed_archives() == (f"{root}global-mosaic.pmtiles", f"{root}old.pmtiles")
    assert keys.tilejson == f"{root}global-mosaic.json"
    assert keys.pointer == f"{root}mosaic/latest.json"
    assert any(root in remark for remark in settings.remarks())


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
    ],
)
def test_a_key_with_two_meanings_or_none_is_an_error(aliases: str) -> None:
    with pytest.raises(SettingsError, match="MOSAIC_ALIASES"):
        Settings.read({"MOSAIC_ALIASES": aliases})


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
    ],
)
def test_what_cannot_be_meant_is_an_error(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings.read(environment)


def test_a_dot_env_file_fills_in_what_the_environment_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("STAC_ITEMS=from-file.ndjson\nZOOM_MAX=9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOOM_MAX", "11")
    settings = Settings.read()
    assert (settings.stac_items, settings.zoom_max) == (Path("from-file.ndjson"), 11)


def test_the_readme_lists_every_setting() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in readme] == []

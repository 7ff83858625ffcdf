"""The `.env` file: it fills in what the environment leaves out, and mistakes in it are named."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path

import pytest

from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets.settings.environment import env_file

SECRET = "s3cr3t-and-private"


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


@pytest.mark.parametrize(
    "line", ["S3_BUCKET", "FOO BAR=baz", 'TEST_MODE="1'], ids=["no value", "two words", "an open quote"]
)
def test_a_line_of_the_env_file_that_says_nothing_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"# ours\nZOOM_MAX=12\n{line}\n")

    with pytest.raises(SettingsError, match=r"Line 3 of the file \.env is not of the form NAME=value"):
        Settings.read()


def test_a_folder_may_be_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"HOME": "/home/mapper"})
    Path(".env").write_text("MOSAIC_STORE=~/mosaic\nMOSAIC_SCRATCH=~\nTIPPECANOE=~/bin/tippecanoe\n")
    settings = Settings.read()
    assert settings.tippecanoe == Path("/home/mapper/bin/tippecanoe")
    with pytest.raises(SettingsError) as caught:
        Settings.read({"SERVE_VIEWER": "~nobody-of-this-name/dist"})
    assert "SERVE_VIEWER: names a home folder that is not known" in caught.value.problems[0]
    assert (settings.mosaic_store, settings.mosaic_scratch) == (
        Path("/home/mapper/mosaic"),
        Path("/home/mapper"),
    )


def test_a_value_in_single_quotes_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"b": "another"})
    Path(".env").write_text("PGHOST=db\nPGUSER=$b\nPGPASSWORD = 'a${b}c$d'\n")
    settings = Settings.read()
    assert settings.pgpassword is not None
    assert settings.pgpassword.get_secret_value() == "a${b}c$d"
    assert settings.pguser == "$b"


@pytest.mark.parametrize("line", ["PGPASSWORD=a${b}", 'PGPASSWORD="a${b:-c}"'])
def test_a_value_that_compose_would_read_differently_is_refused_and_not_quoted(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"PGHOST=db\n{line}\n")
    with pytest.raises(SettingsError, match=r"Line 2 of the file \.env contains `\$\{`") as caught:
        Settings.read()
    assert "single quotes" in (caught.value.hint or "")
    assert "a${b" not in "".join(traceback.format_exception(caught.value))


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

    remark = f"{name} is set, but is not a setting; {meant}, which is not set, may be meant."
    assert Settings.read({name: SECRET}).remarks() == [remark]
    with pytest.raises(SettingsError) as also:
        Settings.read({name: SECRET, "ZOOM_MAX": "abc"})
    assert f"ZOOM_MAX: must be a whole number (got 'abc')\n  - {remark}" in also.value.message
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

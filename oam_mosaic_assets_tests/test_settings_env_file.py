"""The `.env` file: it fills in what the environment leaves out, and mistakes in it are named."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path

import pytest

from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.settings import Settings

SECRET = "s3cr3t-and-private"
LITERALLY = (
    ": in single quotes it is taken literally; what another variable holds must be written out, as only "
    "compose would put it in"
)
CLASH = "name more than one source of images; keep one"


def test_a_dot_env_file_fills_in_what_the_environment_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("STAC_ITEMS=from-file.ndjson\nZOOM_MAX=9\nPGSSLMODE=require\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"ZOOM_MAX": "11"})
    settings = Settings.read()
    assert (settings.stac_items, settings.zoom_max) == (Path("from-file.ndjson"), 11)
    assert os.environ["PGSSLMODE"] == "require", "libpq, boto3 and Dagster look for their own"


@pytest.mark.parametrize(
    "content", [b"PGPASSWORD=\xff\xfe", b"\xff" + SECRET.encode(), f"PGPASSWORD={SECRET}".encode("utf-16-le")]
)
def test_a_dot_env_file_that_is_no_text_is_named_and_not_quoted(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"The file \.env cannot be read: it ") as caught:
        Settings.read()
    assert "plain text in UTF-8" in (caught.value.hint or "")
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
    assert "single quotes" in caught.value.message
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
    remark = f"but is not a setting; {meant}, which is not set, may be meant."
    assert f"  - {name} is set in .env, {remark}" in caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert name not in os.environ

    remark = f"{name} is set, {remark}"
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
    monkeypatch.setattr(os, "environ", {"S3_ENDPOINT": "http://a"})
    others = {name: "x" for name in theirs if name not in ours}
    assert {"DAGSTER_PG_HOST", "PORT", "MOSAIC_IMAGE"} <= others.keys()
    assert Settings.read(others).remarks() == []
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("S3_ENDPOINT_URL=http://a\n")
    Settings.read()
    assert os.environ["S3_ENDPOINT_URL"] == "http://a", "what may be meant is set"


def test_everything_that_is_wrong_is_named_at_once_with_where_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(
        f"S3_BUKET=b\nZOOM_MAX=abc\nPGPORT=5433\nTEST MODE\nPGPASSWORD={SECRET}${{x}}\nSTAC_ITEMS=i\n"
        f"PG_DSN=postgresql://u:{SECRET}@db/x\n"
    )
    environment = {"PGPORT": "none", "TEST_MODE": "perhaps", "MARTN": "/bin/martin"}
    monkeypatch.setattr(os, "environ", {**environment})
    with pytest.raises(SettingsError) as caught:
        Settings.read()
    assert caught.value.problems == [
        "Line 4 of the file .env is not of the form NAME=value",
        f"Line 5 of the file .env contains `${{`{LITERALLY}",
        "S3_BUKET is set in .env, but is not a setting; S3_BUCKET, which is not set, may be meant.",
        "PGPORT: must be a whole number (got 'none'; PGPORT is set in the environment, not as in .env)",
        "TEST_MODE: must be 1, true or yes, or 0, false or no (got 'perhaps')",
        "ZOOM_MAX: must be a whole number (got 'abc'; ZOOM_MAX is set in .env)",
        f"PG_DSN or PGHOST and STAC_ITEMS {CLASH} (PG_DSN is set in .env; STAC_ITEMS is set in .env)",
        "MARTN is set, but is not a setting; MARTIN, which is not set, may be meant.",
    ]
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert os.environ == environment, "nothing of it counts"


def test_a_dot_env_file_that_an_editor_marked_as_utf_8_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {})
    Path(".env").write_text("ZOOM_MAX=9\n", encoding="utf-8-sig")
    assert Settings.read().zoom_max == 9

"""The command `oam-mosaic` before it does any work: help, usage errors, settings, folders; and `sample`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.live_dagster import environment_of, program
from oam_mosaic_assets_tests.automation.test_cli import PUBLISHED, WRONG, Shell
from oam_mosaic_assets_tests.chain import quick_folder, some_items, write_items

COMMANDS = [
    "build",
    "publish",
    "releases",
    "rollback",
    "hold",
    "resume",
    "takedown",
    "doctor",
    "status",
    "sample",
    "validate",
]


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """An installation with a few images and no build yet."""
    with quick_folder() as folder:
        write_items(folder / "items.ndjson", some_items(30))
        settings = {"STAC_ITEMS": str(folder / "items.ndjson"), "MAX_SET_ASIDE_SHARE": "0.1"}
        yield Shell(folder, environment_of(folder, **settings))


@pytest.mark.parametrize("name", ["MOSAIC_SCRATCH", "DAGSTER_HOME"])
def test_a_folder_that_cannot_be_used_is_named_and_exits_with_2(shell: Shell, name: str) -> None:
    (shell.folder / "a-file").touch()
    failed = shell.run_forked("build", **{name: "a-file/below"})
    assert failed.returncode == WRONG, failed.stderr
    assert f"{shell.folder / 'a-file' / 'below'}" in failed.stderr
    assert "cannot be used: Not a directory" in failed.stderr
    assert name in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("name", ["MOSAIC_STORE", "MOSAIC_SCRATCH", "DAGSTER_HOME"])
def test_a_folder_that_nobody_can_make_is_named_and_exits_with_2(shell: Shell, name: str) -> None:
    failed = shell.run_forked("build", **{name: "/proc/none/below"})
    assert failed.returncode == WRONG, failed.stderr
    assert "/proc/none" in failed.stderr
    assert name in failed.stderr
    assert "an error in" not in failed.stderr


def test_dagster_home_may_be_relative_and_stand_in_the_dot_env_file(shell: Shell) -> None:
    environment = {name: value for name, value in shell.environment.items() if name != "DAGSTER_HOME"}
    (shell.folder / ".env").write_text("DAGSTER_HOME=rel/d\n")
    try:
        built = replace(shell, environment=environment).run_forked("build", MOSAIC_STORE="another-store")
    finally:
        (shell.folder / ".env").unlink()
    assert built.returncode == PUBLISHED, built.stderr
    assert (shell.folder / "rel" / "d" / "history").is_dir()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"telemetry: {enabled: false}  # caf\xe9", "'utf-8' codec can't decode byte 0xe9"),
        (b"telemetry: [", "expected the node content, but found '<stream end>'"),
        (b"telemetri: {enabled: false}", 'unexpected config entry "telemetri" at the root.\n'),
        (b"- telemetry", "Expected YAML from file"),
    ],
)
def test_a_configuration_of_dagster_that_is_wrong_is_named_and_exits_with_2(
    shell: Shell, content: bytes, why: str
) -> None:
    (kept := shell.folder / "wrong" / "dagster.yaml").parent.mkdir(exist_ok=True)
    kept.write_bytes(content)
    failed = shell.run_forked("rollback", "--reason", "a try", DAGSTER_HOME="wrong")
    assert failed.returncode == WRONG, failed.stderr
    assert f"{kept} cannot be used: " in failed.stderr
    assert why in failed.stderr
    assert "What to do: Correct it, or delete it" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_home_without_a_configuration_is_not_remarked_on(shell: Shell) -> None:
    failed = shell.run_forked("rollback", "--reason", "a try", DAGSTER_HOME=str(shell.folder / "new"))
    assert "RollbackRefused" in failed.stderr
    assert "dagster.yaml" not in failed.stderr


def test_wrong_settings_exit_with_2_and_are_all_named_at_once(shell: Shell) -> None:
    wrong = shell.run_forked("build", ZOOM_MAX="3", MOSAIC_CRON="daily", PG_DSN="postgresql://u:S3cr3t@db/x")
    assert wrong.returncode == WRONG
    for name in ("ZOOM_MAX", "MOSAIC_CRON", "PG_DSN", "STAC_ITEMS"):
        assert name in wrong.stderr
    assert "What to do:" in wrong.stderr
    assert "S3cr3t" not in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["publish", "20260115T030000Z-3f9c2a7d41be"],
        ["publish", "../../x", "--confirm", "y"],
        ["validate"],
    ],
)
def test_wrong_usage_exits_with_2_and_says_how(shell: Shell, arguments: list[str]) -> None:
    wrong = shell.run(*arguments)
    assert wrong.returncode == WRONG
    assert "usage: oam-mosaic" in wrong.stderr


def test_a_sample_that_is_too_small_is_wrong_usage(shell: Shell) -> None:
    small = shell.run("sample", "--images", "3")
    assert small.returncode == WRONG
    assert "at least" in small.stderr


def test_the_help_tells_what_each_command_does_and_what_exit_codes_mean(shell: Shell) -> None:
    overview = shell.run("--help")
    assert overview.returncode == 0
    assert re.findall(r"^  (\d)  \w", overview.stdout, re.MULTILINE) == ["0", "1", "2", "3"]
    for command in COMMANDS:
        assert re.search(rf"^ +{command} +\w", overview.stdout, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_describes_it_and_its_options(shell: Shell, command: str) -> None:
    text = shell.run(command, "--help").stdout
    described = text.split("\n\n")[1]
    assert len(described) > 80
    options = re.findall(r"^  (?:-\w, )?(--?\w+)(?: [A-Z]+)?(.*(?:\n {10,}.*)?)", text, re.MULTILINE)
    assert options
    for option, meaning in options:
        assert len(meaning.strip()) > 5, option


def test_the_sample_is_always_the_same(shell: Shell) -> None:
    first = shell.run("sample", "--images", "300")
    again = shell.run("sample", "--images", "300", "--output", "sample.ndjson")
    assert (first.returncode, again.returncode) == (0, 0)
    assert first.stdout == (shell.folder / "sample.ndjson").read_text()
    assert (first.stderr, again.stdout) == ("", "")
    assert again.stderr == "Wrote 300 made-up items to sample.ndjson\n"
    assert len(first.stdout.splitlines()) == 300


def test_a_file_that_is_there_is_overwritten_only_on_request(shell: Shell) -> None:
    mine = shell.folder / "mine.ndjson"
    write_items(mine, some_items(1))
    before = mine.read_text()

    refused = shell.run("sample", "--images", "300", "--output", mine)

    assert refused.returncode == WRONG
    assert f"--output: {mine} is there already." in refused.stderr
    assert "add --force" in refused.stderr
    assert mine.read_text() == before
    assert shell.run("sample", "--images", "300", "--output", mine, "--force").returncode == 0
    assert len(mine.read_text().splitlines()) == 300


def test_a_reader_of_the_sample_may_stop_early(shell: Shell) -> None:
    line = f"{program('oam-mosaic')} sample | head -1"
    first = shell.execute("bash", "-o", "pipefail", "-c", line, timeout=60)
    assert json.loads(first.stdout)["type"] == "Feature"
    assert (first.returncode, first.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["sample"], ["sample", "--output", "/dev/full"], ["status", "--json"]])
def test_what_cannot_be_written_is_said_in_a_sentence(shell: Shell, arguments: list[str]) -> None:
    line = f"{program('oam-mosaic')} {' '.join(arguments)} >/dev/full"
    told = shell.execute("bash", "-c", line, timeout=60)
    assert told.returncode in {1, WRONG}
    assert "cannot be written: No space left on device" in told.stderr
    assert "What to do: " in told.stderr
    assert "Traceback" not in told.stderr
    assert "Exception ignored" not in told.stderr
    assert "Wrote" not in told.stderr


def test_every_setting_may_be_absent(shell: Shell) -> None:
    """The environment of these tests contains no settings except those a test states."""
    named = {name.upper() for name in Settings.model_fields} & shell.environment.keys()
    stated = {"STAC_ITEMS", "MAX_SET_ASIDE_SHARE"}
    assert named == stated | {"MOSAIC_STORE", "MOSAIC_SCRATCH", "DAGSTER_HOME", "ZOOM_MAX", "MOSAIC_PRODUCTS"}

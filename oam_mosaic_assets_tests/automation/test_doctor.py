"""`oam-mosaic doctor`: its output for a terminal, a log and a program, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator

import pytest

from oam_mosaic_assets_tests.automation.live_dagster import environment_of, program
from oam_mosaic_assets_tests.automation.test_cli import Shell, read_all
from oam_mosaic_assets_tests.chain import quick_folder, some_items, write_items
from oam_mosaic_assets_tests.servers.buckets import new_bucket
from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.s3 import S3Server

WELL, UNREACHABLE, WRONG = 0, 1, 2


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """An installation with a few images, before its first run."""
    with quick_folder() as folder:
        write_items(folder / "items.ndjson", some_items(30))
        yield Shell(folder, environment_of(folder, STAC_ITEMS=str(folder / "items.ndjson")))


def test_before_the_first_run_all_is_well_in_plain_lines(shell: Shell) -> None:
    told = shell.run_forked("doctor")

    assert (told.returncode, told.stderr) == (WELL, "")
    assert "\x1b" not in told.stdout
    *lines, empty, summary = told.stdout.splitlines()
    assert (empty, summary) == ("", "Nothing stands in the way of a build.")
    assert all(re.fullmatch(r"ok {11}\S.{18} {2,}\S.*", line) for line in lines), told.stdout
    assert re.search(r"^ok +images +30 in file ", told.stdout, re.MULTILINE)
    assert not shell.store.exists()


def test_a_terminal_gets_a_list_with_signs(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [program("oam-mosaic"), "doctor"],
            env={
                **shell.environment,
                "TERM": "xterm-256color",
                "COLUMNS": "90",
                "TEST_MODE": "1",
                "TIPPECANOE": "/missing/tippecanoe",
            },
            cwd=shell.folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read_all(ours))
        assert process.wait(timeout=60) == WRONG, shown
    finally:
        os.close(ours)
    assert re.search(r"✓ images +30 in file", shown)
    assert re.search(r"! settings +TEST_MODE is on", shown)
    assert re.search(r"✗ tippecanoe +The program /missing/tippecanoe could not be started", shown)
    assert re.search(r"^ +→ Set TIPPECANOE to the path", shown, re.MULTILINE)
    assert "1 problem to fix before a build; 1 warning to read." in shown
    assert max(map(len, shown.replace("\r", "\n").splitlines())) <= 90


def test_a_program_gets_every_finding(shell: Shell) -> None:
    told = shell.run_forked("doctor", "--json", TIPPECANOE="/missing/tippecanoe")
    stated = json.loads(told.stdout)

    assert told.returncode == stated["exit_code"] == WRONG
    assert all({*each} == {"subject", "state", "text", "hint"} for each in stated["findings"])
    assert [each["subject"] for each in stated["findings"] if each["state"] != "ok"] == ["tippecanoe"]


def test_what_is_wrong_is_all_named_at_once_and_no_secret_with_it(shell: Shell, ceph: S3Server) -> None:
    secrets = {"PG_DSN": "postgresql://reader:S3cr3t@127.0.0.1:1/eoapi", "S3_SECRET_KEY": "S3cr3t-too"}
    told = shell.run_forked(
        "doctor",
        **secrets,
        STAC_ITEMS="",
        S3_BUCKET=new_bucket(ceph),
        S3_ENDPOINT=ceph.endpoint,
        S3_ACCESS_KEY=ceph.access_key,
        MOSAIC_SCRATCH="items.ndjson/below",
        TIPPECANOE="/bin/true",
    )

    assert told.returncode == WRONG
    states = dict(reversed(line.split()[:2]) for line in told.stdout.splitlines() if line)
    assert states["database"] == "unreachable"
    assert {"bucket", "tippecanoe", "scratch"} <= {each for each in states if states[each] == "wrong"}
    assert "3 problems to fix before a build; 1 thing cannot be reached right now." in told.stdout
    assert "S3cr3t" not in told.stdout + told.stderr
    assert "Traceback" not in told.stderr


def test_a_file_of_something_else_is_not_called_an_empty_catalogue(shell: Shell) -> None:
    other = shell.folder / "readme.ndjson"
    other.write_text("# A title\nand some text\n")
    told = shell.run_forked("doctor", STAC_ITEMS=str(other))
    assert told.returncode == WRONG
    assert "holds no STAC items: none of 2 lines is a JSON object" in told.stdout


def test_what_cannot_be_reached_now_exits_with_1(shell: Shell) -> None:
    told = shell.run_forked("doctor", STAC_ITEMS="", PGHOST="127.0.0.1", PGPORT=str(free_port()))

    assert told.returncode == UNREACHABLE
    assert re.search(
        r"^unreachable +database .* What to do: Check that the database", told.stdout, re.MULTILINE
    )


def test_settings_that_cannot_be_read_are_a_finding_too(shell: Shell) -> None:
    told = shell.run_forked("doctor", "--json", ZOOM_MAX="3", MOSAIC_CRON="daily")
    findings = json.loads(told.stdout)["findings"]

    assert told.returncode == WRONG
    assert {(each["subject"], each["state"]) for each in findings} == {("settings", "wrong")}
    assert [each["text"].split()[0] for each in findings] == ["ZOOM_MAX:", "MOSAIC_CRON"]
    assert (
        "2 problems to fix before a build."
        in shell.run_forked("doctor", ZOOM_MAX="3", MOSAIC_CRON="daily").stdout
    )


def test_an_executor_that_is_not_there_is_in_the_way_of_the_daemon(shell: Shell) -> None:
    told = shell.run_forked("doctor", BUILD_EXECUTOR="dagster_k8s:k8s_job_executor")
    assert told.returncode == WRONG
    assert re.search(
        r"^wrong +executor +BUILD_EXECUTOR, .*No module named 'dagster_k8s'", told.stdout, re.MULTILINE
    )
    told = shell.run_forked("doctor", BUILD_EXECUTOR="multiprocess")
    assert told.returncode == WELL
    assert "multiprocess, for runs of the daemon and the UI" in told.stdout


def test_what_a_build_leaves_is_well(shell: Shell) -> None:
    # only runs of the daemon and the UI use this executor: the command does not need it
    assert shell.run_forked("build", BUILD_EXECUTOR="dagster_k8s:k8s_job_executor").returncode == 0
    told = shell.run_forked("doctor")

    assert told.returncode == WELL, told.stdout
    assert re.search(r"^ok +public mosaic +\S+ with 30 images, public since ", told.stdout, re.MULTILINE)
    assert "the last build has" in told.stdout

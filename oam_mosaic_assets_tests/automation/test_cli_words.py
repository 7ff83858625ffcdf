"""What `oam-mosaic` says when something is not as its user expects: once, and plainly."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG

from oam_mosaic_assets import cli
from oam_mosaic_assets.cli.signals import stoppable
from oam_mosaic_assets_tests.automation.live_dagster import environment_of, program
from oam_mosaic_assets_tests.automation.test_cli import PASSING, PUBLISHED, REFUSED, WRONG, Shell, read_all
from oam_mosaic_assets_tests.chain import (
    Site,
    is_running,
    quick_folder,
    slow_tippecanoe,
    some_items,
    write_items,
)

IMAGES = 30
NEVER_STAGED = "20260115T030000Z-3f9c2a7d41be"
PATIENCE_SECONDS = 120
STOPPED = "oam-mosaic: stopped in global_mosaic_pmtiles; whatever is public stays public and intact."
SHAPELESS = {**some_items(1)[0], "geometry": None}


@pytest.fixture
def shell() -> Iterator[Shell]:
    with quick_folder() as folder:
        write_items(folder / "items.ndjson", some_items(IMAGES))
        yield Shell(folder, environment_of(folder, STAC_ITEMS=str(folder / "items.ndjson")))


def test_a_build_that_was_never_staged_is_not_called_lost(shell: Shell) -> None:
    assert shell.run_forked("build").returncode == PUBLISHED
    write_items(shell.folder / "items.ndjson", some_items(IMAGES - 10))
    assert shell.run_forked("build").returncode == REFUSED
    (held,) = (path.name for path in (shell.store / "mosaic" / "staging").iterdir())

    told = shell.run_forked("publish", NEVER_STAGED, "--confirm", "why not")

    assert told.returncode == WRONG, told.stderr
    assert f"Not published: Build {NEVER_STAGED} is not staged in {shell.store.as_uri()}" in told.stderr
    assert f"staged there: {held}." in told.stderr
    assert "If it was, it was deleted when the newer" in told.stderr
    assert "Nothing needs to be done" not in told.stderr


def test_a_publication_does_not_say_what_it_does_not_read(shell: Shell) -> None:
    told = shell.run_forked("publish", NEVER_STAGED, "--confirm", "why not", STAC_ITEMS="")
    assert told.returncode == WRONG, told.stderr
    assert "staged there: none." in told.stderr
    assert "became public" not in told.stderr, "nothing is"
    assert re.findall(r"^(\w+)  ", told.stderr, re.MULTILINE) == ["To"]


@contextmanager
def ended_with_the_block(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the process after the block: if it was not stopped, it would tile for ten minutes."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def until_it_tiles(process: subprocess.Popen[bytes], number: Path, *, shown_on: int | None = None) -> None:
    """Wait until `slow_tippecanoe` is running; meanwhile read what the terminal shows, as a person would."""
    terminal = [] if shown_on is None else [shown_on]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not number.exists() or not number.read_text().endswith("\n"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        if readable := select.select(terminal, [], [], 0.02)[0]:
            os.read(readable[0], 65536)


@pytest.mark.parametrize("on", ["terminal", "pipe"])
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=lambda sign: sign.name)
def test_what_is_stopped_says_so_and_nothing_else(shell: Shell, on: str, sign: signal.Signals) -> None:
    """Ctrl-C reaches every process on the terminal, not only the command, as does a shell ending a job."""
    number = shell.folder / "number"
    ours, theirs = pty.openpty() if on == "terminal" else os.pipe()
    environment = {**shell.environment, "TIPPECANOE": slow_tippecanoe(shell.folder, number), "TERM": "xterm"}
    try:
        with subprocess.Popen(
            [program("oam-mosaic"), "build", "--anew"],
            env=environment,
            cwd=shell.folder,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            with ended_with_the_block(process):
                until_it_tiles(process, number)
                os.killpg(process.pid, sign)
                shown = read_all(ours)
                assert process.wait(timeout=PATIENCE_SECONDS) == 128 + sign
    finally:
        os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").splitlines()
    assert STOPPED in lines
    unexplained = ("Traceback", "File ", "KeyboardInterrupt", "error", "failure", "watch_orphans")
    assert not [line for line in lines if any(each in line for each in unexplained)], shown
    with dg.DagsterInstance.from_config(shell.environment["DAGSTER_HOME"]) as instance:
        (run,) = instance.get_runs()
    assert (run.status, run.tags[WILL_RETRY_TAG]) == (dg.DagsterRunStatus.FAILURE, "false")


def test_a_terminal_that_is_closed_stops_what_runs_on_it(shell: Shell) -> None:
    """The command gets SIGHUP, and nothing it prints after that can be written."""
    number = shell.folder / "number"
    on_terminal = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", on_terminal, program("oam-mosaic"), "build", "--anew"],
        env={**shell.environment, "TIPPECANOE": slow_tippecanoe(shell.folder, number), "TERM": "xterm"},
        cwd=shell.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        with ended_with_the_block(process):
            until_it_tiles(process, number, shown_on=ours)
            os.close(ours)
            assert process.wait(timeout=PATIENCE_SECONDS) == 128 + signal.SIGHUP
    assert not is_running(int(number.read_text()))
    assert not [*(shell.store / "mosaic").glob("staging/*/*")]
    assert not [*(shell.folder / "scratch").iterdir()]


def test_what_nohup_started_goes_on_when_its_terminal_is_closed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ["no item", "[1]"],
            "holds no STAC items; 2 read: not_an_item 2 (the first: row 1, not_an_item, 'no item')",
        ),
        (
            [{"type": "Feature", "properties": {}, "geometry": None}],
            "holds no STAC items; 1 read: no_id 1 (the first: row 1, no_id,",
        ),
        (
            ["no item", SHAPELESS],
            f"drawn; 2 read: no_geometry 1, not_an_item 1 (the first: {SHAPELESS['id']!r}, no_geometry,",
        ),
        ([], "holds no image that can be drawn; nothing was read"),
    ],
    ids=["lines that are no items", "plain GeoJSON", "an item without geometry", "an empty file"],
)
def test_a_file_without_an_image_is_refused_with_what_was_in_it(
    shell: Shell, rows: list[Mapping[str, Any] | str], said: str
) -> None:
    write_items(shell.folder / "items.ndjson", rows)
    told = shell.run_forked("build")
    assert told.returncode == (WRONG if "no STAC" in said else REFUSED), told.stderr
    assert said in told.stderr
    kind = "CatalogueRefused" if told.returncode == WRONG else "EmptyCatalogue"
    assert told.stderr.endswith(f"\nKind: {kind} (see docs/operation.md)\n")


def test_a_catalogue_whose_images_all_lie_outside_the_test_box_is_told_from_a_file_of_something_else(
    shell: Shell,
) -> None:
    far = {"type": "Polygon", "coordinates": [[[100, 50], [101, 50], [101, 51], [100, 51], [100, 50]]]}
    write_items(shell.folder / "items.ndjson", ["no item", {**some_items(1)[0], "geometry": far}])
    told = shell.run_forked("build", TEST_MODE="1")
    assert told.returncode == REFUSED, told.stderr
    assert "holds no image that can be drawn; 2 read: not_an_item 1, outside the test box 1" in told.stderr
    assert "TEST_MODE is off" in told.stderr


@pytest.mark.parametrize(
    "command",
    [("hold", "--reason", "a look"), ("resume",), ("releases",), ("takedown", "--list")],
    ids=lambda command: command[0],
)
def test_who_changes_or_asks_a_place_is_told_which_and_what_may_not_be_meant(
    shell: Shell, command: tuple[str, ...]
) -> None:
    """A hold on the wrong store looks like a hold on the right one, while the mosaic goes on changing."""
    told = shell.run(*command, S3_BUKET="mosaics")
    assert told.returncode == 0
    assert (
        "Note  S3_BUKET is set, but is not a setting; S3_BUCKET, which is not set, may be meant"
        in told.stderr
    )
    assert f"At    {shell.store.as_uri()}/global-mosaic.pmtiles" in told.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("status", "--catalogue"),
        ("releases",),
        ("doctor",),
        ("takedown", "--list"),
        ("takedown", "--undo", "nothing"),
        ("resume",),
        ("validate", "no.pmtiles"),
        ("imagery", "--list"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("wrong", [("MOSAIC_SCRATCH",), ("MOSAIC_SCRATCH", "MOSAIC_STORE")], ids=len)
def test_what_only_looks_leaves_no_folder_in_the_wrong_place(
    site: Site, command: tuple[str, ...], wrong: tuple[str, ...], tmp_path: Path
) -> None:
    site.published()
    places = {name: str(tmp_path / "wrong" / name) for name in wrong}
    replace(site, environment={**site.environment, **places, "MOSAIC_PRODUCTS": "imagery"}).command(*command)
    assert not (tmp_path / "wrong").exists()


def test_a_pointer_that_is_gone_is_not_called_a_place_without_a_mosaic(shell: Shell) -> None:
    pointer = shell.store / "mosaic" / "latest.json"
    shell.run_forked("build")
    content = pointer.read_bytes()
    pointer.unlink()
    try:
        told = [shell.run("status"), shell.run("doctor"), shell.run_forked("rollback", "--reason", "a try")]
    finally:
        pointer.write_bytes(content)
    for each in told:
        said = each.stdout + each.stderr
        assert "latest.json, which says what is public, is missing, although there are releases" in said


def test_a_failed_audit_and_a_guard_say_in_a_line_why_nothing_was_published(shell: Shell) -> None:
    items = [{**item, "geometry": None} for item in some_items(IMAGES)]
    write_items(shell.folder / "items.ndjson", [*some_items(IMAGES, first=IMAGES), *items])
    held = shell.run_forked("build")
    assert held.returncode == REFUSED
    assert held.stderr.endswith("\nKind: HeldBack (see docs/operation.md)\n")
    assert (
        "Not published: the build is held back until a person decides; nothing public has changed.\n"
        in held.stderr
    )
    assert "60 images in the catalogue: 30 to draw, 30 set aside" in held.stderr
    named = re.search(r"30 set aside \(the first: '(\w+)', no_geometry, 'None'\)$", held.stderr, re.MULTILINE)
    assert named is not None
    assert named[1] in {item["id"] for item in items}
    assert "more than the 2.00% that MAX_SET_ASIDE_SHARE allows" in held.stderr

    listed = shell.run("releases")
    assert listed.returncode == 0
    assert re.search(
        r"^(\S+) is audited and waits for a person, .+: oam-mosaic publish \1 --confirm REASON$",
        listed.stdout,
        re.MULTILINE,
    )


def test_status_says_which_store_and_which_source_it_speaks_of(shell: Shell) -> None:
    told = shell.run("status")
    assert told.returncode == PASSING
    assert re.search(rf"^store +{re.escape(shell.store.as_uri())}$", told.stdout, re.MULTILINE)
    tried = shell.run("status", TEST_MODE="1")
    assert re.search(rf"^store +{re.escape(shell.store.as_uri())}/test$", tried.stdout, re.MULTILINE)
    assert re.search(r"^source +file .*items\.ndjson, collection openaerialmap$", told.stdout, re.MULTILINE)


@pytest.mark.parametrize("part", [".", "history", "history/runs.db"])
def test_dagsters_home_that_may_not_be_written_to_is_named_and_exits_with_2(shell: Shell, part: str) -> None:
    assert shell.run_forked("build").returncode == PUBLISHED
    locked = Path(shell.environment["DAGSTER_HOME"]) / part
    mode = locked.stat().st_mode
    locked.chmod(mode & ~0o222)
    # root can write anywhere unless it drops this capability
    mortal = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"] if os.getuid() == 0 else []
    try:
        told = shell.execute(*mortal, program("oam-mosaic"), "build", "--anew")
    finally:
        locked.chmod(mode)
    assert told.returncode == WRONG, told.stderr
    where = "" if part == "." else f": {locked}"
    home = shell.environment["DAGSTER_HOME"]
    assert f"DAGSTER_HOME, {home}, cannot be used: Permission denied{where}.\n" in told.stderr
    assert "What to do: Give this user write access there" in told.stderr
    assert "sqlite" not in told.stderr


def test_a_signal_that_an_import_makes_another_error_of_stops_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As numpy's import does."""

    def import_and_stop(_: object) -> int:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        raise ImportError("numpy failed to import")

    monkeypatch.setattr(cli, "_status", import_and_stop)
    assert cli.main(["status"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "oam-mosaic: stopped; whatever is public stays public and intact.\n"

    monkeypatch.setattr(os, "kill", lambda *_: None)
    with pytest.raises(ImportError):
        cli.main(["status"])

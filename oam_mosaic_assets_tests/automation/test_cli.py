"""The command `oam-mosaic`: its output, on a terminal and in a log, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.test_utils import create_run_for_test

from oam_mosaic_assets_tests.automation.forked import run_forked
from oam_mosaic_assets_tests.automation.live_dagster import environment_of, program
from oam_mosaic_assets_tests.chain import REPOSITORY, quick_folder, some_items, write_items
from oam_mosaic_assets_tests.gateways.catalogue.scripted_api import a_page, scripted_api

IMAGES = 30
PUBLISHED, PASSING, WRONG, REFUSED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Shell:
    """A maintainer's shell, in a folder with an installation and no `.env` file."""

    folder: Path
    environment: dict[str, str]

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def run(self, *arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run the command with its output in a pipe."""
        return self.execute(program("oam-mosaic"), *map(str, arguments), **settings)

    def run_forked(self, *arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run the command in a process that does not have to import Dagster."""
        environment = {**self.environment, **settings}
        return run_forked([*map(str, arguments)], environment=environment, folder=self.folder)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python code instead, which runs the command with an injected fault."""
        return self.execute(sys.executable, "-c", code)

    def execute(
        self, *command: str, timeout: float = 120, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run any program here."""
        return subprocess.run(
            command,
            env={**self.environment, **settings},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """One image cannot be drawn; the guard allows that unless a test sets a stricter limit."""
    with quick_folder() as folder:
        items = [*some_items(IMAGES - 1), {**some_items(1, first=IMAGES)[0], "geometry": None}]
        write_items(folder / "items.ndjson", items)
        settings = {"STAC_ITEMS": str(folder / "items.ndjson"), "MAX_SET_ASIDE_SHARE": "0.1"}
        yield Shell(folder, environment_of(folder, **settings))


@pytest.fixture(scope="module")
def built(shell: Shell) -> subprocess.CompletedProcess[str]:
    """The first build, into an empty store."""
    return shell.run("build")


def test_a_build_that_published_exits_with_0_and_says_what_and_where(
    shell: Shell, built: subprocess.CompletedProcess[str]
) -> None:
    assert built.returncode == PUBLISHED, built.stderr
    assert f"{IMAGES} images in the catalogue: {IMAGES - 1} drawn, 1 set aside" in built.stderr
    for name in ("global-mosaic.pmtiles", "global-mosaic.json"):
        assert (shell.store / name).as_uri() in built.stderr
    # with so few images every product is small: no size may be rounded to zero
    assert " kB\n" in built.stderr
    assert " 0.0 MB" not in built.stderr


def test_what_is_no_terminal_gets_plain_lines(built: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in built.stderr
    assert "\r" not in built.stderr
    lines = re.findall(r"^\d\d:\d\d:\d\dZ \[(\w+)( \S+)?\] .+$", built.stderr, re.MULTILINE)
    logged = {step for step, _ in lines}
    (named,) = {build.strip() for step, build in lines if step != "stac_footprints"}
    assert f"Published {named}: " in built.stderr, "each says of which build it speaks"
    assert re.search(r"tiling: .*OpenAerialMap global mosaic, z0-10$", built.stderr, re.MULTILINE)
    assert {"stac_footprints", "global_mosaic_pmtiles", "mosaic_audit", "published_mosaic"} <= logged
    assert built.stdout == "", "what a script reads is not mixed with the log"


@pytest.mark.usefixtures("built")
def test_a_terminal_gets_a_progress_display(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [program("oam-mosaic"), "build", "--anew"],
            env={**shell.environment, "TERM": "xterm-256color", "COLUMNS": "120"},
            cwd=shell.folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = read_all(ours)
        assert process.wait(timeout=60) == PUBLISHED, shown
    finally:
        os.close(ours)
    assert "\x1b[?25l" in shown, "the cursor is hidden while bars are drawn"
    assert "\x1b[?25h" in shown, "and comes back"
    for stage in ("tiling", "auditing", "publishing"):
        assert re.search(rf"✓.*{stage}.*━", shown), stage
    assert "[published_mosaic] publishing" not in shown, "what a bar says is not said again above it"
    assert "Published " in shown


def read_all(terminal: int) -> str:
    """Everything shown on a terminal until the other side closes it."""
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # how Linux reports the end of a terminal
            return shown.decode()
        if not piece:
            return shown.decode()
        shown += piece


@pytest.mark.usefixtures("built")
def test_a_build_that_a_guard_holds_back_exits_with_3_and_a_person_lets_it_pass(shell: Shell) -> None:
    held = shell.run_forked("build", MAX_SET_ASIDE_SHARE="0.01")
    assert held.returncode == REFUSED, held.stderr
    assert re.search(r"\[mosaic_audit \S+\] warning: few_images_are_set_aside", held.stderr)
    assert "held back until a person decides" in held.stderr
    assert "the audit failed" not in held.stderr
    assert "Dependencies for step" not in held.stderr
    advised = re.search(r"oam-mosaic (publish \S+ --confirm) REASON", held.stderr)
    assert advised is not None, held.stderr
    published = shell.run(
        *advised[1].split(), "one of thirty is known to be broken", MAX_SET_ASIDE_SHARE="0.01"
    )
    assert published.returncode == PUBLISHED, published.stderr
    assert advised[1].split()[1] in published.stderr
    stated = json.loads(shell.run("status", "--json").stdout)
    manifest = json.loads(Path(stated["manifest"].removeprefix("file://")).read_text())
    assert manifest["confirmed"] == "one of thirty is known to be broken"


@pytest.mark.usefixtures("built")
def test_a_build_publishes_though_a_run_that_seems_to_go_on_holds_the_slot_for_it(
    shell: Shell, tmp_path: Path
) -> None:
    """Such as one that was killed where the daemon cannot see it."""
    ours, production = (
        yaml.safe_load((folder / "dagster.yaml").read_text())
        for folder in (REPOSITORY, REPOSITORY / "deploy")
    )
    limited = {**ours, "concurrency": production["concurrency"]}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(limited))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        killed = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
        events = instance.event_log_storage
        events.initialize_concurrency_limit_to_default("publication")
        events.claim_concurrency_slot("publication", killed.run_id, "published_mosaic")
        done = shell.run_forked("build", "--anew", DAGSTER_HOME=str(tmp_path))
        (pool,) = events.get_pool_limits()
        holders = events.get_concurrency_info("publication").active_run_ids
    assert done.returncode == PUBLISHED, done.stderr
    assert (pool.name, pool.limit, pool.from_default) == ("publication", 1, True)
    assert holders == {killed.run_id}


@pytest.mark.usefixtures("built")
def test_a_build_whose_catalogue_does_not_answer_exits_with_1(shell: Shell) -> None:
    failed = shell.run_forked("build", STAC_ITEMS="", PGHOST="127.0.0.1", PGPORT="1")
    assert failed.returncode == PASSING, failed.stderr
    assert "Not published: PostgreSQL at 127.0.0.1:1/" in failed.stderr
    assert failed.stderr.count("Connection refused") == 1, "a failure is told once"
    assert failed.stderr.startswith(
        "Note  The public mosaic was built from a file of items, but the settings name a pgSTAC database: "
        "the next build replaces it.\n"
    )
    advice = "What to do: Check that the database is up and reachable, then run again."
    assert failed.stderr.endswith(f"{advice}\n\nKind: CatalogueUnavailable (see docs/operation.md)\n")
    assert "127.0.0.1:1" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.usefixtures("built")
def test_a_build_that_is_public_but_not_found_so_afterwards_says_both_and_exits_with_1(shell: Shell) -> None:
    code = """
import sys
from oam_mosaic_assets.cli import main
from oam_mosaic_assets.gateways.releases import Releases
Releases.differences = lambda *_: ["global-mosaic.pmtiles is gone"]
sys.exit(main(["build"]))
"""
    done = shell.python(code)
    assert done.returncode == PASSING, done.stderr
    assert f"{IMAGES} images in the catalogue: {IMAGES - 1} drawn, 1 set aside" in done.stderr
    assert "It is public, but the check of what the store now holds failed" in done.stderr
    assert "mosaic_is_fresh: global-mosaic.pmtiles is gone" in done.stderr
    assert "Not published" not in done.stderr


def test_a_fault_of_ours_is_named_with_its_cause(shell: Shell) -> None:
    code = """
import sys
from oam_mosaic_assets.cli import main
from oam_mosaic_assets.gateways.catalogue.items_file import ItemsFile
def fault(self):
    raise ZeroDivisionError("the map has no width")
ItemsFile.snapshot = fault
sys.exit(main(["build"]))
"""
    failed = shell.python(code)
    assert failed.returncode == PASSING, failed.stderr
    assert (
        "Not published: an error in stac_footprints: ZeroDivisionError: the map has no width" in failed.stderr
    )
    assert "Dependencies for step" not in failed.stderr


@pytest.mark.usefixtures("built")
def test_status_says_for_people_and_for_programs_what_is_public(shell: Shell) -> None:
    told = shell.run_forked("status")
    assert told.returncode == 0, told.stdout
    assert re.search(r"^fresh +yes$", told.stdout, re.MULTILINE)
    assert re.search(r"^read from +a file of items$", told.stdout, re.MULTILINE)
    assert re.search(r"^public since +20\d\d-\d\d-\d\d \d\d:\d\d UTC$", told.stdout, re.MULTILINE)
    stated = json.loads(shell.run_forked("status", "--json", "--catalogue").stdout)
    assert stated["fresh"] is True
    assert stated["read_from"] == "items_file"
    assert stated["images"] == IMAGES - 1
    assert stated["set_aside"] == 1
    assert (stated["catalogued"], stated["lacking"], stated["departed"]) == (IMAGES, 0, 0)
    assert stated["archive"] == (shell.store / "global-mosaic.pmtiles").as_uri()
    assert stated["bytes"] == (shell.store / "global-mosaic.pmtiles").stat().st_size
    assert stated["build"] in told.stdout


@pytest.mark.usefixtures("built")
def test_status_says_so_where_the_catalogue_does_not_tell_how_many_images_it_holds(shell: Shell) -> None:
    with scripted_api(a_page()) as api:
        told = shell.run_forked("status", "--json", "--catalogue", STAC_ITEMS="", STAC_API_URL=api.address)
    stated = json.loads(told.stdout)
    assert stated["fresh"] is True
    assert stated["catalogued"] is None
    assert "lacking" not in stated
    assert "the catalogue does not say how many it holds" in stated["text"]


@pytest.mark.usefixtures("built")
def test_status_says_that_the_next_build_would_replace_what_another_source_made(shell: Shell) -> None:
    assert json.loads(shell.run_forked("status", "--json").stdout)["remarks"] == []
    stated = json.loads(shell.run_forked("status", "--json", "--catalogue", STAC_ITEMS="").stdout)
    assert not {"lacking", "departed", "catalogued"} & stated.keys()
    remark, not_compared = stated["remarks"]
    assert not_compared == "--catalogue: not compared, as the public mosaic shows another source."
    assert remark == (
        "The public mosaic was built from a file of items, but the settings name the made-up sample: "
        "the next build replaces it, however few images it has then."
    )
    (found,) = [
        each
        for each in json.loads(shell.run_forked("doctor", "--json", STAC_ITEMS="").stdout)["findings"]
        if each["subject"] == "source"
    ]
    assert (found["state"], found["text"]) == ("warning", remark)


@pytest.mark.usefixtures("built")
def test_status_exits_with_1_where_the_mosaic_is_stale(shell: Shell) -> None:
    pointer = shell.store / "mosaic" / "latest.json"
    content = pointer.read_text()
    pointer.write_text(re.sub('"checked_at": "[^"]+"', '"checked_at": "2026-01-01T00:00:00+00:00"', content))
    try:
        stale = shell.run_forked("status", "--json")
    finally:
        pointer.write_text(content)
    assert stale.returncode == 1
    assert json.loads(stale.stdout)["fresh"] is False


def test_status_exits_with_1_where_nothing_is_public(shell: Shell) -> None:
    empty = shell.run_forked("status", MOSAIC_STORE=str(shell.folder / "nothing"))
    assert empty.returncode == 1
    assert "nothing has been published here yet" in empty.stdout


def test_a_reader_that_stops_early_does_not_hide_that_the_mosaic_is_missing(shell: Shell) -> None:
    line = f"{program('oam-mosaic')} status | true"
    told = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env={**shell.environment, "MOSAIC_STORE": str(shell.folder / "nothing")},
        cwd=shell.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.returncode, told.stderr) == (1, "")


@pytest.mark.usefixtures("built")
def test_validate_tells_what_a_good_archive_holds(shell: Shell) -> None:
    told = shell.run_forked("validate", shell.store / "global-mosaic.pmtiles", "--json")
    assert told.returncode == 0
    stated = json.loads(told.stdout)
    assert stated["whole"] is True
    assert stated["images_by_zoom"]["10"] == IMAGES - 1
    assert sum(stated["tiles_by_zoom"].values()) == stated["tiles"]
    assert stated["images_by_zoom"]["0"] < IMAGES - 1
    assert stated["low_zooms"] == "count small images instead of drawing each"
    assert stated["faults"] == []


@pytest.mark.usefixtures("built")
def test_validate_exits_with_3_where_a_tile_is_broken(shell: Shell) -> None:
    content = bytearray((shell.store / "global-mosaic.pmtiles").read_bytes())
    content[-40:] = bytes(40)  # tiles come last in the file
    broken = shell.folder / "broken.pmtiles"
    broken.write_bytes(content)
    told = shell.run_forked("validate", broken)
    assert told.returncode == REFUSED, told.stdout
    assert re.search(r"^whole +no$", told.stdout, re.MULTILINE)
    assert re.search(r"^faults +.*\d+/\d+/\d+", told.stdout, re.MULTILINE)


@pytest.mark.usefixtures("built")
def test_validate_exits_with_3_where_the_file_is_cut_short(shell: Shell) -> None:
    content = (shell.store / "global-mosaic.pmtiles").read_bytes()
    (shell.folder / "cut.pmtiles").write_bytes(content[: len(content) // 2])
    told = shell.run_forked("validate", "cut.pmtiles")
    assert told.returncode == REFUSED
    lines = ["whole   no", "faults  its tile data ends beyond the file: it is cut short"]
    assert (told.stdout.splitlines(), told.stderr) == (lines, "")


def test_validate_exits_with_2_where_there_is_no_archive(shell: Shell) -> None:
    (shell.folder / "text.pmtiles").write_bytes(b"no tiles")
    for name in ("text.pmtiles", "missing.pmtiles"):
        told = shell.run_forked("validate", name)
        assert told.returncode == WRONG, name
        assert f"{name} cannot be read" in told.stderr
        assert "Traceback" not in told.stderr


def test_validate_says_that_it_reads_no_address(shell: Shell) -> None:
    told = shell.run_forked("validate", "https://example.org/x.pmtiles")
    assert told.returncode == WRONG
    assert "'https://example.org/x.pmtiles' is an address; only local files are read" in told.stderr


HEAVY = {"dagster", "sqlalchemy", "grpc", "boto3", "botocore", "psycopg", "rasterio", "requests"}
"""What takes long to load, and a command without a build, a bucket or a database does without."""


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["status"], ["sample", "--images", "100"], ["validate", "store/global-mosaic.pmtiles"]],
    ids=lambda arguments: arguments[0],
)
def test_light_commands_start_fast_for_they_load_nothing_heavy(shell: Shell, arguments: list[str]) -> None:
    code = f"""
import sys
from oam_mosaic_assets.cli import main
try:
    main({arguments!r})
finally:
    loaded = {{name.partition(".")[0] for name in sys.modules}}
    assert loaded.isdisjoint({HEAVY!r}), loaded & {HEAVY!r}
"""
    done = shell.python(code)
    assert done.returncode == 0, done.stderr

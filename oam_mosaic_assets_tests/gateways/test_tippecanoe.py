"""Tippecanoe as a child process: found or not, watched, explained, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed, TippecanoeMissing
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe, find_tippecanoe


def a_long_run(folder: Path) -> list[str]:
    """Arguments of a run that takes minutes: an outline with hundreds of thousands of tiles."""
    ring = [[0, 0], [8, 0], [8, 8], [0, 8], [0, 0]]
    feature = {
        "type": "Feature",
        "properties": {"id": "large"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    source = folder / "large.geojsonl"
    source.write_text(json.dumps(feature) + "\n")
    all_by_tippecanoe = TilingPlan(exact=16)
    return all_by_tippecanoe.arguments(
        source=str(source), target=str(folder / "large.pmtiles"), temporary=str(folder)
    )


def at_work_in(folder: Path) -> list[psutil.Process]:
    """The tippecanoe processes that are working in a folder."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        command = process.info["cmdline"] or []
        if command and "tippecanoe" in Path(command[0]).name and any(str(folder) in each for each in command):
            found.append(process)
    return found


def gone(folder: Path, seconds: float = 10.0) -> bool:
    """Whether nothing works in the folder any more; waits for that for up to `seconds`."""
    deadline = time.monotonic() + seconds
    while at_work_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not at_work_in(folder)


class Stopped(BaseException):
    """What a cancellation raises: not an `Exception`, just like Dagster's own."""


def test_the_packaged_program_says_its_version() -> None:
    assert Tippecanoe().version().startswith("v2.")


@pytest.mark.parametrize("program", ["/nonexistent/tippecanoe", "/bin/true", "/etc/passwd"])
def test_what_is_no_tippecanoe_is_missing(program: str) -> None:
    with pytest.raises(TippecanoeMissing) as caught:
        Tippecanoe(Path(program)).version()
    assert program in caught.value.message
    assert "TIPPECANOE" in caught.value.hint


def test_a_failure_quotes_its_last_words(tmp_path: Path) -> None:
    source = tmp_path / "broken.geojsonl"
    source.write_text("no json\n")
    arguments = TilingPlan().arguments(
        source=str(source), target=str(tmp_path / "x.pmtiles"), temporary=str(tmp_path)
    )
    with pytest.raises(TilingFailed, match="exit code") as caught:
        Tippecanoe().run([arguments])
    assert "broken.geojsonl" in caught.value.message


def test_a_kill_is_named_by_its_signal(tmp_path: Path) -> None:
    def kill(_: float) -> None:
        for process in at_work_in(tmp_path):
            process.kill()

    with pytest.raises(TilingFailed, match="SIGKILL") as caught:
        Tippecanoe().run([a_long_run(tmp_path)], on_progress=kill)
    assert "memory" in caught.value.hint


def test_progress_is_a_share_that_does_not_fall(tmp_path: Path) -> None:
    shares: list[float] = []

    def note(share: float) -> None:
        shares.append(share)
        if len(shares) == 4:
            raise Stopped

    with pytest.raises(Stopped):
        Tippecanoe().run([a_long_run(tmp_path)], on_progress=note)
    assert shares == sorted(shares)
    assert all(0.0 <= share <= 1.0 for share in shares)


def test_a_cancellation_ends_the_program(tmp_path: Path) -> None:
    def cancel(_: float) -> None:
        assert at_work_in(tmp_path)
        raise Stopped

    with pytest.raises(Stopped):
        Tippecanoe().run([a_long_run(tmp_path)], on_progress=cancel)
    assert gone(tmp_path)


def test_a_parent_that_is_killed_outright_takes_the_program_with_it(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe\n"
        "Tippecanoe().run([sys.argv[1:]], on_progress=lambda _: print('at work', flush=True))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, *a_long_run(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at work\n"
        assert at_work_in(tmp_path)
        os.kill(parent.pid, signal.SIGKILL)
    assert gone(tmp_path)


def test_the_packaged_program_is_preferred() -> None:
    assert "site-packages" in str(find_tippecanoe())


def several(folder: Path, count: int) -> list[list[str]]:
    """Arguments of `count` long runs, each in its own folder."""
    folders = [folder / str(number) for number in range(count)]
    for each in folders:
        each.mkdir()
    return [a_long_run(each) for each in folders]


def test_no_more_run_at_once_than_may(tmp_path: Path) -> None:
    seen = set()

    def note(share: float) -> None:
        seen.add(len(at_work_in(tmp_path)))
        if share > 0.001:
            raise Stopped

    with pytest.raises(Stopped):
        Tippecanoe().run(several(tmp_path, 3), at_once=2, on_progress=note)
    assert max(seen) == 2
    assert gone(tmp_path)


def test_it_starts_no_more_threads_than_it_may_use_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tippecanoe"
    program.write_text(f'#!/bin/sh\necho "$TIPPECANOE_MAX_THREADS" >> {tmp_path}/threads\n')
    program.chmod(0o755)
    monkeypatch.setattr("oam_mosaic_assets.gateways.tippecanoe.processors", lambda: 3)

    Tippecanoe(program).run([[]])
    monkeypatch.setenv("TIPPECANOE_MAX_THREADS", "8")  # an explicit setting wins
    Tippecanoe(program).run([[]])

    assert (tmp_path / "threads").read_text().split() == ["3", "8"]


def test_one_that_fails_ends_the_others(tmp_path: Path) -> None:
    long, short = several(tmp_path, 2)
    (tmp_path / "1" / "large.geojsonl").write_text("no json\n")
    with pytest.raises(TilingFailed, match="exit code"):
        Tippecanoe().run([long, short], at_once=2)
    assert gone(tmp_path)


def test_each_is_run_and_the_progress_is_that_of_all(tmp_path: Path) -> None:
    calls = []
    for number in range(3):
        source = tmp_path / f"{number}.geojsonl"
        ring = [[number, 0], [number + 1, 0], [number + 1, 1], [number, 0]]
        area = {"type": "Polygon", "coordinates": [ring]}
        source.write_text(json.dumps({"type": "Feature", "properties": {"id": "x"}, "geometry": area}))
        made = tmp_path / f"{number}.mbtiles"
        calls.append(
            TilingPlan(zoom_max=9).arguments(source=str(source), target=str(made), temporary=str(tmp_path))
        )
    shares: list[float] = []
    Tippecanoe().run(calls, at_once=2, on_progress=shares.append)
    assert all((tmp_path / f"{number}.mbtiles").stat().st_size for number in range(3))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

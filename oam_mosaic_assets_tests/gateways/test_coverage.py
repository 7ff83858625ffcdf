"""A coverage archive made by several processes, or from an earlier one: the same bytes; how it fails."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
import shapely

from oam_mosaic_assets.core import blocks, splice
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.coverage_tiles import blocks_spooled
from oam_mosaic_assets.core.footprint import Footprint, read_item
from oam_mosaic_assets.errors import DiskFull, TilingFailed
from oam_mosaic_assets.gateways import coverage
from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue
from oam_mosaic_assets.gateways.children import Program
from oam_mosaic_assets.gateways.coverage import Shown, make_coverage
from oam_mosaic_assets.gateways.coverage_shares import program_of
from oam_mosaic_assets_tests.campaign.injection import a_control_group
from oam_mosaic_assets_tests.core.pictures import bits_of, covered
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, PLAIN, footprint, snapshot_of
from oam_mosaic_assets_tests.disks import a_small_disk, fill

EXACT = CoveragePlan(way="exact", zoom_max=10)

MORE = footprint("one more", 11.25, 10.15, 11.45, 10.35, acquired_to=NOW)
MOVED = replace(PLAIN[3], geometry=footprint("x", 30.004, -19.996, 30.404, -19.696).geometry)
LATER = replace(PLAIN[2], acquired_to=NOW + timedelta(days=1))


def strewn(count: int) -> list[Footprint]:
    """Images scattered over the world, each in its own block."""
    chance = np.random.default_rng(7)
    west, south = chance.uniform(-170, 170, count), chance.uniform(-70, 70, count)
    return [
        footprint(f"{number}", x, y, x + 0.5, y + 0.4)
        for number, (x, y) in enumerate(zip(west.tolist(), south.tolist(), strict=True))
    ]


MANY = strewn(160)


def ragged(corners: int) -> Footprint:
    """An image with this many vertices along its edge, spanning over a hundred z10 blocks."""
    turn = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False)
    away = 2.0 + 0.01 * np.sin(turn * 97)
    ring = np.column_stack([11.0 + away * np.cos(turn), 10.0 + away * np.sin(turn)])
    return Footprint(id="ragged", geometry=shapely.Polygon(ring), acquired_to=NOW)


@pytest.mark.parametrize(
    "after",
    [
        IMAGES,
        (*IMAGES, MORE),
        IMAGES[1:],
        (*IMAGES[:3], MOVED, *IMAGES[4:]),
        (*IMAGES[:2], LATER, *IMAGES[3:]),
        IMAGES[-3:],
        (MORE,),
    ],
    ids=["nothing", "one more", "one less", "one moved", "another order", "nearly all gone", "all others"],
)
@pytest.mark.parametrize("zooms", [(0, 10), (7, 10)])
def test_what_is_taken_over_and_what_is_drawn_give_the_bytes_of_a_build_from_nothing(
    tmp_path: Path, after: Sequence[Footprint], zooms: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "LARGEST_SHARE", 100.0)  # however much changes
    plan = CoveragePlan(way="exact", zoom_min=zooms[0], zoom_max=zooms[1])
    before = covered(IMAGES, tmp_path / "before", plan)
    anew = covered(after, tmp_path / "anew", plan)
    spliced = covered(after, tmp_path / "spliced", plan, before=before.before)

    assert spliced.archive.read_bytes() == anew.archive.read_bytes()
    assert spliced.made.tiles_made + spliced.made.tiles_reused == anew.made.tiles_made
    assert spliced.made.why_anew == ""


def test_if_most_changed_all_is_drawn_anew(tmp_path: Path) -> None:
    before = covered(IMAGES, tmp_path / "before", EXACT)
    after = covered(PLAIN[:2], tmp_path / "after", EXACT, before=before.before)
    assert "images are new, gone or changed; 2 are drawn" in after.made.why_anew
    assert (after.made.tiles_reused, after.made.images_changed) == (0, None)


def test_outlines_that_are_cut_level_by_level_are_drawn_as_those_that_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = CoveragePlan(way="exact", zoom_max=13)
    images = [ragged(3000), *IMAGES]
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "LARGE", 10**6)
        whole = covered(images, tmp_path / "whole", plan)
    cut = covered(images, tmp_path / "cut", plan)
    tiles, same = bits_of(whole.archive), bits_of(cut.archive)
    assert tiles.keys() == same.keys()
    assert sum(int((tiles[each] != same[each]).sum()) for each in tiles) <= 2

    spliced = covered([*images, MORE], tmp_path / "spliced", plan, before=cut.before)
    assert spliced.archive.read_bytes() == covered([*images, MORE], tmp_path / "a", plan).archive.read_bytes()
    assert 0 < spliced.made.tiles_made < spliced.made.tiles_reused


def test_the_corners_of_a_large_outline_are_not_sorted_into_each_block_again(tmp_path: Path) -> None:
    snapshot_of([ragged(20_000)], tmp_path / "it")
    reached = blocks.write_blocks(tmp_path / "it/footprints.parquet", 10, tmp_path)
    with blocks.open_blocks(tmp_path) as opened:
        corners = [shapely.get_num_coordinates(opened.parts_of(n)).sum() for n in range(len(reached))]
    assert len(reached) > 50
    assert sum(corners) < 2 * 20_000


def test_few_tiles_are_drawn_where_little_changed(tmp_path: Path) -> None:
    before = covered(MANY, tmp_path / "before", EXACT)
    after = covered([*MANY, MORE], tmp_path / "after", EXACT, before=before.before)

    assert after.made.tiles_made < 30
    assert after.made.tiles_reused > 1000


def test_several_processes_draw_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def counted(*given: Any) -> Program:
        started.append(given)
        return program_of(*given)

    monkeypatch.setattr(coverage, "program_of", counted)
    one = covered(MANY, tmp_path / "one", EXACT, processes=1)
    shares: list[float] = []
    three = covered(MANY, tmp_path / "three", EXACT, processes=3, on_progress=shares.append)

    assert three.archive.read_bytes() == one.archive.read_bytes()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 20
    assert len(started) == 3


def test_as_many_processes_as_there_are_processors_need_no_higher_limit_on_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "WORTH_A_PROCESS", 1)
    one = covered(MANY[:16], tmp_path / "one", EXACT, processes=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        eight = covered(MANY[:16], tmp_path / "eight", EXACT, processes=8)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert eight.archive.read_bytes() == one.archive.read_bytes()


def test_a_footprint_that_geos_cannot_join_is_drawn_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = covered(IMAGES, tmp_path / "whole", EXACT)

    def fails(*_: object) -> None:
        raise shapely.errors.GEOSException("TopologyException: side location conflict")

    monkeypatch.setattr(shapely, "disjoint_subset_union_all", fails)
    others = covered(IMAGES, tmp_path / "others", EXACT)
    tiles, same = bits_of(whole.archive), bits_of(others.archive)
    assert tiles.keys() == same.keys()
    assert all((tiles[each] == same[each]).all() for each in tiles)


@pytest.mark.parametrize("way", ["exact", "whole"])
@pytest.mark.parametrize(
    "ring",
    [
        [(11.0, 10.0), (11.4, 10.0), (11.4, 10.4), (11.2, 10.4), (11.2, 9.8), (11.0, 9.8)],
        [(11.0, 10.0), (11.4, 10.0), (11.4, 10.4), (11.2, 10.4), (11.2, 10.9), (11.2, 10.4), (11.0, 10.4)],
        [(11.0, 10.0), (11.4, 10.0), (11.8, 10.0), (11.0, 10.0)],
    ],
    ids=["crosses itself", "has a spike", "has no area"],
)
def test_a_footprint_that_is_not_valid_costs_no_other_its_place(
    tmp_path: Path, way: Literal["exact", "whole"], ring: list[tuple[float, float]]
) -> None:
    plan = CoveragePlan(way=way, zoom_max=10)
    broken = Footprint(id="broken", geometry=shapely.Polygon(ring), acquired_to=NOW)
    assert not broken.geometry.is_valid
    mended = shapely.make_valid(broken.geometry, method="structure", keep_collapsed=False)
    halves = [
        Footprint(id=f"part {number}", geometry=part, acquired_to=NOW)
        for number, part in enumerate(shapely.get_parts(mended))
    ]
    expected = bits_of(covered([*MANY[:20], *halves, *MANY[20:40]], tmp_path / "mended", plan).archive)
    found = bits_of(covered([*MANY[:20], broken, *MANY[20:40]], tmp_path / "broken", plan).archive)

    assert found.keys() == expected.keys()
    assert all((found[each] == expected[each]).all() for each in found)


class Stopped(BaseException):
    """What a cancellation raises: not an `Exception`, just like Dagster's own."""


def at_work_in(folder: Path) -> list[psutil.Process]:
    """The processes that are drawing in a folder."""
    return [
        each
        for each in psutil.process_iter(["cmdline"])
        if any(word.startswith(f"{folder}/") for word in each.info["cmdline"] or [])
    ]


def gone(folder: Path) -> bool:
    """Whether nothing draws in the folder any more; waits for that for up to 30 s."""
    deadline = time.monotonic() + 30
    while at_work_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not at_work_in(folder)


def test_a_process_that_is_killed_is_named_and_the_others_end(tmp_path: Path) -> None:
    def kill(_: float) -> None:
        working = at_work_in(tmp_path / "it")
        if len(working) == 2:
            working[0].kill()

    plan = CoveragePlan(way="exact", zoom_max=13)
    with pytest.raises(TilingFailed, match="draws coverage was killed by signal SIGKILL") as caught:
        covered(strewn(400), tmp_path / "it", plan, processes=2, on_progress=kill)
    assert "memory" in caught.value.hint
    assert gone(tmp_path / "it")


def test_a_cancellation_ends_the_processes(tmp_path: Path) -> None:
    def cancel(_: float) -> None:
        assert at_work_in(tmp_path / "it")
        raise Stopped

    with pytest.raises(Stopped):
        covered(MANY, tmp_path / "it", EXACT, processes=2, on_progress=cancel)
    assert gone(tmp_path / "it")


def test_a_parent_that_is_killed_outright_takes_the_processes_with_it(tmp_path: Path) -> None:
    snapshot = snapshot_of(strewn(400), tmp_path / "it")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from oam_mosaic_assets.core.coverage import CoveragePlan\n"
        "from oam_mosaic_assets.gateways.coverage import Shown, make_coverage\n"
        "folder = Path(sys.argv[1])\n"
        "make_coverage(CoveragePlan(way='exact'), Shown(folder / 'footprints.parquet', '', (0, 0, 1, 1)),\n"
        "    folder / 'a', before='', processes=2, on_progress=lambda _: print('at work', flush=True))"
    )
    assert snapshot.drawable == 400
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "it")], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at work\n"
        assert at_work_in(tmp_path / "it")
        os.kill(parent.pid, signal.SIGKILL)
    assert gone(tmp_path / "it")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_told(processes: int) -> None:
    with a_small_disk() as disk:
        snapshot_of(MANY, disk / "it")
        fill(disk, 60)
        shown = Shown(disk / "it/footprints.parquet", "", (0.0, 0.0, 1.0, 1.0))
        with pytest.raises((DiskFull, OSError), match="No space left") as caught:
            make_coverage(EXACT, shown, disk / "it/a", before="", processes=processes)
        assert processes == 1 or isinstance(caught.value, DiskFull)
        del caught
        gc.collect()  # its traceback keeps files on the disk open


def test_a_process_that_gets_too_little_memory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(*given: Any) -> Program:
        program = program_of(*given)
        return replace(program, command=["prlimit", f"--as={100 * 2**20}", *program.command])

    monkeypatch.setattr(coverage, "program_of", limited)
    with pytest.raises(TilingFailed, match=r"A process that draws coverage (failed|was killed)") as caught:
        covered(MANY, tmp_path / "it", EXACT, processes=2)
    assert "memory" in caught.value.message.lower()
    assert gone(tmp_path / "it")


def test_drawing_four_times_as_many_blocks_takes_hardly_more_memory(tmp_path: Path) -> None:
    """Tiles are written to files as they are drawn, and so are their positions."""
    plan = CoveragePlan(way="exact", zoom_max=13)

    def peak(count: int) -> int:
        folder = tmp_path / f"{count}"
        west = np.linspace(-170.0, 170.0, count).tolist()
        snapshot_of([footprint(f"{x}", x, 0.1, x + 0.3, 0.4) for x in west], folder)
        reached = blocks.write_blocks(folder / "footprints.parquet", plan.block_zoom, folder)
        with blocks.open_blocks(folder) as opened, ExitStack() as held:
            which = range(len(reached))
            tracemalloc.start()
            try:
                blocks_spooled(
                    opened, which, plan, lambda name: held.enter_context((folder / name).open("x+b"))
                )
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert peak(160) < 1.5 * peak(40)


def test_the_processes_stay_small(tmp_path: Path) -> None:
    peak = 0

    def look(_: float) -> None:
        nonlocal peak
        for each in at_work_in(tmp_path / "it"):
            peak = max(peak, each.memory_info().rss)

    plan = CoveragePlan(way="exact", zoom_max=12)
    covered(strewn(300), tmp_path / "it", plan, processes=2, on_progress=look)
    assert 0 < peak < 160 * 2**20


BOTH = """
import sys
from pathlib import Path
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.gateways.children import Program
from oam_mosaic_assets.gateways.coverage import Shown, make_coverage
folder = Path(sys.argv[1])
for way in ("exact", "whole"):
    make_coverage(CoveragePlan(way=way, zoom_max=13), Shown(folder / "footprints.parquet", "", (0, 0, 1, 1)),
        folder / way, before="", processes=2)
    for left in folder.glob("*.npy"):
        left.unlink()
    (folder / "parts.wkb").unlink(missing_ok=True)
"""
"""Makes both archives of the footprints in a folder."""


@pytest.mark.parametrize(("mib", "is_enough"), [(1024, True), (64, False)])
def test_a_gibibyte_is_enough_for_both_with_all_their_processes(
    tmp_path: Path, *, mib: int, is_enough: bool
) -> None:
    """The limit is effective: with a sixteenth of it, the kernel kills the run."""
    with SampleCatalogue(2_000).snapshot() as snapshot:
        rows = [each for each in snapshot.items() if isinstance(each, dict)]
    read = (read_item(each, row=row, now=NOW + timedelta(days=3650)) for row, each in enumerate(rows, 1))
    snapshot_of([each for each in read if isinstance(each, Footprint)], tmp_path / "it")
    with a_control_group(mib) as group:
        join = f"echo $$ >'{group}/cgroup.procs' && exec \"$@\""
        program = [sys.executable, "-c", BOTH, str(tmp_path / "it")]
        ended = subprocess.run(["sh", "-c", join, "sh", *program], check=False, capture_output=True)
    assert (ended.returncode == 0) == is_enough, ended.stderr.decode()
    for way in ("exact", "whole"):
        assert (tmp_path / "it" / way).exists() == is_enough

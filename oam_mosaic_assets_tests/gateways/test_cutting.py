"""The process that cuts tiles: it draws what this process would, and its failures are reported."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import shapely

from oam_mosaic_assets.core.deep_zooms import deep_zoom_tiles
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.fragment import Fragment, spooled
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import DiskFull, TilingFailed
from oam_mosaic_assets.gateways.children import Program, run_together
from oam_mosaic_assets.gateways.deep_zooms import in_shares
from oam_mosaic_assets_tests.core.scene import IMAGES, made_from
from oam_mosaic_assets_tests.disks import a_small_disk, fill

DEEP = TilingPlan(zoom_max=12, exact=10, layer="a layer of 'another' \"name\"")

DETAILS = replace(details_plan(11), exact=10)


def program(lines: Path, target: Path, plan: TilingPlan = DEEP) -> Program:
    (only,) = in_shares(plan, lines, Stretches.of_zooms(plan.whole_from, plan.zoom_max), [target])
    return only


def a_large_image(folder: Path) -> Path:
    lines = folder / "large.geojsonl"
    shape = shapely.to_geojson(shapely.box(0.0, 0.0, 20.0, 20.0))
    lines.write_text(f'{{"type":"Feature","properties":{{"id":"large"}},"geometry":{shape}}}\n')
    return lines


@pytest.mark.parametrize("plan", [DEEP, DETAILS])
def test_it_draws_what_this_process_would(tmp_path: Path, plan: TilingPlan) -> None:
    lines = made_from(IMAGES, tmp_path / "scene", plan=plan).geojson
    target, same = tmp_path / "worker.tiles", tmp_path / "same.tiles"
    shares: list[float] = []
    run_together([program(lines, target, plan)], at_once=1, on_progress=shares.append)
    wanted = Stretches.of_zooms(plan.whole_from, plan.zoom_max)
    with same.open("xb") as spool:
        entries = spooled(deep_zoom_tiles(lines, plan, wanted), spool).entries
    made = Fragment.left_at(target)
    assert target.read_bytes() == same.read_bytes()
    assert made.entries.tile_id.tolist() == entries.tile_id.tolist()
    assert made.entries.offset.tolist() == entries.offset.tolist()
    assert made.entries.length.tolist() == entries.length.tolist()
    assert shares[-1] == 1.0


def test_of_nothing_it_leaves_an_empty_fragment(tmp_path: Path) -> None:
    lines, target = tmp_path / "lines.geojsonl", tmp_path / "worker.tiles"
    lines.touch()
    run_together([program(lines, target)], at_once=1, on_progress=lambda _: None)
    assert len(Fragment.left_at(target).entries) == 0


def test_one_that_is_killed_is_named(tmp_path: Path) -> None:
    shares: list[float] = []

    def kill(share: float) -> None:
        shares.append(share)
        for child in psutil.Process().children():
            with suppress(psutil.ZombieProcess):  # already killed; this reports its last progress
                if str(tmp_path) in " ".join(child.cmdline()):
                    child.kill()

    cutter = program(a_large_image(tmp_path), tmp_path / "worker.tiles", replace(DEEP, zoom_max=13))
    with pytest.raises(
        TilingFailed, match="A process that cuts tiles was killed by signal SIGKILL"
    ) as caught:
        run_together([cutter], at_once=1, on_progress=kill)
    assert shares[0] < 1.0
    assert "memory" in caught.value.hint


def test_one_that_fails_quotes_its_last_words(tmp_path: Path) -> None:
    lines = tmp_path / "lines.geojsonl"
    lines.write_text("no json\n")
    with pytest.raises(TilingFailed, match="A process that cuts tiles failed with exit code 1") as caught:
        run_together([program(lines, tmp_path / "t")], at_once=1, on_progress=lambda _: None)
    assert "parse error" in caught.value.message


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    lines = a_large_image(tmp_path)
    with a_small_disk() as disk:
        cutter = program(lines, disk / "worker.tiles")
        fill(disk, 8)
        with pytest.raises(DiskFull, match=r"A process that cuts tiles ran out of disk space: .+") as caught:
            run_together([cutter], at_once=1, on_progress=lambda _: None)
    assert "\n" not in caught.value.message, "one sentence, no traceback"

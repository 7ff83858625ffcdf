"""The map in parts: every tile is in exactly one, and every image in all those that it reaches."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely

from oam_mosaic_assets.core.changes import reached_tiles
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.parts import parts_of
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAN, Scene, footprint, snapshot_of


@pytest.mark.parametrize("count", [1, 2, 5, 1000])
def test_every_tile_is_in_one_part(scene: Scene, count: int) -> None:
    parts = parts_of(scene.footprints, PLAN, count)
    stretches = sorted(
        (begin, end)
        for part in parts
        for begin, end in zip(part.tiles.begin.tolist(), part.tiles.end.tolist(), strict=True)
    )
    assert len(parts) <= count
    assert stretches[0][0] == first_tile_id(PLAN.whole_from)
    assert stretches[-1][1] == first_tile_id(PLAN.zoom_max + 1)
    assert all(before[1] == after[0] for before, after in pairwise(stretches))


def test_an_image_is_in_every_part_whose_tiles_it_reaches(scene: Scene) -> None:
    tables = read_batches(scene.footprints, ("geometry",))
    areas = np.concatenate([shapely.from_wkb(each["geometry"].to_numpy()) for each in tables])
    reached = [reached_tiles(areas[[each]], PLAN) for each in range(len(areas))]
    for part in parts_of(scene.footprints, PLAN, 7):
        needed = [len(part.tiles.common(tiles)) > 0 for tiles in reached]
        assert part.images[needed].all()
    assert sum(part.images.any() for part in parts_of(scene.footprints, PLAN, 7)) > 3


def test_the_largest_comes_first_and_none_is_most_of_the_work(tmp_path: Path) -> None:
    places = [(number * 3.1 - 170.0, number % 50) for number in range(100)]
    rows = [footprint(f"{west}", west, south, west + 1, south + 1) for west, south in places]
    snapshot_of([*IMAGES, *rows], tmp_path / "s")
    weights = [part.weight for part in parts_of(tmp_path / "s" / "footprints.parquet", PLAN, 4)]
    assert weights == sorted(weights, reverse=True)
    assert len(weights) == 4
    assert weights[0] < 1.5 * sum(weights) / 4

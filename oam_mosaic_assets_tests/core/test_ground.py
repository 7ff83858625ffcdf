"""The ground that images cover is measured correctly, even where outlines all but touch tiles or cells."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely

from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.ground import (
    SHEETS,
    Ground,
    Sheet,
    areas_km2,
    cells_km2,
    covered_km2,
    shares_below,
)

ALL_BUT_TOUCHING = {
    "a corner in a tile's corner": [
        (32.880308267692584, -1.5e-323),
        (39.375, 4.859546574344183),
        (33.749999999999986, 5.329722363310584),
    ],
    "corners on an edge and in a corner": [
        (-22.902389677867536, -5.615985819155336),
        (-12.466895237308945, 0.0771123059175682),
        (-14.135026900594506, 0.8916136432778767),
        (-22.500000000000004, -1.669833727331211),
        (-17.734711311482556, -2.7444240165779643),
    ],
    "two corners on an edge": [
        (-68.53101526573957, -21.943045533438184),
        (-67.49999999999996, -13.701389790634904),
        (-58.47244018098467, -18.546777179066204),
        (-61.07992780303306, -16.928297515538677),
        (-67.5, -13.160148409981574),
    ],
    "a side along an edge": [
        (-28.125000000000004, 9.971280962544588),
        (-27.46591230700252, 5.615985819155333),
        (-28.125000000000007, 12.596889752114219),
    ],
}
"""Rings in EPSG:4326 that `clip_by_rect` cuts wrong at z6 tiles: it raises, or returns up to a whole tile."""

ALL_BUT_TOUCHING_CELLS = {
    "a side along an edge": [
        (38.345508276962136, 46.07323062540836),
        (39.680632243119064, 46.07323062540834),
        (40.20505200923368, 47.19138427775388),
        (36.65541403997487, 45.08903556483099),
    ],
    "an edge through a corner": [
        (0.0, -3.823483521712929),
        (-0.6208094196456999, 2.353525279770392),
        (-1.2308678968620317, -2.8113711933311296),
        (-5.386452437634066, -1.6232249052989154),
    ],
}
"""The same at the cells of zooms 7 and 8."""

WITH_LONG_SIDES = {
    "from corner to corner of a tile": [(16.925, 21.993), (19.9875, 24.201), (22.45, 27.009)],
    "a sliver almost five degrees long": [(17.0, 22.0), (17.26, 24.3), (17.5, 26.95)],
}
"""Rings in EPSG:4326 within one z6 tile, along whose sides the authalic latitude is far from linear."""


def sheets_of(outline: shapely.Polygon, folder: Path) -> list[Sheet]:
    with Ground(folder / "ground.sqlite") as ground:
        ground.add(np.array([outline], dtype=object), np.ones(SHEETS, np.bool_))
        return [sheet for some in ground.sheets() for sheet in some]


def area_of(outline: shapely.Polygon) -> float:
    (area,) = areas_km2(np.array([outline], dtype=object)).tolist()
    return float(area)


@pytest.mark.parametrize("ring", ALL_BUT_TOUCHING.values(), ids=ALL_BUT_TOUCHING)
def test_what_all_but_touches_a_tile_covers_as_much_as_it_is_large(
    ring: list[tuple[float, float]], tmp_path: Path
) -> None:
    outline = shapely.Polygon(ring)
    covered = covered_km2(sheets_of(outline, tmp_path))
    assert sum(covered.values()) == pytest.approx(area_of(outline), rel=1e-4)


@pytest.mark.parametrize("ring", WITH_LONG_SIDES.values(), ids=WITH_LONG_SIDES)
def test_long_sides_cost_no_accuracy(ring: list[tuple[float, float]], tmp_path: Path) -> None:
    outline = shapely.Polygon(ring)
    true = pytest.approx(area_of(shapely.segmentize(outline, 0.1)), rel=0.0, abs=5e-4)
    assert area_of(outline) == true
    assert sum(covered_km2(sheets_of(outline, tmp_path)).values()) == true


@pytest.mark.parametrize("ring", ALL_BUT_TOUCHING_CELLS.values(), ids=ALL_BUT_TOUCHING_CELLS)
def test_what_all_but_touches_a_cell_covers_as_much_of_all_cells_of_a_zoom(
    ring: list[tuple[float, float]], tmp_path: Path
) -> None:
    outline, covered = shapely.Polygon(ring), Counter[int]()
    for sheet in sheets_of(outline, tmp_path):
        for zoom, cells, shares in shares_below([sheet], lambda _, first, last: np.arange(first, last), 8):
            covered[zoom] += float(shares @ cells_km2(cells, zoom))
    assert covered == pytest.approx(dict.fromkeys((6, 7, 8), area_of(outline)), rel=1e-4)


@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_a_hole_that_touches_the_corner_of_a_tile_is_a_hole_at_each_zoom(
    corner: tuple[float, float],
) -> None:
    hole = [corner, (0.3, 0.2), (0.2, 0.4)]
    sheet = Sheet(3424, shapely.Polygon(shapely.box(0.0, 0.0, 1.0, 1.0).exterior, [hole]))
    covered = Counter[int]()
    for zoom, cells, shares in shares_below([sheet], lambda _, first, last: np.arange(first, last), 9):
        covered[zoom] += float(shares @ cells_km2(cells, zoom))
    expected = covered_km2([sheet])[sheet.cell]
    assert covered == pytest.approx(dict.fromkeys((6, 7, 8, 9), expected), rel=1e-5)


def test_a_jagged_outline_is_not_cut_slowly_at_each_zoom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What crosses the edge of a cell has corners on it, at which GEOS' fast clipping may go wrong."""
    corners = 20_000
    turn = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False)
    away = np.where(np.arange(corners) % 2, 2.0, 2.1)
    outline = shapely.Polygon(np.column_stack([20.0 + away * np.cos(turn), 5.0 + away * np.sin(turn)]))
    sheets = sheets_of(outline, tmp_path)
    intersection, slow = shapely.intersection, 0

    def counted(areas: Geometries, others: shapely.Geometry) -> Geometries:
        nonlocal slow
        slow += int(shapely.get_num_coordinates(areas).sum())
        found: Geometries = intersection(areas, others)
        return found

    monkeypatch.setattr(shapely, "intersection", counted)
    for sheet in sheets:
        for _ in shares_below([sheet], lambda _, first, last: np.arange(first, last), 10):
            pass
    assert slow < corners

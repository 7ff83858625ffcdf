"""Areas as pixels, compared with shapely's answer for each pixel."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np
import pytest
import shapely

from oam_mosaic_assets.core.pixels import TOGETHER, Pixels, pixels_touched, touched

SIDE = 32

Cells = set[tuple[int, int]]


def cells(pixels: Pixels) -> Cells:
    stride = pixels.side + 2
    numbers = (n for run in zip(pixels.begin, pixels.end, strict=True) for n in range(*run))
    return {(n % stride - 1, n // stride - 1) for n in numbers}


def polygons(seed: int) -> list[shapely.Polygon]:
    """Some with corners on the grid, some with holes, some smaller than a pixel."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(3):
        size, place = chance.choice([0.4, 3.0, 12.0]), chance.random(2) * 18 + 1
        area = shapely.convex_hull(shapely.multipoints(chance.random((6, 2)) * size + place))
        if chance.random() < 0.5:
            area = shapely.transform(area, np.rint)
        if area.area > 0:
            hole = shapely.buffer(area, -2)
            found.append(shapely.difference(area, hole) if chance.random() < 0.5 else area)
    return [area for area in found if isinstance(area, shapely.Polygon) and area.area > 0]


def pixels_of(areas: list[shapely.Polygon]) -> Pixels:
    rings, of = shapely.get_rings(areas, return_index=True)
    points = [shapely.get_coordinates(ring)[:-1] for ring in rings]
    sizes = np.array([len(each) for each in points])
    return Pixels.of_runs(SIDE, *touched(np.concatenate(points), sizes, of))


@pytest.mark.parametrize("seed", range(12))
def test_the_pixels_of_areas_are_those_they_have_something_in(seed: int) -> None:
    areas = polygons(seed) or [shapely.box(1, 1, 2, 2)]
    found = cells(pixels_of(areas))
    whole = shapely.union_all(areas)
    for x, y in product(range(SIDE), repeat=2):
        inside = shapely.intersection(whole, shapely.box(x, y, x + 1, y + 1)).area
        if inside > 1e-9:
            assert (x, y) in found
        elif not shapely.intersects(whole, shapely.box(x, y, x + 1, y + 1)):
            assert (x, y) not in found


def a_comb(teeth: int, length: float, width: float) -> shapely.Polygon:
    """Teeth that point south, side by side."""
    x = np.repeat(np.linspace(0.0, width, 2 * teeth + 1), 2)[1:-1]
    y = np.resize([0.0, length, length, 0.0], len(x))
    return shapely.Polygon([*zip(x, y, strict=True), (width, -1.0), (0.0, -1.0)])


def test_an_outline_that_crosses_a_few_rows_thousands_of_times_is_followed_in_parts() -> None:
    side, teeth, length = 8192, 8_000, 160
    comb = shapely.affinity.translate(a_comb(teeth, length, 8000.0), 100.0, 4000.0)
    tracemalloc.start()
    try:
        found = pixels_touched(np.array([comb]), side, scale=1.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 8000 * (length + 1)
    assert peak < 300 * TOGETHER < 2 * teeth * length * 100


@pytest.mark.parametrize("together", [1, 7, 40])
@pytest.mark.parametrize("seed", range(4))
def test_pixels_do_not_depend_on_how_many_rows_are_followed_together(
    seed: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas = np.array([*polygons(seed), shapely.box(-3.0, -5.0, 40.5, 2.5), shapely.box(4.0, 30.5, 5.0, 99.0)])
    whole = pixels_touched(areas, SIDE, scale=1.0)
    monkeypatch.setattr("oam_mosaic_assets.core.pixels.TOGETHER", together)
    assert cells(pixels_touched(areas, SIDE, scale=1.0)) == cells(whole)


def test_a_square_of_the_grid_is_one_pixel() -> None:
    assert cells(pixels_of([shapely.box(5, 7, 6, 8)])) == {(5, 7)}


@pytest.mark.parametrize("seed", range(12))
def test_they_are_halved_and_grown(seed: int) -> None:
    pixels = pixels_of(polygons(seed) or [shapely.box(1, 1, 2, 2)])
    round_about = (-1, 0, 1)
    assert cells(pixels.halved()) == {(x // 2, y // 2) for x, y in cells(pixels)}
    assert cells(pixels.grown()) == {
        (x + dx, y + dy) for x, y in cells(pixels) for dx, dy in product(round_about, repeat=2)
    }
    assert len(pixels) == len(cells(pixels))


def test_what_another_set_lacks_is_named() -> None:
    some, other = pixels_of([shapely.box(2, 3, 6, 5)]), pixels_of([shapely.box(2, 3, 4, 4)])
    assert some.outside(other) == [(4, 3), (2, 4)]
    assert other.outside(some) == []
    assert some.outside(Pixels.union(SIDE, [])) == [(2, 3), (2, 4)]
    assert Pixels.union(SIDE, []).outside(some) == []


@pytest.mark.parametrize("seed", range(20))
def test_sets_are_compared_as_sets(seed: int) -> None:
    one, other = pixels_of(polygons(seed)), pixels_of(polygons(seed + 100))
    assert cells(one.held_by(other)) == cells(one) & cells(other)
    assert cells(one.without(other)) == cells(one) - cells(other)
    assert len(one.without(one)) == len(one.held_by(one.without(one))) == 0


def test_the_sides_of_the_map_are_not_neighbours() -> None:
    east, west = pixels_of([shapely.box(SIDE - 1, 3, SIDE, 4)]), pixels_of([shapely.box(0, 4, 1, 5)])
    assert east.outside(west.grown()) == [(SIDE - 1, 3)]

"""What a tile shows of an outline lies where it does, however it is cut and rounded."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from oam_mosaic_assets.core.pieces import DRAWN, MARGIN, cut_to_tile, on_the_grid, united
from oam_mosaic_assets.core.tiling import EXTENT


def array(*polygons: shapely.Geometry) -> np.ndarray:
    return np.array(polygons, dtype=object)


@pytest.mark.parametrize("width", [0.1, 0.4, 0.8])
def test_a_spike_moves_nothing_else_of_an_outline(width: float) -> None:
    chance = np.random.default_rng(3)
    for _ in range(50):
        west, north, tip = chance.uniform(200, 900, 3)
        box = shapely.box(west, north, west + 500.3, north + 400.7)
        middle = west + tip / 4
        foot = [(middle, north + 9), (middle + width / 2, north - tip), (middle + width, north + 9)]
        spike = shapely.Polygon(foot)
        polygon, of = on_the_grid(array(shapely.union(box, spike)))
        drawn = shapely.union_all(polygon)
        assert set(of.tolist()) == {0}
        assert shapely.difference(drawn, shapely.union(box, spike).buffer(4.0)).is_empty
        assert shapely.difference(box.buffer(-1.0), drawn).is_empty


@pytest.mark.parametrize("side", [0.05, 0.3])
def test_what_rounding_would_lose_is_drawn_and_no_farther_than_four_units_away(side: float) -> None:
    for start in np.linspace(100.0, 101.0, 21).tolist():
        dot = shapely.box(start, start, start + side, start + side)
        polygon, _ = on_the_grid(array(dot))
        assert len(polygon) == 1
        assert shapely.within(polygon[0], dot.buffer(4.0 + 0.5**0.5))


def test_parts_that_touch_become_one_and_others_do_not() -> None:
    left, right, away = shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10), shapely.box(30, 0, 40, 10)
    polygon, of = united(array(away, left, away, right), np.array([4, 7, 7, 7]))
    assert of.tolist() == [4, 7, 7]
    assert polygon[0] == away
    assert {each.bounds for each in polygon[1:]} == {(0.0, 0.0, 20.0, 10.0), away.bounds}


def test_a_corner_on_the_edge_of_what_a_tile_draws_is_cut_right() -> None:
    far = EXTENT + MARGIN
    polygons = array(
        shapely.Polygon([(-500, -500), (3000, 3000), (-MARGIN, far), (5000, far)]),
        shapely.Polygon([(-500, 100), (-MARGIN, 50), (900, 100), (-MARGIN, 150)]),
        shapely.Polygon([(-MARGIN, -500), (far, 2000), (-MARGIN, 5000), (-500, 2000)]),
    )
    assert shapely.equals(cut_to_tile(polygons), shapely.intersection(polygons, DRAWN)).all()


def test_what_lies_within_is_not_touched() -> None:
    inside = shapely.Polygon([(0.25, 0.5), (4000.125, 7.5), (90.75, 4100.0)])
    assert cut_to_tile(array(inside))[0] == inside

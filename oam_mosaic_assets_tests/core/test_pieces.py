"""The piece of an outline that a tile shows stays in place, however it is cut and rounded."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from shapely.errors import GEOSException

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


@pytest.mark.parametrize("long", [20.0, 2000.0])
def test_a_zigzag_of_many_corners_is_widened_in_pieces_that_leave_no_gap(long: float) -> None:
    chance, along = np.random.default_rng(5), np.linspace(1000.0, 1000.0 + long, 600)
    side = np.column_stack([along, 2000.0 + long * chance.uniform(0.0, 0.1, 600)])
    zigzag = shapely.Polygon([*side, *(side + np.array([0.0, 0.3]))[::-1]])
    assert zigzag.is_valid
    polygon, _ = on_the_grid(array(zigzag), spikes=True)
    drawn = shapely.union_all(polygon)
    assert shapely.covers(drawn, zigzag)
    assert shapely.difference(drawn, zigzag.buffer(4.0 + 0.5**0.5)).is_empty


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


ALL_BUT_TOUCHING = {
    # corners inside an edge by the last digit of a float
    "all was drawn": [
        (1366.2519092812624, -461.4284665473163),
        (5e-324, -1226.9500710578568),
        (5e-324, -79.99999999999999),
    ],
    "nothing could be": [(-1000.0, 900.0), (-1600.0, 2500.0), (-79.99999999999999, 1600.0)],
    # outlines that almost pass through a corner
    "a third too much": [
        (401.9988183371451, 3842.6748018085605),
        (-991.0, 4806.0),
        (2050.0, 4099.0),
        (-1616.122242797183, 2048.0000000000005),
    ],
    "twice as much": [
        (1657.0, 2533.0),
        (6695.0, -2693.0),
        (-2427.9024922338995, -160.50922717497116),
        (2046.0, 4096.000000000001),
        (4176.6006379342, 4175.999999999999),
    ],
}
"""Rings that `clip_by_rect` cuts wrongly, by what it returned."""


@pytest.mark.parametrize("ring", ALL_BUT_TOUCHING.values(), ids=ALL_BUT_TOUCHING)
def test_what_all_but_touches_the_edge_of_what_a_tile_draws_is_cut_right(
    ring: list[tuple[float, float]],
) -> None:
    outline = shapely.Polygon(ring)
    (found,) = cut_to_tile(array(outline))
    assert found.symmetric_difference(outline & DRAWN).area < 1.0


def needle(number: int) -> shapely.Polygon:
    """A triangle as thin as floats allow, across an edge of what a tile draws."""
    chance = np.random.default_rng(number)
    foot, tip = np.array([-500.0, -500.0]), chance.uniform(0, 4000, 2)
    side = foot + (tip - foot) * chance.uniform()
    return shapely.Polygon([foot, tip, side])


NEEDLES = [each for each in map(needle, range(2000)) if each.is_valid and each.area > 0.0]


def test_needles_that_cannot_be_clipped_are_cut_and_change_nothing_else() -> None:
    with pytest.raises(GEOSException, match="points"):
        shapely.clip_by_rect(NEEDLES, *DRAWN.bounds)
    boxes = [shapely.box(at, 0, at + 900.5, 5000) for at in range(0, 4000, 400)]
    cut = cut_to_tile(array(*boxes[:5], *NEEDLES, *boxes[5:]))
    assert all(shapely.difference(each, DRAWN.buffer(1e-6)).is_empty for each in shapely.make_valid(cut))
    whole = [*cut[:5], *cut[-5:]]
    assert [each.wkb for each in whole] == [each.wkb for each in cut_to_tile(array(*boxes))]


def test_an_outline_that_crosses_itself_where_it_was_cut_is_put_on_the_grid() -> None:
    edge = EXTENT + MARGIN
    bow = [(2048.0, 0.0001), (2502.1, edge), (edge, edge), (edge, 4173.8), (4175.0, edge), (edge, 4124.4)]
    crossed = shapely.Polygon([*bow, (edge, 0.0)])
    assert not crossed.is_valid
    polygon, _ = on_the_grid(array(crossed))
    assert shapely.is_valid(polygon).all()
    found = shapely.union_all(polygon)
    assert found.symmetric_difference(shapely.make_valid(crossed)).buffer(-1.0).is_empty


def test_what_lies_within_is_not_touched() -> None:
    inside = shapely.Polygon([(0.25, 0.5), (4000.125, 7.5), (90.75, 4100.0)])
    assert cut_to_tile(array(inside))[0] == inside

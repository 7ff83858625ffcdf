"""Tiles of the map: their ids, and where points lie in them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from pmtiles.tile import tileid_to_zxy, zxy_to_tileid

from oam_mosaic_assets.core.geometry import MERCATOR_LATITUDE
from oam_mosaic_assets.core.grid import (
    first_tile_id,
    pairs_of,
    project,
    tile_ids,
    tile_positions,
    to_tiles,
    zoom_of,
)
from oam_mosaic_assets_tests.core.strategies import examples


@st.composite
def tiles_of_a_zoom(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A zoom, and ids of some of its tiles."""
    zoom = draw(st.integers(0, 31))
    first = first_tile_id(zoom)
    return zoom, draw(st.lists(st.integers(first, first + 4**zoom - 1), max_size=20))


@examples(300)
@given(tiles_of_a_zoom())
@example((0, [0]))
@example((31, [first_tile_id(31), first_tile_id(32) - 1]))
def test_a_tile_lies_where_the_library_pmtiles_says(tiles: tuple[int, list[int]]) -> None:
    zoom, ids = tiles

    x, y = tile_positions(np.array(ids, np.int64), zoom)

    assert [(zoom, *tile) for tile in zip(x.tolist(), y.tolist(), strict=True)] == list(
        map(tileid_to_zxy, ids)
    )
    assert tile_ids(zoom, x, y).tolist() == ids


@examples(200)
@given(st.integers(0, first_tile_id(32) - 1))
@example(0)
@example(first_tile_id(15))
@example(first_tile_id(15) - 1)
def test_an_id_tells_its_zoom(tile_id: int) -> None:
    zoom, x, y = tileid_to_zxy(tile_id)

    assert zoom_of(tile_id) == zoom
    assert tile_ids(zoom, np.array([x]), np.array([y])).tolist() == [tile_id]


def test_ids_of_a_zoom_follow_on_those_of_the_zoom_above() -> None:
    for zoom in range(20):
        assert first_tile_id(zoom) == zxy_to_tileid(zoom, 0, 0)
        assert first_tile_id(zoom + 1) == first_tile_id(zoom) + 4**zoom


@examples(200)
@given(st.lists(st.tuples(st.integers(0, 2**27 - 1), st.integers(0, 2**18 - 1), st.integers(0, 2**18 - 1))))
def test_pairs_of_image_and_tile_keep_their_order(triples: list[tuple[int, int, int]]) -> None:
    """By image, then row, then column; each pair has a number of its own."""
    image, x, y = np.array(triples, np.int64).reshape(-1, 3).T

    pairs = pairs_of(image, x, y, 18)

    order = np.argsort(pairs, kind="stable").tolist()
    assert [triples[n] for n in order] == sorted(triples, key=lambda each: (each[0], each[2], each[1]))
    assert len(set(pairs.tolist())) == len(set(triples))


def test_no_tiles_lie_nowhere() -> None:
    x, y = tile_positions(np.array([], np.int64), 15)

    assert len(x) == len(y) == 0


@pytest.mark.parametrize(
    ("lonlat", "zoom", "tile"),
    [
        ((0, 0), 0, (0.5, 0.5)),
        ((-180, MERCATOR_LATITUDE), 0, (0, 0)),
        ((180, -MERCATOR_LATITUDE), 0, (1, 1)),
        ((180, -MERCATOR_LATITUDE), 3, (8, 8)),
        ((90, 0), 2, (3, 2)),
        # atan(sinh(pi / 2)): halfway on the map from the equator to the northern edge
        ((0, math.degrees(math.atan(math.sinh(math.pi / 2)))), 0, (0.5, 0.25)),
    ],
)
def test_known_points_lie_in_known_tiles(
    lonlat: tuple[float, float], zoom: int, tile: tuple[float, float]
) -> None:
    assert to_tiles(np.array([lonlat], dtype=float), zoom)[0] == pytest.approx(tile, abs=2e-9)


@examples(200)
@given(st.floats(-180, 180), st.floats(-85, 85), st.integers(0, 18))
def test_points_lie_where_the_formula_of_openstreetmaps_wiki_says(lon: float, lat: float, zoom: int) -> None:
    radians = math.radians(lat)
    column = (lon + 180) / 360 * 2**zoom
    row = (1 - math.log(math.tan(radians) + 1 / math.cos(radians)) / math.pi) / 2 * 2**zoom

    assert to_tiles(np.array([[lon, lat]]), zoom)[0] == pytest.approx((column, row), rel=1e-12, abs=1e-9)


@examples(200)
@given(st.lists(st.floats(-MERCATOR_LATITUDE, MERCATOR_LATITUDE), min_size=2, max_size=20))
def test_the_further_north_the_smaller_the_row(latitudes: list[float]) -> None:
    ordered = sorted(latitudes)

    rows = to_tiles(np.column_stack([np.zeros(len(ordered)), ordered]), 15)[:, 1]

    assert (np.diff(rows) <= 0).all()
    assert (rows >= -1e-6).all()
    assert (rows <= 2**15 + 1e-6).all()


@examples(200)
@given(st.lists(st.floats(-180, 180), min_size=2, max_size=20))
def test_the_further_east_the_larger_the_column(longitudes: list[float]) -> None:
    ordered = sorted(longitudes)

    columns = to_tiles(np.column_stack([ordered, np.zeros(len(ordered))]), 15)[:, 0]

    assert (np.diff(columns) >= 0).all()
    assert columns[0] >= 0
    assert columns[-1] <= 2**15


@pytest.mark.parametrize("pole", [-90.0, 90.0])
def test_a_pole_is_far_but_not_infinitely_far(pole: float) -> None:
    row = to_tiles(np.array([[0.0, pole]]), 0)[0, 1]

    assert math.isfinite(row)
    assert not 0 <= row <= 1


def test_areas_are_projected_point_by_point() -> None:
    boxes = np.array([shapely.box(-180, 0, 0, MERCATOR_LATITUDE), shapely.box(0, 0, 90, 1)], dtype=object)

    projected = project(boxes, 1)

    assert projected[0].bounds == pytest.approx((0, 0, 1, 1), abs=1e-9)
    assert projected[1].bounds[:1] + projected[1].bounds[2:] == pytest.approx((1, 1.5, 1))

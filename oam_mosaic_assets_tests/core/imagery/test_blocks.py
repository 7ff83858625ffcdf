"""The grid: which blocks an image touches, and where their pixels are."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.core.grid import project
from oam_mosaic_assets.core.imagery.blocks import (
    BLOCK,
    BLOCK_ZOOM,
    FINEST,
    STEP,
    WORLD,
    Tile,
    Window,
    blocks_of,
    in_pixels,
    window_of,
)
from oam_mosaic_assets_tests.core.strategies import examples

places = st.tuples(st.floats(-179.9, 179.9), st.floats(-85.0, 85.0))


def test_every_block_that_an_image_reaches_into_is_found() -> None:
    """Compared with testing each block nearby on its own."""

    @examples(100)
    @given(places, st.floats(0.001, 0.5), st.floats(0.001, 0.5))
    def holds(corner: tuple[float, float], width: float, height: float) -> None:
        west, south = min(corner[0], 179.0 - width), min(corner[1], 84.0 - height)
        triangle = shapely.Polygon([(west, south), (west + width, south), (west, south + height)])
        area = project(np.array([triangle], dtype=object), BLOCK_ZOOM)[0]
        _, blocks = blocks_of(np.array([triangle], dtype=object))
        found = {(x, y) for x, y in blocks.tolist()}
        left, top, right, bottom = (int(side) for side in area.bounds)
        for x in range(left - 1, right + 2):
            for y in range(top - 1, bottom + 2):
                shared = shapely.box(x, y, x + 1, y + 1).intersection(area).area
                if shared > 1e-12:
                    assert (x, y) in found
                elif len(found) > 2:
                    assert (x, y) not in found or shapely.box(x, y, x + 1, y + 1).intersects(area)

    holds()


def test_an_image_across_the_antimeridian_touches_blocks_at_both_ends_of_the_map() -> None:
    both = shapely.MultiPolygon(
        [shapely.box(179.95, 0.01, 180, 0.02), shapely.box(-180, 0.01, -179.95, 0.02)]
    )
    _, blocks = blocks_of(np.array([both], dtype=object))
    assert blocks.tolist() == [[0, 2047], [4095, 2047]]


def test_no_image_touches_no_block() -> None:
    which, blocks = blocks_of(np.array([], dtype=object))
    assert (len(which), blocks.shape) == (0, (0, 2))


def test_pixels_are_counted_from_the_north_west() -> None:
    whole = in_pixels(shapely.box(-180, -85.05112877980659, 180, 85.05112877980659))
    assert whole.bounds == pytest.approx((0, 0, WORLD, WORLD), abs=1e-5)


def test_an_outline_that_crosses_itself_only_on_the_map_is_valid_in_pixels() -> None:
    """In degrees, a notch ends just above an edge, which is curved on the map."""
    corners = [(0, 60), (0.2, 60.2), (0.2, 60.3), (0.101, 60.3), (0.1, 60.1000001), (0.099, 60.3), (0, 60.3)]
    notched = shapely.Polygon(corners)
    assert notched.is_valid
    area = in_pixels(notched)
    assert area.is_valid
    assert area.area == pytest.approx(project(np.array([notched], dtype=object), FINEST)[0].area * 256**2)


def test_an_outline_too_thin_to_be_valid_in_pixels_is_a_speck_in_its_place() -> None:
    corners = [(5.487792764044457, -23.447956051879085), (5.487792764044467, -23.447957000595032)]
    corners += [(5.487792764044443, -23.447953908164056), (5.487792764044439, -23.44795528920663)]
    thin = shapely.Polygon(corners)
    area = in_pixels(thin)
    assert area.is_valid
    assert 0 < area.area < 1e-9
    assert shapely.distance(area, in_pixels(thin.representative_point())) < 1


@examples(100)
@given(st.integers(0, 4095), st.integers(0, 4095))
def test_a_block_is_a_whole_number_of_steps(x: int, y: int) -> None:
    window = Window.of_block(Tile(x, y))
    assert window.shape == (BLOCK, BLOCK)
    assert window.grown_to_steps() == window


def test_a_window_holds_an_area_without_extent() -> None:
    window = window_of(shapely.Point(1000.5, 2000.5))
    assert window == Window(960, 1984, 1024, 2048)
    assert all(side % STEP == 0 for side in window.shape)


def test_the_tile_above_holds_a_tile() -> None:
    assert Tile(4095, 1).above(6) == Tile(63, 0)
    assert Tile(0, 0).id(12) == (4**12 - 1) // 3

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

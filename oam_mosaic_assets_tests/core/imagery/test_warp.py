"""Warping images onto the grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.core.imagery.blocks import STEP, Window
from oam_mosaic_assets.core.imagery.warp import HALF_WORLD, lattice, seen
from oam_mosaic_assets_tests.core.strategies import examples

IMAGE = np.random.default_rng(1).integers(0, 256, (300, 400, 4), dtype=np.uint8)


def nodes(columns: list[float], rows: list[float]) -> np.ndarray:
    return np.stack(np.meshgrid(columns, rows)).astype(np.float64)


def test_the_map_begins_in_the_north_west() -> None:
    x, y = lattice(Window(0, 0, STEP, STEP))
    across = STEP * 2 * HALF_WORLD / (256 << 14)
    assert x.tolist() == [[-HALF_WORLD, -HALF_WORLD + across]] * 2
    assert y[:, 0].tolist() == [HALF_WORLD, HALF_WORLD - across]


def test_an_image_at_its_own_scale_is_shown_as_it_is() -> None:
    shown = seen(IMAGE, nodes([100, 100 + STEP, 100 + 2 * STEP], [50, 50 + STEP]))
    assert np.array_equal(shown, IMAGE[50 : 50 + STEP, 100 : 100 + 2 * STEP])


def test_between_four_pixels_their_mean_is_seen() -> None:
    shown = seen(IMAGE, nodes([100.5, 100.5 + STEP], [50.5, 50.5 + STEP]))
    around = (
        sum(IMAGE[50 + dy :, 100 + dx :][:STEP, :STEP].astype(float) for dx in (0, 1) for dy in (0, 1)) / 4
    )
    assert np.abs(shown - around).max() <= 1.0


@examples(100)
@given(st.integers(0, 3), st.integers(0, 2), st.floats(0.3, 1.9), st.floats(-0.4, 0.4))
def test_what_a_pixel_shows_does_not_depend_on_the_window(x: int, y: int, scale: float, turn: float) -> None:
    """Even where the projection is not linear."""
    columns, rows = np.meshgrid(np.arange(5) * STEP * scale, np.arange(4) * STEP * scale)
    bent = np.stack([columns + turn * rows + np.sin(rows / 50), rows - turn * columns + 40.0])
    whole, part = seen(IMAGE, bent), seen(IMAGE, bent[:, y : y + 2, x : x + 2])
    assert np.array_equal(whole[y * STEP : (y + 1) * STEP, x * STEP : (x + 1) * STEP], part)


def test_the_edge_of_an_image_fades_over_one_pixel() -> None:
    white = np.full((10, 10, 4), 255, np.uint8)
    shown = seen(white, nodes([-8, -8 + STEP / 4], [5, 5 + STEP / 64]))[0, :, 3]
    places = -8 + (np.arange(STEP) + 0.5) / 4
    share = np.clip(np.minimum(places + 0.5, 10.5 - places), 0, 1)
    assert np.abs(shown - 255 * share).max() <= 1.0


@pytest.mark.parametrize("nowhere", [np.nan, np.inf, -np.inf])
def test_nowhere_shows_nothing(nowhere: float) -> None:
    places = nodes([100, 100 + STEP, 100 + 2 * STEP], [50, 50 + STEP])
    places[0, 0, 2] = nowhere
    shown = seen(IMAGE, places)
    assert np.array_equal(shown[:, :STEP], IMAGE[50 : 50 + STEP, 100 : 100 + STEP])
    assert not shown[:, STEP:].any()

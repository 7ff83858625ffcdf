"""Feathered edges: the weight of each pixel, and what is seen where images overlap."""

from __future__ import annotations

import numpy as np
import pytest

from oam_mosaic_assets.core.imagery import chip as sharp
from oam_mosaic_assets.core.imagery.blocks import STEP, Tile, Window
from oam_mosaic_assets.core.imagery.chip import Chip
from oam_mosaic_assets.core.imagery.feather import composed, counted

BLOCK = Tile(1, 2)
X, Y = 1024, 2048

RED, BLUE = [255, 0, 0, 255], [0, 0, 255, 255]


def image(window: Window, colour: list[int], width: int) -> Chip:
    """An image of one colour that fills its window and ends there."""
    pixels = np.broadcast_to(np.array(colour, np.uint8), (*window.shape, 4)).copy()
    return Chip(window, pixels, counted(pixels, width))


def patches(seed: int, height: int, width: int) -> np.ndarray:
    """A picture with holes and half-transparent pixels, premultiplied."""
    rng = np.random.default_rng(seed)
    alpha = np.kron(rng.choice([0, 128, 255, 255, 255], (height // 16, width // 16)), np.ones((16, 16)))
    colours = rng.integers(0, 256, (height, width, 3))
    return np.dstack([colours * alpha[..., None] // 255, alpha]).astype(np.uint8)


@pytest.mark.parametrize("width", [1, 10, STEP])
def test_a_pixel_counts_by_its_distance_from_a_straight_edge(width: int) -> None:
    counts = counted(np.full((300, 300, 4), 255, np.uint8), width)
    row = counts[150].astype(int)
    assert (np.diff(row[:150]) >= 0).all()
    assert (row[:150] == row[:149:-1]).all(), "both sides alike"
    away = np.arange(width) + 0.5
    assert np.abs(row[:width] / 255 - away / (width + 0.5)).max() < 0.02
    assert (row[width:-width] == 255).all()


def test_what_shows_nothing_does_not_count_and_all_else_does() -> None:
    pixels = patches(1, 160, 160)
    assert ((counted(pixels, 20) > 0) == (pixels[..., 3] > 0)).all()


def test_how_much_a_pixel_counts_does_not_depend_on_the_window() -> None:
    pixels = patches(2, 320, 320)
    whole = counted(pixels, STEP)
    part = counted(pixels[:, 64:256], STEP)
    assert np.array_equal(part[:, STEP:-STEP], whole[:, 64 + STEP : 256 - STEP])


def test_one_image_goes_over_into_the_other() -> None:
    top = image(Window(X, Y, X + 200, Y + 200), RED, 40)
    below = image(Window(X, Y, X + 400, Y + 200), BLUE, 40)
    row = composed(BLOCK, [top, below])[100].astype(int)
    assert row[100].tolist() == RED
    assert row[250].tolist() == BLUE
    over = row[155:205]
    assert (np.diff(over[:, 0]) <= 0).all()
    assert np.abs(np.diff(row[150:210, 0])).max() <= 9, "no step is wider than its part of the edge"
    assert (over[:, 0] + over[:, 2] == 255).all()
    assert (row[:400, 3] == 255).all()


def test_an_image_ends_as_it_is_where_nothing_lies_below() -> None:
    alone = image(Window(X + 10, Y + 10, X + 100, Y + 100), RED, 40)
    assert np.array_equal(composed(BLOCK, [alone]), sharp.composed(BLOCK, [alone]))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_seen_at_all_is_the_same_as_without_feathers(seed: int) -> None:
    chips = []
    for number in range(4):
        pixels = patches(10 * seed + number, 160, 320)
        window = Window(X + 40 * number, Y + 16 * number, X + 40 * number + 320, Y + 16 * number + 160)
        chips.append(Chip(window, pixels, counted(pixels, 24)))
    soft, hard = composed(BLOCK, chips), sharp.composed(BLOCK, chips)
    assert np.abs(soft[..., 3].astype(int) - hard[..., 3]).max() <= 1
    assert (soft[..., :3] <= soft[..., 3:]).all(), "premultiplied"


def test_a_chip_keeps_how_much_it_counts() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[10:20, 30:50] = 200
    chip = Chip(Window(X, Y, X + 64, Y + 64), pixels, counted(pixels, 4)).trimmed()
    assert chip is not None
    back = Chip.from_bytes(chip.to_bytes())
    assert back.window == Window(X + 30, Y + 10, X + 50, Y + 20)
    assert chip.counts is not None
    assert back.counts is not None
    assert np.array_equal(back.pixels, chip.pixels)
    assert np.array_equal(back.counts, chip.counts)
    assert back.counts.shape == (10, 20)

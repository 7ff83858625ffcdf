"""Pictures: composed, downsampled, encoded and decoded."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oam_mosaic_assets.core.imagery.pixels import (
    box_mean,
    decoded,
    encoded,
    halved,
    over,
    premultiplied,
    straightened,
)
from oam_mosaic_assets_tests.core.strategies import examples

straight = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(4)))


def plain(*colour: int, side: int = 256) -> np.ndarray:
    return np.tile(np.array(colour, np.uint8), (side, side, 1))


@examples(100)
@given(top=straight, below=straight)
def test_what_is_opaque_hides_and_what_is_empty_shows_what_lies_below(
    top: np.ndarray, below: np.ndarray
) -> None:
    height, width = min(len(top), len(below)), min(top.shape[1], below.shape[1])
    top, below = top[:height, :width], premultiplied(below[:height, :width])
    opaque, empty = top.copy(), np.zeros_like(top)
    opaque[..., 3] = 255
    assert np.array_equal(over(opaque, below), opaque)
    assert np.array_equal(over(empty, below), below)


@examples(100)
@given(top=straight, below=straight)
def test_no_colour_outshines_its_alpha(top: np.ndarray, below: np.ndarray) -> None:
    height, width = min(len(top), len(below)), min(top.shape[1], below.shape[1])
    seen = over(premultiplied(top[:height, :width]), premultiplied(below[:height, :width]))
    assert (seen[..., :3] <= seen[..., 3:]).all()


@examples(100)
@given(straight)
def test_colours_survive_being_multiplied_by_alpha(pixels: np.ndarray) -> None:
    """As well as bytes allow: one step of the premultiplied colour is 255 / alpha of the colour."""
    back = straightened(premultiplied(pixels))
    alpha = pixels[..., 3:].astype(int)
    off = np.abs(back[..., :3].astype(int) - pixels[..., :3])
    assert np.array_equal(back[..., 3], pixels[..., 3])
    assert (np.where(alpha, off, 0) <= np.ceil(255 / np.maximum(alpha, 1))).all()


def test_a_pixel_that_shows_nothing_lends_no_colour_to_a_mean() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (200, 100, 50, 255)
    assert straightened(halved(pixels)).tolist() == [[[199, 100, 52, 64]]]


@examples(100)
@given(pixels=straight, factor=st.integers(1, 5))
@example(pixels=np.array([[[239, 0, 0, 0]]], np.uint8), factor=3)
def test_a_mean_is_the_mean_of_its_pixels(pixels: np.ndarray, factor: int) -> None:
    mean = box_mean(pixels, factor)
    rows, columns = -(-pixels.shape[0] // factor), -(-pixels.shape[1] // factor)
    filled = np.zeros((rows * factor, columns * factor, 4))
    filled[: pixels.shape[0], : pixels.shape[1]] = pixels
    wanted = filled.reshape(rows, factor, columns, factor, 4).mean(axis=(1, 3))
    assert np.abs(mean - wanted).max() <= 0.5


def test_the_mean_of_a_large_white_image_does_not_overflow() -> None:
    assert box_mean(plain(255, 255, 255, 255, side=4096), 4096).tolist() == [[[255, 255, 255, 255]]]


def test_nothing_is_no_tile() -> None:
    assert encoded(plain(0, 0, 0, 0), quality=75) is None


def test_a_tile_that_loses_nothing_comes_back_as_it_was() -> None:
    rng = np.random.default_rng(1)
    pixels = premultiplied(rng.integers(0, 256, (256, 256, 4), dtype=np.uint8))
    packed = encoded(pixels, quality=None)
    assert packed is not None
    assert np.abs(decoded(packed).astype(int) - pixels).max() <= 1
    assert np.array_equal(decoded(packed)[..., 3], pixels[..., 3])


def test_a_lossy_tile_keeps_its_alpha() -> None:
    pixels = plain(90, 120, 60, 255)
    pixels[:100] = 0
    packed = encoded(pixels, quality=75)
    assert packed is not None
    assert np.array_equal(decoded(packed)[..., 3], pixels[..., 3])
    assert np.abs(decoded(packed)[120:].astype(int) - pixels[120:]).max() < 8


def test_every_colour_is_premultiplied_to_the_nearest() -> None:
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    straight = np.stack([colour, colour, colour, alpha], axis=-1).astype(np.uint8)
    exact = np.round(colour * alpha / 255)  # never exactly halfway, since 255 is odd
    assert (premultiplied(straight) == np.stack([exact, exact, exact, alpha], axis=-1)).all()

"""Pixels of pictures: rows, columns, red-green-blue-alpha, one byte each, premultiplied by alpha.

Premultiplied, so that means come out right: a transparent pixel adds no colour to its neighbours.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import PIL.WebPImagePlugin  # noqa: F401  # else Pillow imports every format plugin to find this one
from numpy.typing import NDArray
from PIL import Image

TILE: Final = 256
"""A tile's side in pixels."""

Pixels = NDArray[np.uint8]
"""Shape (height, width, 4), premultiplied."""

_FULL: Final = 255
_QUICK: Final = 1024
"""The largest factor for which Pillow's `reduce` adds up pixels without overflow. It divides by multiplying
with a fraction of 2**24, which is exact only for powers of two."""


def over(top: Pixels, below: Pixels) -> Pixels:
    """Composite one picture over another."""
    through = (_FULL - top[..., 3:]).astype(np.uint16)
    # rounded; never above 255, as no colour exceeds its alpha
    seen = top + ((below * through + _FULL // 2) // _FULL).astype(np.uint8)
    return seen.astype(np.uint8, copy=False)


def halved(pixels: Pixels) -> Pixels:
    """The picture at half its size: each pixel is the mean of four."""
    return box_mean(pixels, 2)


def box_mean(pixels: Pixels, factor: int) -> Pixels:
    """Average blocks of `factor` x `factor` pixels; sides that are not a multiple are padded with nothing."""
    if factor == 1:
        return pixels
    height, width, _ = pixels.shape
    missing = (-height % factor, -width % factor)
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)))
    if factor <= _QUICK and factor.bit_count() == 1:
        return np.asarray(as_picture(pixels).reduce(factor))
    height, width, _ = pixels.shape
    count = factor * factor
    kind = np.uint32 if count < 2**24 else np.uint64  # holds 255 times the count
    # whole rows first, as numpy adds up many of their values at a time
    rows = pixels.reshape(height // factor, factor, width * 4).sum(axis=1, dtype=kind)
    total = rows.reshape(height // factor, width // factor, factor, 4).sum(axis=2, dtype=kind)
    mean: Pixels = ((total + count // 2) // count).astype(np.uint8)
    return mean


def as_picture(pixels: Pixels) -> Image.Image:
    """The same pixels as a Pillow image."""
    height, width, _ = pixels.shape
    # "RGBX" is four bytes that Pillow leaves alone; other modes it would copy, and convert on the way
    return Image.frombuffer("RGBX", (width, height), np.ascontiguousarray(pixels), "raw", "RGBX", 0, 1)


def premultiplied(straight: NDArray[np.uint8]) -> Pixels:
    """Multiply colours by their alpha."""
    if straight[..., 3].min(initial=_FULL) == _FULL:
        return straight
    # "RGBa" is Pillow's premultiplied mode; the conversion rounds to nearest
    return np.asarray(Image.fromarray(straight).convert("RGBa"))


def straightened(pixels: Pixels) -> NDArray[np.uint8]:
    """Undo `premultiplied`; colours are black where alpha is 0."""
    some = pixels[..., 3] - np.uint8(1) < _FULL - 1  # 0 wraps around to 255
    if not some.any():
        return pixels
    straight, few = pixels.copy(), pixels[some].astype(np.uint16)
    alpha = few[:, 3:]
    straight[some, :3] = np.minimum((few[:, :3] * _FULL + alpha // 2) // alpha, _FULL)
    return straight


def encoded(pixels: Pixels, *, quality: int | None) -> bytes | None:
    """A tile as WEBP; None where nothing is seen.

    Args:
        pixels: those of the tile.
        quality: 0 to 100; None is lossless.
    """
    alpha = pixels[..., 3]
    if not alpha.any():
        return None
    is_opaque = bool((alpha == _FULL).all())
    picture = Image.fromarray(pixels[..., :3] if is_opaque else straightened(pixels))
    written = io.BytesIO()
    if quality is None:  # here quality means effort: more takes long and gains little
        picture.save(written, "WEBP", lossless=True, quality=20, method=1)
    else:
        picture.save(written, "WEBP", quality=quality, method=1)
    return written.getvalue()


def decoded(tile: bytes) -> Pixels:
    """The pixels of a WEBP."""
    with Image.open(io.BytesIO(tile), formats=["WEBP"]) as picture:
        return premultiplied(np.asarray(picture.convert("RGBA")))

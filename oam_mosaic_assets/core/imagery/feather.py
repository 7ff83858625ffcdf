"""Feathered edges: where images overlap one goes over into the other; elsewhere an image ends as it is.

An image counts the less the nearer a pixel is to its edge. A block is the mean of its chips by what they
count, so that a seam between two flights of one place is a soft one, and no image fades into nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from oam_mosaic_assets.core.imagery.blocks import BLOCK, Tile, Window
from oam_mosaic_assets.core.imagery.chip import Chip
from oam_mosaic_assets.core.imagery.pixels import Pixels

_FULL: Final = 255


def counted(pixels: Pixels, width: int) -> NDArray[np.uint8]:
    """How much each pixel of an image counts: 1 at its edge, 255 from `width` pixels on, 0 where nothing is.

    Args:
        pixels: with as many of the image around those that matter; beyond them there is nothing.
        width: of the edge, in pixels.
    """
    alpha = np.pad(pixels[..., 3], width)
    # at a straight edge half of what is near is image, and `width` pixels from it all of it
    near = np.asarray(Image.fromarray(alpha).filter(ImageFilter.BoxBlur(width))).astype(np.int16)
    inner = near[width:-width, width:-width]
    share = np.clip(2 * inner - _FULL, 1, _FULL).astype(np.uint8)
    share[pixels[..., 3] == 0] = 0
    return share


def composed(block: Tile, chips: Iterable[Chip]) -> Pixels:
    """A block, from chips that say how much they count; the first lies on top.

    What is seen at all is the same as without feathers.
    """
    whole = Window.of_block(block)
    mixed = np.zeros((BLOCK, BLOCK, 4), np.float32)
    through = np.ones((BLOCK, BLOCK), np.float32)
    for chip in chips:
        window, counts = chip.window, chip.counts
        if counts is None:
            raise ValueError("a chip does not say how much it counts")
        rows = slice(window.y0 - whole.y0, window.y1 - whole.y0)
        columns = slice(window.x0 - whole.x0, window.x1 - whole.x0)
        place = mixed[rows, columns]
        place += chip.pixels * (counts / np.float32(_FULL) * (1.0 - place[..., 3] / _FULL))[..., None]
        through[rows, columns] *= 1.0 - chip.pixels[..., 3] / np.float32(_FULL)
    alpha = mixed[..., 3]
    mixed *= ((1.0 - through) * _FULL / np.where(alpha > 0.0, alpha, 1.0))[..., None]
    seen: Pixels = (mixed + 0.5).astype(np.uint8)
    return seen

"""Feathered edges: where images overlap, one fades into the other; elsewhere an image keeps its sharp edge.

A pixel's weight falls towards the edge of its image. A block blends its chips by weight, from the top down,
so that the seam between two flights over the same place is soft, and no image fades into nothing.
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
    """Each pixel's weight: 1 at the image's edge, 255 from `width` pixels inwards, 0 where nothing is seen.

    Args:
        pixels: those of interest with a margin of `width` around them; what is beyond counts as empty.
        width: of the feathered edge, in pixels.
    """
    alpha = np.pad(pixels[..., 3], width)
    # at a straight edge the image fills half of the blur's box, and all of it `width` pixels further in
    near = np.asarray(Image.fromarray(alpha).filter(ImageFilter.BoxBlur(width))).astype(np.int16)
    inner = near[width:-width, width:-width]
    share = np.clip(2 * inner - _FULL, 1, _FULL).astype(np.uint8)
    share[pixels[..., 3] == 0] = 0
    return share


def composed(block: Tile, chips: Iterable[Chip]) -> Pixels:
    """Compose a block from chips that have weights; the first lies on top.

    Its alpha is the same as without feathering.
    """
    whole = Window.of_block(block)
    mixed = np.zeros((BLOCK, BLOCK, 4), np.float32)
    through = np.ones((BLOCK, BLOCK), np.float32)
    for chip in chips:
        window, counts = chip.window, chip.counts
        if counts is None:
            raise ValueError("a chip has no weights")
        part = window.within(whole)
        place = mixed[part]
        place += chip.pixels * (counts / np.float32(_FULL) * (1.0 - place[..., 3] / _FULL))[..., None]
        through[part] *= 1.0 - chip.pixels[..., 3] / np.float32(_FULL)
    alpha = mixed[..., 3]
    mixed *= ((1.0 - through) * _FULL / np.where(alpha > 0.0, alpha, 1.0))[..., None]
    seen: Pixels = (mixed + 0.5).astype(np.uint8)
    return seen

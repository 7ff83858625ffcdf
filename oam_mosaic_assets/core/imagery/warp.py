"""Warping an image onto the pixel grid: where each pixel falls in the image, and what is seen there.

Points are projected exactly every `STEP` pixels and interpolated in between, on a lattice that is the same
for all windows, so what a pixel shows does not depend on the window it is read in.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oam_mosaic_assets.core.imagery.blocks import STEP, WORLD, Window
from oam_mosaic_assets.core.imagery.pixels import Pixels, as_picture

Places = NDArray[np.float64]
"""Columns and rows in an image, shape (2, height, width); its first pixel spans 0 to 1. Values that are not
finite mean nowhere."""

HALF_WORLD: Final = 20037508.342789244
"""Metres of EPSG:3857 from the centre of the map to its edge."""

_FRAME: Final = 2
"""Empty pixels around an image, into which it fades."""


def lattice(window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points that are projected exactly: x and y in EPSG:3857, metres, each of shape (rows, columns).

    Args:
        window: its edges are on multiples of `STEP`.
    """
    metres = 2.0 * HALF_WORLD / WORLD
    x = np.arange(window.x0, window.x1 + 1, STEP) * metres - HALF_WORLD
    y = HALF_WORLD - np.arange(window.y0, window.y1 + 1, STEP) * metres
    columns, rows = np.meshgrid(x, y)
    return columns, rows


def seen(image: Pixels, nodes: Places) -> Pixels:
    """What a window shows of an image: each of its pixels is interpolated from the nearest four of the image.

    Beyond the image there is nothing, so its edge fades over one of its pixels.

    Args:
        image: the image's pixels.
        nodes: the points of the window's lattice, as places in the image.
    """
    height, width, _ = image.shape
    framed = np.zeros((height + 2 * _FRAME, width + 2 * _FRAME, 4), np.uint8)
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = image
    rows, columns = nodes.shape[1] - 1, nodes.shape[2] - 1
    corners = np.stack(  # north-west, south-west, south-east, north-east: the order that Pillow expects
        [nodes[:, :-1, :-1], nodes[:, 1:, :-1], nodes[:, 1:, 1:], nodes[:, :-1, 1:]], axis=-1
    )
    low, high = corners.min(axis=-1), corners.max(axis=-1)
    size = np.array([width, height])[:, None, None]
    with np.errstate(invalid="ignore"):  # a cell with a corner that is nowhere shows nothing
        reach = ((low < size + 1.0) & (high > -1.0) & np.isfinite(low) & np.isfinite(high)).all(axis=0)
    mesh = [
        (
            (column * STEP, row * STEP, (column + 1) * STEP, (row + 1) * STEP),
            (corners[:, row, column].T + _FRAME).ravel().tolist(),
        )
        for row, column in np.argwhere(reach).tolist()
    ]
    if not mesh:
        return np.zeros((rows * STEP, columns * STEP, 4), np.uint8)
    shape = (columns * STEP, rows * STEP)
    laid = as_picture(framed).transform(shape, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR, fill=1)
    return np.asarray(laid)

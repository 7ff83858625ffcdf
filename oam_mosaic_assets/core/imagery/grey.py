"""Footprints in grey in place of images: at the upper zooms of a hybrid, or until an image is read."""

from __future__ import annotations

from typing import Final

import numpy as np

from oam_mosaic_assets.core.coverage import GREY, OPACITY, CoveragePlan
from oam_mosaic_assets.core.imagery.pixels import Pixels, premultiplied

LAST_GREY: Final = 10
"""The last zoom at which a hybrid shows footprints; at finer ones images are larger than specks."""

GREY_PLAN: Final = CoveragePlan(way="exact", zoom_max=LAST_GREY, format="webp")
"""How a hybrid's upper zooms are drawn: every pixel that a footprint overlaps."""

HINT: Final[Pixels] = premultiplied(np.array([[[*GREY, round(OPACITY * 255)]]], np.uint8))
"""A pixel of an image that is not shown, in the same grey."""

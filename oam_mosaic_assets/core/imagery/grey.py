"""Where images are, in grey, where what they show is not: above a zoom, or until it is read."""

from __future__ import annotations

from typing import Final

import numpy as np

from oam_mosaic_assets.core.coverage import GREY, OPACITY, CoveragePlan
from oam_mosaic_assets.core.imagery.pixels import Pixels, premultiplied

LAST_GREY: Final = 10
"""The last zoom of a hybrid that shows where images are; below it they are larger than specks."""

GREY_PLAN: Final = CoveragePlan(way="exact", zoom_max=LAST_GREY, format="webp")
"""Of a hybrid's upper zooms: the pixels that footprints have something in."""

HINT: Final[Pixels] = premultiplied(np.array([[[*GREY, round(OPACITY * 255)]]], np.uint8))
"""A pixel of an image that is not shown, of the same grey."""

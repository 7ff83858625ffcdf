"""A small picture of the world with the images on it: enough to see at a glance that the mosaic is well.

Equal Earth projection (B. Šavrič, T. Patterson, B. Jenny, 2018): areas are true to each other, so that no
continent's imagery looks like more than it is. The world is cut at 169 W, in the Bering Strait.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.land import CUT, LAND, WATER

WIDTH: Final = 960
HEIGHT: Final = 474
"""Pixels."""

MARGIN: Final = 6
"""Pixels between the world and the picture's edge."""

FINE: Final = 3
"""Everything is drawn this much larger and then reduced, which smooths its edges."""

STEP: Final = 12
ROW: Final = 10
"""Fine pixels from dot to dot, and from a row of dots to the next; odd rows are shifted by half a step."""

COLOURS: Final = 96

SPACE, SEA, SHELF, GRID, RIM = (16, 32, 54), (16, 32, 54), (24, 46, 72), (30, 52, 80), (60, 90, 125)
LAND_DARK, LAND_LIGHT = np.array([46, 68, 92.0]), np.array([66, 92, 118.0])
EMBER: Final = np.array([[255, 122, 40], [255, 176, 66], [255, 226, 140], [255, 255, 240]], dtype=float)
GLOW = (255, 120, 30)

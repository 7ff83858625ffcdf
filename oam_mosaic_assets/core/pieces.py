"""What a tile shows of an outline: cut at its edges, buffer included, and rounded to its grid.

Polygons in tile units, x to the east and y to the south, origin at the tile's north-western corner.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.cutting import cut_to_square
from oam_mosaic_assets.core.grid import Geometries, mended
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT

MARGIN: Final = round(BUFFER * EXTENT)
"""Tile units that are drawn beyond a tile's edge."""

_WIDENED: Final = 2.0
"""Tile units by which an outline is moved out where rounding would leave nothing of it."""

_MITRE: Final = 1.25
"""How many times as far its tips may reach then: on the grid they may lie a unit farther, and an outline
may lie four from its footprint."""

DRAWN: Final = shapely.box(-MARGIN, -MARGIN, EXTENT + MARGIN, EXTENT + MARGIN)
"""What a tile draws: of an image that covers it, the piece."""


def moved(geometries: Geometries, offset: NDArray[np.int64], scale: float = 1.0) -> Geometries:
    """Geometries scaled, and then each moved by an offset of its own; of shape (n, 2)."""
    points, of = shapely.get_coordinates(geometries, return_index=True)
    found: Geometries = shapely.set_coordinates(geometries.copy(), points * scale + offset[of])
    return found


def cut_to_tile(local: Geometries) -> Geometries:
    """What a tile draws of areas; not yet on its grid. Nothing may be left of some, or lines and points."""
    return cut_to_square(local, -MARGIN, EXTENT + MARGIN)


def on_the_grid(local: Geometries, *, spikes: bool = False) -> tuple[Geometries, NDArray[np.int64]]:
    """Valid polygons of whole numbers that stand for areas, and the index of the area of each.

    Args:
        local: in tile units.
        spikes: whether what has parts that are too thin is drawn wider, all of it, and not without them.
    """
    polygon, of = polygons_of(local)
    rounded = shapely.transform(polygon, np.rint)
    # what rounding folds is put on the grid with care; what is lost by that, widened
    lost = folded = ~shapely.is_valid(rounded)
    if not spikes:
        rounded[folded] = shapely.set_precision(mended(polygon[folded]), 1.0)
        lost = shapely.is_empty(rounded)
    wide = shapely.buffer(polygon[lost], _WIDENED, join_style="mitre", mitre_limit=_MITRE)
    rounded[lost] = shapely.set_precision(wide, 1.0)
    polygon, again = polygons_of(rounded)
    return polygon, of[again]


def united(polygons: Geometries, of: NDArray[np.int64]) -> tuple[Geometries, NDArray[np.int64]]:
    """Polygons of whole numbers, as few as possible for each area: touching ones become one.

    Args:
        polygons: valid.
        of: the area of each, ascending.
    """
    begins = np.flatnonzero(np.diff(of, prepend=-1))
    several = begins[np.diff(begins, append=len(of)) > 1]
    if not len(several):
        return polygons, of
    found, left = polygons.copy(), np.ones(len(of), np.bool_)
    for begin in several.tolist():
        some = slice(begin, np.searchsorted(of, of[begin], side="right"))
        found[begin], left[some] = shapely.union_all(polygons[some], grid_size=1.0), False
        left[begin] = True
    parts, again = polygons_of(found[left])
    return parts, of[left][again]


def polygons_of(geometries: Geometries) -> tuple[Geometries, NDArray[np.int64]]:
    """The polygons that geometries consist of, and which each belongs to; points and lines are left out."""
    parts, of = geometries, np.arange(len(geometries))
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():  # collections hold multipolygons
        parts, again = shapely.get_parts(parts, return_index=True)
        of = of[again]
    solid = shapely.area(parts) > 0.0
    return parts[solid], of[solid]

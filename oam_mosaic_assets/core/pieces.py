"""The piece of an outline that a tile shows: cut at its edges, buffer included, and rounded to its grid.

Polygons are in tile units, x to the east and y to the south, origin at the tile's north-western corner.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.cutting import MOST_CORNERS, cut_to_square, cut_up
from oam_mosaic_assets.core.grid import Geometries, mended
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT

MARGIN: Final = round(BUFFER * EXTENT)
"""The buffer, in tile units: how far a tile draws beyond its edges."""

_WIDENED: Final = 2.0
"""Tile units by which an outline is widened where rounding would leave nothing of it."""

_MITRE: Final = 1.25
"""Mitre limit of that widening: rounding may move tips a unit farther, and an outline may stray at most four
units from its footprint."""

_DOT: Final = 1.0
"""Tile units: what is no larger may be widened as its hull, and still stray no farther."""

DRAWN: Final = shapely.box(-MARGIN, -MARGIN, EXTENT + MARGIN, EXTENT + MARGIN)
"""The area that a tile draws, which is also the piece of an image that covers it."""


def moved(geometries: Geometries, offset: NDArray[np.int64], scale: float = 1.0) -> Geometries:
    """The geometries, scaled, then each moved by its own offset; offsets have shape (n, 2)."""
    points, of = shapely.get_coordinates(geometries, return_index=True)
    found: Geometries = shapely.set_coordinates(geometries.copy(), points * scale + offset[of])
    return found


def cut_to_tile(local: Geometries) -> Geometries:
    """Cut areas to what a tile draws, not yet on its grid. Some may become empty, or lines and points."""
    return cut_to_square(local, -MARGIN, EXTENT + MARGIN)


def on_the_grid(local: Geometries, *, spikes: bool = False) -> tuple[Geometries, NDArray[np.int64]]:
    """Valid polygons with integer coordinates that represent areas, and the index of each one's area.

    Args:
        local: areas in tile units.
        spikes: whether a polygon with parts too thin for the grid is widened as a whole, instead of losing
            those parts.
    """
    polygon, of = polygons_of(local)
    rounded = shapely.transform(polygon, np.rint)
    # what rounding folds is widened; without `spikes`, only what vanishes when it is snapped robustly
    lost = folded = ~shapely.is_valid(rounded)
    if not spikes:
        rounded[folded] = shapely.set_precision(mended(polygon[folded]), 1.0)
        lost = shapely.is_empty(rounded)
    rounded[lost] = _widened(polygon[lost])
    polygon, again = polygons_of(rounded)
    return polygon, of[again]


def _widened(polygons: Geometries) -> Geometries:
    """Polygons, widened and put on the grid."""
    found, many = polygons.copy(), shapely.get_num_coordinates(polygons) > MOST_CORNERS
    found[~many] = shapely.set_precision(_moved_out(polygons[~many]), 1.0)
    for which in np.flatnonzero(many).tolist():
        (area,) = mended(polygons[[which]])
        pieces = np.array([*cut_up(area, _DOT)], dtype=object)
        found[which] = shapely.union_all(_moved_out(pieces), grid_size=1.0)
    return found


def _moved_out(areas: Geometries) -> Geometries:
    wide: Geometries = shapely.buffer(areas, _WIDENED, join_style="mitre", mitre_limit=_MITRE)
    return wide


def united(polygons: Geometries, of: NDArray[np.int64]) -> tuple[Geometries, NDArray[np.int64]]:
    """The polygons, with those of each area that touch merged, and the index of each one's area.

    Args:
        polygons: valid, with integer coordinates.
        of: index of each one's area, ascending.
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
    """The polygons in geometries, and the index of each one's geometry; points and lines are left out."""
    parts, of = geometries, np.arange(len(geometries))
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():  # collections hold multipolygons
        parts, again = shapely.get_parts(parts, return_index=True)
        of = of[again]
    solid = shapely.area(parts) > 0.0
    return parts[solid], of[solid]

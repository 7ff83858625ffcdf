"""What a tile shows of an outline: cut at its edges, buffer included, and rounded to its grid.

Polygons in tile units, x to the east and y to the south, origin at the tile's north-western corner.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import GEOSException

from oam_mosaic_assets.core.grid import Geometries, mended
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT

MARGIN: Final = round(BUFFER * EXTENT)
"""Tile units that are drawn beyond a tile's edge."""

_WIDENED: Final = 2.0
"""Tile units by which an outline is moved out where rounding would leave nothing of it."""

_MITRE: Final = 2.0
"""How many times as far its tips may reach then: as far as an outline may lie from its footprint."""

_NEAR: Final = 1e-6
"""Tile units: far more than arithmetic is wrong by, far less than anybody draws."""

DRAWN: Final = shapely.box(-MARGIN, -MARGIN, EXTENT + MARGIN, EXTENT + MARGIN)
"""What a tile draws: of an image that covers it, the piece."""


def moved(geometries: Geometries, offset: NDArray[np.int64], scale: float = 1.0) -> Geometries:
    """Geometries scaled, and then each moved by an offset of its own; of shape (n, 2)."""
    points, of = shapely.get_coordinates(geometries, return_index=True)
    found: Geometries = shapely.set_coordinates(geometries.copy(), points * scale + offset[of])
    return found


def cut_to_tile(local: Geometries) -> Geometries:
    """What a tile draws of areas; not yet on its grid. Nothing may be left of some, or lines and points."""
    west, north, east, south = shapely.bounds(local).T
    crosses = (np.minimum(west, north) < -MARGIN) | (np.maximum(east, south) > EXTENT + MARGIN)
    edge, found = np.flatnonzero(crosses), local.copy()
    close = _is_close(local[edge])
    found[edge[~close]] = _clipped(local[edge[~close]])
    found[edge[close]] = shapely.intersection(mended(local[edge[close]]), DRAWN)
    return found


def _is_close(local: Geometries) -> NDArray[np.bool_]:
    """Which areas `clip_by_rect` may cut wrong, without a word.

    It does where a corner lies on the rectangle's edge, or an edge goes through the rectangle's corner, or
    all but does so: by a few units in the last place.
    """
    half = EXTENT / 2 + MARGIN
    points, of = shapely.get_coordinates(local, return_index=True)
    points -= EXTENT / 2  # so that the rectangle's middle is the origin
    close = np.zeros(len(local), np.bool_)
    close[of[(np.abs(np.abs(points) - half) < _NEAR).any(axis=1)]] = True
    x, y = points[:-1].T
    wide, high = np.diff(points, axis=0).T
    # a line through one of its corners has a moment like that of this corner
    moment, wide, high = np.abs(wide * y - high * x), np.abs(wide), np.abs(high)
    beside = np.minimum(np.abs(moment - half * (wide + high)), np.abs(moment - half * np.abs(wide - high)))
    close[of[1:][(of[1:] == of[:-1]) & (beside < _NEAR * (wide + high))]] = True
    return close


def _clipped(local: Geometries) -> Geometries:
    found: Geometries
    try:
        found = shapely.clip_by_rect(local, *DRAWN.bounds)
    except GEOSException:  # a ring thinner than numbers can tell apart; which one is not said
        if len(local) == 1:
            found = shapely.intersection(mended(local), DRAWN)
        else:
            found = np.concatenate(list(map(_clipped, np.array_split(local, 2))))
    return found


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

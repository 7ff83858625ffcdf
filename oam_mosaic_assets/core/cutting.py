"""Areas clipped to a square, correctly even where GEOS' fast clipping goes wrong, or cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from oam_mosaic_assets.core.grid import Geometries, mended

MOST_CORNERS: Final = 500
"""What has more is widened in pieces: moved out, each of its sides may meet all the others, and then twice as
many corners take four times as long, and four times the memory."""

_MOST_OF_A_DOT: Final = 100
"""The same for what is so small that all its sides meet then."""

_NEAR: Final = 2.0**-32
"""Share of a square's side: far more than any rounding error, far less than any detail drawn."""


def cut_to_square(areas: Geometries, low: float, high: float) -> Geometries:
    """The part of each area in a square; it may touch itself, be empty, or hold lines and points.

    Args:
        areas: in any unit.
        low: where the square begins, in both x and y.
        high: where it ends.
    """
    west, north, east, south = shapely.bounds(areas).T
    crosses = (np.minimum(west, north) < low) | (np.maximum(east, south) > high)
    edge, found = np.flatnonzero(crosses), areas.copy()
    close = _is_close(areas[edge], low, high)
    square = shapely.box(low, low, high, high)
    found[edge[~close]] = _clipped(areas[edge[~close]], square)
    # of an outline that crosses itself, clipping may leave the whole square
    close |= shapely.area(found[edge]) > shapely.area(areas[edge]) * (1.0 + _NEAR)
    found[edge[close]] = shapely.intersection(mended(areas[edge[close]]), square)
    return found


def _is_close(areas: Geometries, low: float, high: float) -> NDArray[np.bool_]:
    """Which areas `clip_by_rect` may silently clip wrong.

    It may where a corner of the area lies on the square's edge, or an edge of it passes through the square's
    corner: exactly, or to within a few units in the last place.
    """
    half, near = (high - low) / 2, _NEAR * (high - low)
    points, of = shapely.get_coordinates(areas, return_index=True)
    points -= (low + high) / 2  # so that the square's middle is the origin
    close = np.zeros(len(areas), np.bool_)
    close[of[(np.abs(np.abs(points) - half) < near).any(axis=1)]] = True
    x, y = points[:-1].T
    wide, tall = np.diff(points, axis=0).T
    # every point of a line through one of its corners has the same moment as that corner
    moment, wide, tall = np.abs(wide * y - tall * x), np.abs(wide), np.abs(tall)
    beside = np.minimum(np.abs(moment - half * (wide + tall)), np.abs(moment - half * np.abs(wide - tall)))
    close[of[1:][(of[1:] == of[:-1]) & (beside < near * (wide + tall))]] = True
    return close


def _clipped(areas: Geometries, square: shapely.Polygon) -> Geometries:
    found: Geometries
    try:
        found = shapely.clip_by_rect(areas, *square.bounds)
    except GEOSException:  # a ring too thin for floating point; GEOS does not say which
        if len(areas) == 1:
            found = shapely.intersection(mended(areas), square)
        else:
            found = np.concatenate([_clipped(some, square) for some in np.array_split(areas, 2)])
    return found


def cut_up(area: BaseGeometry, dot: float) -> Iterator[BaseGeometry]:
    """An area as it is if it has few corners, else in pieces that have; a dot becomes its hull.

    Args:
        area: valid, in any unit.
        dot: what is no larger than this, in x and y, is a dot.
    """
    west, south, east, north = area.bounds
    corners = shapely.get_num_coordinates(area)
    if max(east - west, north - south) <= dot:
        yield area if corners <= _MOST_OF_A_DOT else area.convex_hull
    elif corners <= MOST_CORNERS:
        yield area
    else:
        x, y = (west + east) / 2.0, (south + north) / 2.0
        is_wide = east - west > north - south
        for half in (
            (west, south, x, north) if is_wide else (west, south, east, y),
            (x, south, east, north) if is_wide else (west, y, east, north),
        ):
            piece = area.intersection(shapely.box(*half))
            if not piece.is_empty:
                yield from cut_up(piece, dot)

"""Areas clipped to a square, correctly even where GEOS' fast clipping to a rectangle goes wrong."""

from __future__ import annotations

from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import GEOSException

from oam_mosaic_assets.core.grid import Geometries, mended

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

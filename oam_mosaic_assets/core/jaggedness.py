"""How often two outlines that are as jagged as each other can cross, which is what joining them costs.

A comb crosses another that is turned by a right angle wherever a tooth meets a tooth: to join two valid
outlines of 3,200 corners can take gigabytes. The number of corners does not tell; thousands along a coast are
harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

Sides = NDArray[np.float64]
"""Both ends of each side; shape (n, 2, 2), in the unit of the geometry."""

_CROWDED: Final = 16
"""Sides in a square; no more than these cross each side of another outline only a few times."""

_SMALLEST: Final = 2.0**-40
"""Degrees, a tenth of a micrometre; in smaller squares, rounding decides how long a side is."""


def sides_of(areas: Sequence[BaseGeometry]) -> Sides:
    """The sides of all rings of polygons."""
    rings = shapely.get_rings(shapely.get_parts(areas))
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    sides: Sides = np.stack([corners[:-1], corners[1:]], axis=1)[ring[:-1] == ring[1:]]
    return sides


def could_cross(area: BaseGeometry, *, enough: float) -> float:
    """About how often an outline could cross another that is as jagged, wherever that lies.

    Two outlines that are a and b times as long within a square as its side cross about a * b times in it, if
    they are perpendicular. So this is the sum of a * a over the crowded squares of a grid. The first grid is
    one square around the area, each other one has squares half as wide; the largest sum counts.

    Args:
        area: EPSG:4326.
        enough: once a sum is larger, no finer grids are tried.
    """
    if shapely.get_num_coordinates(area) <= _CROWDED:
        return 0.0  # as for nearly all
    west, south, east, north = shapely.bounds(area).tolist()
    sides, square, most = sides_of([area]), max(east - west, north - south), 0.0
    while len(sides) > _CROWDED and square > _SMALLEST and most <= enough:
        sides = _no_longer_than(square, sides)
        # column and row as one number, so that equal ones are found fast
        cells = np.floor((sides.mean(axis=1) - (west, south)) / square) @ (1.0, 1.0j)
        _, cell, held = np.unique(cells, return_inverse=True, return_counts=True)
        times_as_long = np.bincount(cell, _lengths(sides)) / square
        is_crowded = held > _CROWDED
        most = max(most, float((times_as_long[is_crowded] ** 2).sum()))
        sides, square = sides[is_crowded[cell]], square / 2.0
    return most


def _no_longer_than(length: float, sides: Sides) -> Sides:
    """The sides, with those that are up to twice as long halved."""
    is_long = _lengths(sides) > length
    first, last = sides[is_long, :1], sides[is_long, 1:]
    middle = (first + last) / 2.0
    return np.concatenate([sides[~is_long], np.hstack([first, middle]), np.hstack([middle, last])])


def _lengths(sides: Sides) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(sides[:, 1] - sides[:, 0], axis=1)
    return lengths

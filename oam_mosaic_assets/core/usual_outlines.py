"""Outlines as nearly all are, small and of one ring that needs no repair: hundreds are read together.

`geometry.drawable` reads every outline that there may be, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from oam_mosaic_assets.core.geometry import ANTIMERIDIAN, HARDLY_AN_AREA, MERCATOR_LATITUDE

_CLOSED: Final = 4
"""The fewest points of a closed ring."""

_SMALL: Final = 1.0
"""Degrees; what is no wider and no higher is too large nowhere on the map."""


def usual_areas(geometries: Iterable[object]) -> list[Polygon | None]:
    """The areas of those geometries that are as usual, exactly as `drawable` reads them; None for the others.

    Args:
        geometries: what items have as their geometries: GeoJSON objects, EPSG:4326, if all is well.
    """
    rings = [_only_ring(each) for each in geometries]
    areas: list[Polygon | None] = [None] * len(rings)
    given = np.flatnonzero([len(ring) > 0 for ring in rings])
    if not len(given):
        return areas
    points = np.array([point[:2] for ring in rings for point in ring])
    ring_of = np.repeat(np.arange(len(given)), [len(ring) for ring in rings if ring])
    is_clean = _need_no_repair(points, np.flatnonzero(np.diff(ring_of, prepend=-1)))
    used = is_clean[ring_of]
    outlines = shapely.linearrings(points[used], indices=(np.cumsum(is_clean) - 1)[ring_of[used]])
    polygons = np.asarray(shapely.orient_polygons(shapely.polygons(outlines)))
    is_usual = shapely.is_valid(polygons) & (shapely.area(polygons) > HARDLY_AN_AREA)
    for index, area in zip(given[is_clean][is_usual].tolist(), polygons[is_usual], strict=True):
        areas[index] = area
    return areas


def _only_ring(geometry: object) -> Sequence[Any]:
    """The positions of a polygon's only ring, if all are floating-point numbers; nothing of all else."""
    match geometry:
        case {"type": "Polygon", "coordinates": [list(ring)]} if len(ring) >= _CLOSED:
            are_lists = {*map(type, ring)} == {list} and min(map(len, ring)) > 1
            if are_lists and {*map(type, chain.from_iterable(ring))} == {float}:
                return ring
    return ()


def _need_no_repair(points: NDArray[np.float64], firsts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rings are closed, repeat no point, and are small and well within the map.

    Args:
        points: longitude and latitude, ring after ring.
        firsts: index of the first point of each ring.
    """
    lasts = np.append(firsts[1:], len(points)) - 1
    closed = (points[firsts] == points[lasts]).all(axis=1)
    repeats = (points[1:] == points[:-1]).all(axis=1)
    repeats[lasts[:-1]] = False  # a ring may begin where another ends
    least, most = np.minimum.reduceat(points, firsts), np.maximum.reduceat(points, firsts)
    limits = np.array([ANTIMERIDIAN, MERCATOR_LATITUDE])
    with np.errstate(invalid="ignore"):  # of infinite numbers; like all that are none, they fail
        small = ((least >= -limits) & (most <= limits) & (most - least <= _SMALL)).all(axis=1)
    found: NDArray[np.bool_] = closed & small & ~np.logical_or.reduceat(np.append(repeats, False), firsts)
    return found

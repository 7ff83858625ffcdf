"""Where the images of a snapshot lie on the map: as polygons, and as the pixels they touch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import shapely

from oam_mosaic_assets.core.grid import Geometries, mended, project, tiles_between
from oam_mosaic_assets.core.pixels import Numbers, Pixels, pixels_touched
from oam_mosaic_assets.core.snapshot import read_batches

_STEPS: Final = 2.0**46
"""Steps of half a micrometre along the map's side; edges of tiles and pixels lie on them."""

_TOGETHER: Final = 64
"""Sets of pixels that are collected before they are joined."""


def parts_on_the_map(footprints: Path) -> Iterator[Geometries]:
    """The polygons of all footprints in drawing order, in tile coordinates of zoom 0, in batches; valid."""
    for batch in read_batches(footprints, ("geometry",)):
        yield polygons_of(shapely.from_wkb(batch["geometry"].to_numpy()))


def polygons_of(areas: Geometries) -> Geometries:
    """The polygons that areas (EPSG:4326) consist of, in tile coordinates of zoom 0; valid, none empty.

    The halves of an image at the antimeridian lie a world apart and are two polygons. Coordinates are
    rounded, as projecting puts a corner on a tile's edge a little beside it: an image that is aligned with
    tiles, as web-optimised COGs are, must not overlap their neighbours by that.
    """
    aligned = shapely.transform(project(areas, 0), lambda points: np.rint(points * _STEPS) / _STEPS)
    parts = shapely.get_parts(mended(aligned))
    found: Geometries = parts[~shapely.is_empty(parts)]
    return found


def cells_reached(parts: Geometries, zoom: int) -> tuple[Numbers, Numbers, Numbers]:
    """Pairs of a part and a tile that its bounding box overlaps: the part's index, column, row."""
    frames = shapely.bounds(parts) * float(1 << zoom)
    west, north = np.clip(np.floor(frames[:, :2]), 0, (1 << zoom) - 1).astype(np.int64).T
    # a box that ends where a tile begins does not overlap that tile, but the one before
    east, south = (
        np.clip(np.ceil(frames[:, 2:]), np.column_stack([west, north]) + 1, 1 << zoom).astype(np.int64).T
    )
    return tiles_between(west, north, east, south)


def where_images_lie(footprints: Path, side: int) -> Pixels:
    """Every pixel that a footprint overlaps.

    Args:
        footprints: the GeoParquet.
        side: the map's side, in pixels.
    """
    found: list[Pixels] = [Pixels.union(side, [])]
    for parts in parts_on_the_map(footprints):
        gather(found, pixels_touched(parts, side, scale=float(side)))
    return Pixels.union(side, found)


def gather(sets: list[Pixels], more: Pixels) -> None:
    """Add a set to others that will be joined; once there are `_TOGETHER` of them, join them."""
    sets.append(more)
    if len(sets) >= _TOGETHER:
        sets[:] = [Pixels.union(more.side, sets)]

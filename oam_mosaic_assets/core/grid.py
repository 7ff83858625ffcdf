"""The grid of Web Mercator XYZ tiles: from longitude and latitude to tiles, from PMTiles ids and back.

Tile coordinates at zoom z run from 0 to 2**z, x to the east, y to the south, origin at 180 degrees west and
85.0511287798065 degrees north (EPSG:3857's square); the tile (x, y) covers [x, x+1) x [y, y+1).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray
from pmtiles.tile import tileid_to_zxy

Geometries = NDArray[np.object_]
"""An array of shapely geometries."""


def first_tile_id(zoom: int) -> int:
    """The PMTiles id of a zoom's first tile; its 4**zoom ids follow its Hilbert curve from there."""
    return ((1 << 2 * zoom) - 1) // 3


def zoom_of(tile_id: int) -> int:
    """The zoom that a PMTiles tile id belongs to."""
    zoom: int = ((3 * tile_id + 1).bit_length() - 1) // 2
    return zoom


def tile_name(tile_id: int) -> str:
    """A tile as people write it: zoom/column/row."""
    return "/".join(map(str, tileid_to_zxy(tile_id)))


def tile_positions(tile_ids: NDArray[np.int64], zoom: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of tiles of one zoom, from their PMTiles ids.

    Source: the Hilbert curve as PMTiles 3 defines it, walked from the lowest bit up for all ids at once.
    """
    rest = tile_ids - first_tile_id(zoom)
    x = np.zeros_like(rest)
    y = np.zeros_like(rest)
    for bit in range(zoom):
        side = 1 << bit
        right = (rest >> 1) & 1
        down = (rest ^ right) & 1
        flip = (down == 0) & (right == 1)
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(down == 0, y, x), np.where(down == 0, x, y)
        x += side * right
        y += side * down
        rest >>= 2
    return x, y


def tile_ids(zoom: int, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """PMTiles ids of tiles of one zoom, from their columns and rows; the inverse of `tile_positions`."""
    x, y = x.astype(np.int64), y.astype(np.int64)
    along = np.zeros_like(x)
    for bit in reversed(range(zoom)):
        side = 1 << bit
        right, down = (x & side) >> bit, (y & side) >> bit
        along += ((3 * right) ^ down) << 2 * bit
        x, y = x & side - 1, y & side - 1
        flip = (down == 0) & (right == 1)
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(down == 0, y, x), np.where(down == 0, x, y)
    along += first_tile_id(zoom)
    return along


def pairs_of(
    image: NDArray[np.int32 | np.int64], x: NDArray[np.int64], y: NDArray[np.int64], zoom: int
) -> NDArray[np.int64]:
    """Pairs of image and tile of one zoom, each encoded as a number that sorts by image, row, column.

    Args:
        image: index of the image; below 2**27 at zoom 18.
        x: the tile's column.
        y: the tile's row.
    """
    pairs = image.astype(np.int64) << (2 * zoom)
    pairs |= y << zoom
    pairs |= x
    return pairs


def apart(
    pairs: NDArray[np.int64], zoom: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Image, column and row of the pairs that `pairs_of` encoded."""
    mask = (1 << zoom) - 1
    return pairs >> (2 * zoom), pairs & mask, (pairs >> zoom) & mask


def to_tiles(lonlat: NDArray[np.float64], zoom: int) -> NDArray[np.float64]:
    """Tile coordinates of points.

    Args:
        lonlat: shape (n, 2), degrees, EPSG:4326.

    Returns:
        shape (n, 2), tile coordinates at the zoom.
    """
    sine = np.sin(np.radians(lonlat[:, 1]))
    north = np.arctanh(np.clip(sine, -1.0 + 1e-15, 1.0 - 1e-15))
    return np.column_stack([lonlat[:, 0] / 360.0 + 0.5, 0.5 - north / (2.0 * np.pi)]) * 2.0**zoom


def project(geometries: Geometries, zoom: int) -> Geometries:
    """Project geometries from EPSG:4326 to tile coordinates of the zoom."""
    projected: Geometries = shapely.transform(geometries, lambda lonlat: to_tiles(lonlat, zoom))
    return projected


def project_mended(geometries: Geometries, zoom: int) -> Geometries:
    """The same, made valid: rings that nearly touch may cross when they are projected."""
    return mended(project(geometries, zoom))


def mended(geometries: Geometries) -> Geometries:
    """The same areas, made valid where they are not."""
    found, crossed = geometries.copy(), ~shapely.is_valid(geometries)
    found[crossed] = shapely.make_valid(found[crossed], method="structure", keep_collapsed=False)
    return found


def on_both_sides(
    parts: Geometries, of: NDArray[np.int64], reach: float
) -> tuple[Geometries, NDArray[np.int64]]:
    """Geometries, with those near the antimeridian repeated on the other side of the map.

    Args:
        parts: in tile coordinates of zoom 0.
        of: a number for each, returned alongside it.
        reach: how close counts as near, in tiles of zoom 0.
    """
    west, _, east, _ = shapely.bounds(parts).T
    sides = [(parts, of)]
    for aside, near in ((1.0, west <= reach), (-1.0, east >= 1.0 - reach)):
        sides.append((shapely.transform(parts[near], partial(np.add, [aside, 0.0])), of[near]))
    return np.concatenate([each[0] for each in sides]), np.concatenate([each[1] for each in sides])


def tiles_between(
    west: NDArray[np.int64], north: NDArray[np.int64], east: NDArray[np.int64], south: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All tiles of rectangular frames: index of the frame, column, row; frame by frame, row by row.

    Args:
        west: first column of each frame.
        north: first row.
        east: the column after the last one.
        south: the row after the last one.
    """
    columns = east - west
    count = columns * (south - north)
    which = np.repeat(np.arange(len(count)), count)
    ordinal = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    return which, west[which] + ordinal % columns[which], north[which] + ordinal // columns[which]

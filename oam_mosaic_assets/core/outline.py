"""What an archive's directories say without any tile: the coverage as an outline, and where some tile is.

Tiles exist only where images lie, so the outline is those of a middle zoom, dissolved.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.archive import HEADER_LENGTH, BrokenArchive, read_header
from oam_mosaic_assets.core.directory import LARGEST_ROOT, BrokenDirectory, Directory, Numbers
from oam_mosaic_assets.core.grid import first_tile_id, tile_name, tile_positions
from oam_mosaic_assets.core.tiling import PIXELS, TilingPlan

DEEPEST_OUTLINE: Final = 12
"""The deepest zoom whose tiles may form the outline; they are 10 km wide at the equator."""

LARGEST_OUTLINE: Final = 100_000
"""The most bytes as JSON; editors load the outlines of a thousand layers at once."""

_MOST_TILES: Final = 20_000
"""The most tiles to dissolve; the outline of more would never fit."""

_DECIMALS: Final = 5
"""Decimal places of a degree: about a metre."""

_BEYOND: Final = 0.5 / PIXELS
"""In tiles: how far beyond the tile that holds its middle an image smaller than a pixel may reach. At the low
zooms, no other tile counts it."""

Read = Callable[[int, int], bytes]
"""Reads a byte range of the archive, given its start and length."""


def outline_of(read: Read, *, largest: int = LARGEST_OUTLINE) -> Mapping[str, Any] | None:
    """A GeoJSON MultiPolygon that contains every image of the map, made of the smallest tiles that fit.

    Args:
        read: reads the archive; only its header and its first directories are requested.
        largest: the most bytes that the outline may have as JSON; at zoom 0 it may have more.

    Returns:
        None if the archive has no tiles up to `DEEPEST_OUTLINE`, or none of its outlines fits.

    Raises:
        NoArchive: it begins like none that can be read here.
        BrokenArchive: a directory cannot be read.
    """
    header, entries = _entries(read)
    whole_from = TilingPlan(zoom_min=header["min_zoom"], zoom_max=header["max_zoom"]).whole_from
    for zoom in range(DEEPEST_OUTLINE, -1, -1):
        here = (entries.tile_id >= first_tile_id(zoom)) & (entries.tile_id < first_tile_id(zoom + 1))
        first, run = entries.tile_id[here], entries.run_length[here]
        if not 0 < run.sum() <= _MOST_TILES:
            continue
        steps = np.arange(run.sum()) - np.repeat(np.cumsum(run) - run, run)
        beyond = _BEYOND if zoom < whole_from else 0.0
        outline = _dissolved(*tile_positions(np.repeat(first, run) + steps, zoom), zoom, beyond)
        if zoom == 0 or len(json.dumps(outline, separators=(",", ":"))) <= largest:
            return outline
    return None


def some_tile(read: Read) -> str:
    """A tile that the archive has, as zoom/column/row: a deep one, which is small.

    Args:
        read: reads the archive; only its header and its root directory are requested.

    Raises:
        BrokenArchive: one of them cannot be read.
    """
    _, root = _root(read)
    if not len(root.tile_id):
        raise BrokenArchive("its root directory is empty")
    return tile_name(int(root.tile_id[-1]))  # a leaf directory's entry has the id of its first tile


def _root(read: Read) -> tuple[Mapping[str, Any], Directory]:
    """The header and the root directory."""
    head = read(0, HEADER_LENGTH + LARGEST_ROOT)
    header = read_header(head[:HEADER_LENGTH])
    start, length = header["root_offset"], header["root_length"]
    return header, _directory(head[start : start + length])


def _entries(read: Read) -> tuple[Mapping[str, Any], Directory]:
    """The header, and all tile entries of the directories that begin before the end of `DEEPEST_OUTLINE`."""
    header, root = _root(read)
    end = first_tile_id(DEEPEST_OUTLINE + 1)
    parts = [root[root.run_length > 0]]
    for leaf in np.flatnonzero((root.run_length == 0) & (root.tile_id < end)):
        if not root.length[leaf]:
            raise BrokenArchive(f"the directory of tile {root.tile_id[leaf]} has no bytes")
        begin = header["leaf_directory_offset"] + int(root.offset[leaf])
        parts.append(_directory(read(begin, int(root.length[leaf]))))
    columns = ("tile_id", "run_length", "length", "offset")
    return header, Directory(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _directory(packed: bytes) -> Directory:
    try:
        return Directory.decoded(gzip.decompress(packed))
    except (BrokenDirectory, OSError, EOFError, zlib.error) as error:
        raise BrokenArchive(f"a directory cannot be read: {error}") from None


def _dissolved(x: Numbers, y: Numbers, zoom: int, beyond: float) -> dict[str, Any]:
    """Tiles of one zoom as a MultiPolygon, EPSG:4326, without redundant corners.

    Args:
        x: their columns.
        y: their rows.
        zoom: their zoom.
        beyond: how far they are enlarged on each side, in tiles.
    """
    sides = np.clip([x - beyond, y - beyond, x + 1 + beyond, y + 1 + beyond], 0, 2**zoom)
    union = shapely.simplify(shapely.union_all(shapely.box(*sides)), 0)
    degrees = shapely.transform(union, lambda corners: _degrees(corners, zoom))
    oriented = shapely.orient_polygons(degrees)  # flipping north up reversed the rings
    parts = shapely.get_parts(oriented).tolist()
    return dict(shapely.geometry.mapping(shapely.MultiPolygon(parts)))


def _degrees(corners: NDArray[np.float64], zoom: int) -> NDArray[np.float64]:
    """Longitude and latitude of tile coordinates."""
    x, y = (corners / 2.0**zoom).T
    latitude = np.degrees(np.arctan(np.sinh(np.pi * (1.0 - 2.0 * y))))
    return np.column_stack([x * 360.0 - 180.0, latitude]).round(_DECIMALS)

"""Reading tippecanoe's MBTiles, for `merging` to make an archive of.

Tippecanoe makes MBTiles whatever it is asked for, and takes three times as long as this project to turn them
into PMTiles. Source: the MBTiles specification 1.3.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from oam_mosaic_assets.core.directory import Directory, Numbers
from oam_mosaic_assets.core.grid import tile_ids
from oam_mosaic_assets.core.merging import Source

_BATCH: Final = 16_384
"""Tiles whose ids are worked out together."""


class BrokenTiles(ValueError):
    """The file is no whole MBTiles; the message says what is wrong."""


def read_tiles(mbtiles: Path) -> Generator[tuple[int, int, int, bytes], None, None]:
    """Zoom, column, row from the north, and content of each tile, in no particular order.

    Raises:
        BrokenTiles: it is no MBTiles file, or not a whole one.
    """
    with closing(_opened(mbtiles)) as database:
        for zoom, x, row, content in _rows(
            database, "SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles"
        ):
            yield zoom, x, (1 << zoom) - 1 - row, content  # MBTiles counts rows from the south


def spooled(tiles: Iterable[tuple[int, int, int, bytes]], spool: IO[bytes]) -> Source:
    """Write tiles into a file, one after another, and say where each lies. `merging` sees which are equal.

    Args:
        tiles: zoom, column, row and content of each, as `read_tiles` gives them.
        spool: the file, empty; to be kept open as long as the source is used.
    """
    places, length, tile_id = array("q"), array("q"), array("q")
    for zoom, x, y, content in tiles:
        places.extend((zoom, x, y))
        length.append(len(content))
        spool.write(content)
        if len(length) % _BATCH == 0:
            tile_id.frombytes(_ids(places).tobytes())
            places = array("q")
    tile_id.frombytes(_ids(places).tobytes())
    spool.flush()
    ids, lengths = np.frombuffer(tile_id, np.int64), np.frombuffer(length, np.int64)
    offset = np.cumsum(lengths) - lengths
    order = np.argsort(ids)
    runs = np.broadcast_to(np.int64(1), ids.shape)
    return Source(spool.fileno(), Directory(ids[order], runs, lengths[order], offset[order]))


def _ids(places: array[int]) -> Numbers:
    """PMTiles ids of tiles, from zoom, column and row of each."""
    zoom, x, y = np.frombuffer(places, np.int64).reshape(-1, 3).T
    ids = np.zeros(len(zoom), np.int64)
    for each in np.unique(zoom).tolist():
        of_zoom = zoom == each
        ids[of_zoom] = tile_ids(each, x[of_zoom], y[of_zoom])
    return ids


def _opened(mbtiles: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{mbtiles.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _rows(database: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from database.execute(query)
    except sqlite3.DatabaseError as error:
        raise BrokenTiles(f"it is no whole MBTiles file: {error}") from None

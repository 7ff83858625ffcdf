"""Reading tippecanoe's MBTiles, for `merging` to make an archive of.

Tippecanoe makes MBTiles whatever it is asked for, and takes three times as long as this project to turn them
into PMTiles. Source: the MBTiles specification 1.3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any


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


def _opened(mbtiles: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{mbtiles.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _rows(database: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from database.execute(query)
    except sqlite3.DatabaseError as error:
        raise BrokenTiles(f"it is no whole MBTiles file: {error}") from None

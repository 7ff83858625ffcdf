"""Reading tippecanoe's MBTiles, from which `merging` makes an archive.

Tippecanoe makes MBTiles whatever output it is asked for, and takes three times as long as this project to
convert them to PMTiles. Source: the MBTiles specification 1.3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any


class BrokenTiles(ValueError):
    """The file is not a complete MBTiles file; the message says what is wrong."""


def read_tiles(mbtiles: Path) -> Generator[tuple[int, int, int, bytes], None, None]:
    """Zoom, column, row (counted from the north) and content of each tile, in no particular order.

    Raises:
        BrokenTiles: it is not an MBTiles file, or not a complete one.
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
        raise BrokenTiles(f"it is not a complete MBTiles file: {error}") from None

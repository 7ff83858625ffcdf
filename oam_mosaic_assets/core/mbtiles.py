"""From tippecanoe's MBTiles to a PMTiles archive (version 3), clustered and without duplicates.

Tippecanoe makes MBTiles whatever it is asked for, and takes three times as long as this to turn them into
PMTiles. Sources: the MBTiles specification 1.3, the PMTiles specification, version 3.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from pmtiles.tile import Compression, TileType, serialize_header

from oam_mosaic_assets.core.archive import HEADER_LENGTH
from oam_mosaic_assets.core.directory import Directory, Numbers, packed_directories, run_begins
from oam_mosaic_assets.core.grid import tile_ids

if TYPE_CHECKING:
    from pmtiles.tile import HeaderDict

_E7: Final = 10**7
"""PMTiles states longitudes and latitudes in whole 1e-7 degrees."""

_DIGEST_BYTES: Final = 16

_BATCH: Final = 16_384
"""Tiles whose ids are worked out together, or whose contents are written together: some 200 bytes each."""


class BrokenTiles(ValueError):
    """The file is no whole MBTiles; the message says what is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class _Spool:
    """Tiles in the order of the database, whose contents lie in a file one after another.

    Attributes:
        tile_id: of each tile.
        content: which content each tile has: numbers from 0 on, in no particular order.
        length: bytes of each tile.
        offset: in the file.
    """

    tile_id: Numbers
    content: Numbers
    length: Numbers
    offset: Numbers


def read_metadata(mbtiles: Path) -> dict[str, str]:
    """What an MBTiles file says of itself, all of it text.

    Raises:
        BrokenTiles: it is none.
    """
    with closing(_opened(mbtiles)) as database:
        return dict(_rows(database, "SELECT name, value FROM metadata"))


def write_pmtiles(
    mbtiles: Path,
    target: Path,
    metadata: Mapping[str, Any],
    *,
    low_zooms: Iterable[tuple[int, int, int, bytes]] = (),
    zoom_min: int | None = None,
) -> None:
    """Write the tiles of an MBTiles file as a PMTiles archive. Equal tiles and metadata give equal bytes.

    Args:
        mbtiles: gzipped vector tiles; its metadata state `minzoom`, `maxzoom`, `bounds` and `center`.
        target: where the archive goes; must not exist. A file beside it holds tiles until they are sorted.
        metadata: the JSON object that the archive shows to its readers.
        low_zooms: tiles of further zooms: zoom, column, row from the north, and what each holds, gzipped.
        zoom_min: the first zoom where it is another than the MBTiles'.

    Raises:
        BrokenTiles: it is no MBTiles file, or not a whole one.
    """
    stated = read_metadata(mbtiles)
    if zoom_min is not None:
        stated["minzoom"] = str(zoom_min)
    beside = target.with_name(f"{target.name}.spool")
    try:
        with beside.open("x+b") as spool, target.open("xb") as archive:
            _write(archive, spool.fileno(), _spooled(mbtiles, low_zooms, spool), stated, metadata)
    finally:
        beside.unlink(missing_ok=True)


def _spooled(mbtiles: Path, low_zooms: Iterable[tuple[int, int, int, bytes]], spool: IO[bytes]) -> _Spool:
    """Copy every tile into the spool."""
    places, length = array("q"), array("q")
    tile_id = array("q")
    digests = bytearray()

    def add(zoom: int, x: int, y: int, content: bytes) -> None:
        places.extend((zoom, x, y))
        length.append(len(content))
        digests.extend(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest())
        spool.write(content)
        if len(length) % _BATCH == 0:
            tile_id.frombytes(_ids(places).tobytes())
            del places[:]

    for tile in low_zooms:
        add(*tile)
    with closing(_opened(mbtiles)) as database:
        for zoom, column, row, content in _rows(
            database, "SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles"
        ):
            add(zoom, column, (1 << zoom) - 1 - row, content)  # MBTiles counts rows from the south
    tile_id.frombytes(_ids(places).tobytes())
    spool.flush()
    lengths = np.frombuffer(length, np.int64)
    return _Spool(
        tile_id=np.frombuffer(tile_id, np.int64),
        content=_numbered(np.frombuffer(digests, "<u8,<u8")),
        length=lengths,
        offset=np.cumsum(lengths) - lengths,
    )


def _numbered(digests: NDArray[np.void]) -> Numbers:
    """A number for each distinct digest, from 0 on, where it stands."""
    halves = [digests[half] for half in ("f0", "f1")]
    order = np.lexsort(halves)
    is_new = np.zeros(len(order), np.bool_)
    for half in halves:
        ordered = half[order]
        is_new[1:] |= ordered[1:] != ordered[:-1]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new)
    return numbers


def _ids(places: array[int]) -> Numbers:
    """PMTiles ids of tiles, from zoom, column and row of each."""
    zoom, x, y = np.frombuffer(places, np.int64).reshape(-1, 3).T
    ids = np.zeros(len(zoom), np.int64)
    for each in np.unique(zoom).tolist():
        of_zoom = zoom == each
        ids[of_zoom] = tile_ids(each, x[of_zoom], y[of_zoom])
    return ids


def _write(
    archive: IO[bytes], spool: int, tiles: _Spool, stated: Mapping[str, str], metadata: Mapping[str, Any]
) -> None:
    order = np.argsort(tiles.tile_id)
    tile_id, content, length = tiles.tile_id[order], tiles.content[order], tiles.length[order]
    # contents are stored where they are first needed, in the order of tile ids
    first = np.zeros(content.max(initial=-1) + 1, np.int64)
    first[content[::-1]] = np.arange(len(content))[::-1]  # of those of one content the last one written stays
    stored = np.sort(first)
    offset = np.zeros(len(order), np.int64)
    offset[stored] = np.cumsum(length[stored]) - length[stored]
    begins = run_begins(tile_id, content)
    entries = Directory(
        tile_id=tile_id[begins],
        run_length=np.diff(begins, append=len(tile_id)),
        length=length[begins],
        offset=offset[first[content[begins]]],
    )
    root, leaves = packed_directories(entries)
    packed = gzip.compress(
        json.dumps(metadata, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(), mtime=0
    )
    header = {
        "version": 3,
        "root_offset": HEADER_LENGTH,
        "root_length": len(root),
        "metadata_offset": HEADER_LENGTH + len(root),
        "metadata_length": len(packed),
        "leaf_directory_offset": HEADER_LENGTH + len(root) + len(packed),
        "leaf_directory_length": len(leaves),
        "tile_data_offset": HEADER_LENGTH + len(root) + len(packed) + len(leaves),
        "tile_data_length": int(length[stored].sum()),
        "addressed_tiles_count": len(tile_id),
        "tile_entries_count": len(entries),
        "tile_contents_count": len(stored),
        "clustered": True,
        "internal_compression": Compression.GZIP,
        "tile_compression": Compression.GZIP,
        "tile_type": TileType.MVT,
        **_place(stated),
    }
    archive.write(serialize_header(cast("HeaderDict", header)) + root + packed + leaves)
    places = order[stored]
    for start in range(0, len(places), _BATCH):
        some = places[start : start + _BATCH]
        archive.writelines(
            os.pread(spool, size, at)
            for at, size in zip(tiles.offset[some].tolist(), tiles.length[some].tolist(), strict=True)
        )


def _place(stated: Mapping[str, str]) -> dict[str, int]:
    """Zooms, bounds and centre, as the header of an archive has them."""
    try:
        zooms = {f"{end}_zoom": int(stated[f"{end}zoom"]) for end in ("min", "max")}
        sides = [round(float(side) * _E7) for side in stated["bounds"].split(",")]
        *centre, zoom = stated["center"].split(",")
        named = dict(zip(("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7"), sides, strict=True))
        lon, lat = (round(float(each) * _E7) for each in centre)
        return {**zooms, **named, "center_zoom": int(zoom), "center_lon_e7": lon, "center_lat_e7": lat}
    except (KeyError, ValueError) as error:
        raise BrokenTiles(f"it does not state where its tiles lie: {error}") from None


def _opened(mbtiles: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{mbtiles.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _rows(database: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from database.execute(query)
    except sqlite3.DatabaseError as error:
        raise BrokenTiles(f"it is no whole MBTiles file: {error}") from None

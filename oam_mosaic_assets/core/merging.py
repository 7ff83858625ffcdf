"""Making one PMTiles archive (version 3) of tiles that lie in several files: clustered, without duplicates.

Contents are stored where they are first needed, in the order of tile ids, whatever file they come from; so
equal tiles and metadata give equal bytes, whether tiles are fresh or were taken over. What lies side by side
in a file and in the archive goes over as one range of bytes. Source: the PMTiles specification, version 3.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from pmtiles.tile import Compression, TileType, serialize_header

from oam_mosaic_assets.core.archive import HEADER_LENGTH, Archive
from oam_mosaic_assets.core.directory import Directory, Numbers, joined, packed_directories
from oam_mosaic_assets.core.grid import first_tile_id

if TYPE_CHECKING:
    from pmtiles.tile import HeaderDict

_E7: Final = 10**7
"""PMTiles states longitudes and latitudes in whole 1e-7 degrees."""

_PIECE: Final = 4 * 2**20
"""Bytes that are held of a file."""

_TAIL: Final = 16
"""Last bytes of a tile that are looked at first: gzip and PNG have their checksums there."""

_OFFSET_BITS: Final = 48
"""Of a place in some file; the bits above say which file."""

_MIXED: Final = np.int64(0x1E3779B97F4A7C15)
"""An odd number; products with it spread over all bits."""

_FIRST_IDS: Final = np.array([first_tile_id(zoom) for zoom in range(32)])


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Tiles in a file.

    Attributes:
        descriptor: of the open file.
        entries: where they lie in it, in the order of tile ids. Equal offsets are equal contents.
    """

    descriptor: int
    entries: Directory

    @classmethod
    def of_archive(cls, archive: Archive, entries: Directory | None = None) -> Source:
        """All tiles of an archive.

        Args:
            archive: the archive.
            entries: what `Archive.entries` says, where that is known already.

        Raises:
            BrokenArchive: a directory is broken.
        """
        known = archive.entries() if entries is None else entries
        return cls(archive.descriptor, known.shifted(archive.header["tile_data_offset"]))

    def content(self, start: int, length: int) -> bytes:
        """What lies at a place of the file, as stored. Raises OSError where the file ends before."""
        return _read(self.descriptor, start, start + length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an archive's tiles lie.

    Attributes:
        zoom_min: first zoom.
        zoom_max: last zoom.
        bounds: west, south, east, north, degrees.
    """

    zoom_min: int
    zoom_max: int
    bounds: tuple[float, float, float, float]

    def in_header(self) -> dict[str, int]:
        """As the header of an archive has it; a map opens on all of it."""
        west, south, east, north = (round(side * _E7) for side in self.bounds)
        return {
            "min_zoom": self.zoom_min,
            "max_zoom": self.zoom_max,
            "min_lon_e7": west,
            "min_lat_e7": south,
            "max_lon_e7": east,
            "max_lat_e7": north,
            "center_zoom": self.zoom_min,
            "center_lon_e7": (west + east) // 2,
            "center_lat_e7": (south + north) // 2,
        }


def write_archive(
    target: Path,
    sources: Sequence[Source],
    place: Place,
    metadata: Mapping[str, Any],
    *,
    tile_type: TileType = TileType.MVT,
    tile_compression: Compression = Compression.GZIP,
) -> None:
    """Write one archive of all the tiles that the sources name.

    Args:
        target: where it goes; must not exist.
        sources: no tile stands in two of them.
        place: where the tiles lie.
        metadata: the JSON object that the archive shows to its readers.
        tile_type: of all tiles.
        tile_compression: of all tiles.

    Raises:
        ValueError: two sources give the same tile.
    """
    whole = joined([each.entries for each in sources])
    source = np.repeat(np.arange(len(sources)), [len(each.entries) for each in sources])
    order = np.argsort(whole.tile_id, kind="stable")
    whole, source = whole[order], source[order]
    if (whole.tile_id[1:] < (whole.tile_id + whole.run_length)[:-1]).any():
        raise ValueError("two sources give the same tile")
    content = _contents(sources, source, whole)
    # contents are stored where they are first needed, in the order of tile ids
    first = np.zeros(content.max(initial=-1) + 1, np.int64)
    first[content[::-1]] = np.arange(len(content))[::-1]  # of those of one content the last one written stays
    stored = np.sort(first)
    offset = np.zeros(len(whole), np.int64)
    offset[stored] = np.cumsum(whole.length[stored]) - whole.length[stored]
    begins = _run_begins(whole, content)
    ends = np.append(begins, len(whole))[1:] - 1
    entries = Directory(
        tile_id=whole.tile_id[begins],
        run_length=(whole.tile_id + whole.run_length)[ends] - whole.tile_id[begins],
        length=whole.length[begins],
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
        "tile_data_length": int(whole.length[stored].sum()),
        "addressed_tiles_count": int(whole.run_length.sum()),
        "tile_entries_count": len(entries),
        "tile_contents_count": len(stored),
        "clustered": True,
        "internal_compression": Compression.GZIP,
        "tile_compression": tile_compression,
        "tile_type": tile_type,
        **place.in_header(),
    }
    with target.open("xb") as archive:
        archive.write(serialize_header(cast("HeaderDict", header)) + root + packed + leaves)
        for which, start, end in _ranges(source[stored], whole[stored]):
            archive.writelines(_pieces(sources[which].descriptor, start, end))


def _run_begins(entries: Directory, content: Numbers) -> Numbers:
    """Where runs of neighbouring tiles with equal content begin: indices, ascending."""
    zoom = np.searchsorted(_FIRST_IDS, entries.tile_id, side="right")
    follows = entries.tile_id[1:] == (entries.tile_id + entries.run_length)[:-1]
    breaks = ~follows | (np.diff(content) != 0) | (np.diff(zoom) != 0)
    return np.flatnonzero(np.concatenate([np.ones(min(1, len(entries)), np.bool_), breaks]))


def _contents(sources: Sequence[Source], source: Numbers, entries: Directory) -> Numbers:
    """Which content each entry has: numbers from 0 on, in no particular order; equal bytes, equal number."""
    place = (source << _OFFSET_BITS) | entries.offset
    _, first, content = np.unique(place, return_index=True, return_inverse=True)
    if len(sources) == 1:  # its own offsets tell
        numbers: Numbers = content
        return numbers
    of, places = source[first], entries[first]
    seen = np.zeros(len(places), np.int64)
    for which, source_file in enumerate(sources):
        seen[of == which] = _looks(source_file.descriptor, places[of == which])
    _, alike, counts = np.unique(seen, return_inverse=True, return_counts=True)
    same = np.arange(len(places))
    known: dict[bytes, int] = {}
    for each in np.flatnonzero(counts[alike] > 1).tolist():  # what looks alike is read
        start = int(places.offset[each])
        digest = hashlib.blake2b(digest_size=16)
        for piece in _pieces(sources[of[each]].descriptor, start, start + int(places.length[each])):
            digest.update(piece)
        same[each] = known.setdefault(digest.digest(), each)
    _, numbered = np.unique(same, return_inverse=True)
    numbers = numbered[content]
    return numbers  # noqa: RET504  # numpy knows no better than Any


def _looks(descriptor: int, contents: Directory) -> Numbers:
    """A number that is equal for equal contents: of their length and last bytes. The file is read once.

    Args:
        descriptor: of the file.
        contents: in the order in which they lie there.
    """
    offset, ends = contents.offset, contents.offset + contents.length
    tails = np.zeros((len(contents), _TAIL), np.uint8)
    start = 0
    while start < len(contents):
        begin = max(int(offset[start]), int(ends[start]) - _TAIL)
        stop = max(start + 1, int(np.searchsorted(ends, begin + _PIECE, side="right")))
        piece = np.frombuffer(_read(descriptor, begin, int(ends[stop - 1])), np.uint8)
        # of what is shorter, the first byte stands for what is not there
        at = np.maximum(ends[start:stop, None] + np.arange(-_TAIL, 0), offset[start:stop, None])
        tails[start:stop] = piece[at - begin]
        start = stop
    early, late = tails.view(np.int64).T
    looks: Numbers = (early * _MIXED) ^ late ^ (contents.length * _MIXED * _MIXED)
    return looks


def _ranges(source: Numbers, entries: Directory) -> Iterator[tuple[int, int, int]]:
    """Source, begin and end of the ranges of bytes that hold these contents, in this order."""
    ends = entries.offset + entries.length
    breaks = np.flatnonzero((np.diff(source) != 0) | (entries.offset[1:] != ends[:-1]))
    begins = np.append(np.zeros(min(1, len(entries)), np.int64), breaks + 1)
    lasts = np.append(breaks, np.arange(len(entries))[-1:])
    columns = (source[begins], entries.offset[begins], ends[lasts])
    return zip(*(each.tolist() for each in columns), strict=True)


def _pieces(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    for begin in range(start, end, _PIECE):
        yield _read(descriptor, begin, min(begin + _PIECE, end))


def _read(descriptor: int, start: int, end: int) -> bytes:
    found = os.pread(descriptor, end - start, start)
    if len(found) < end - start:
        raise OSError(f"a file of tiles ends before byte {end}")
    return found

"""Merging tiles from several files into one PMTiles archive (version 3): clustered, without duplicates.

Contents are stored in the order of tile ids, each where it is first needed, whichever file it comes from; so
equal tiles and metadata give equal bytes, whether tiles are new or were taken over. Contents that are
adjacent both in a file and in the archive are copied as one byte range. Entries are processed in batches, so
that tens of millions of tiles take little memory. Source: the PMTiles specification, version 3.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np
from pmtiles.tile import Compression, TileType, serialize_header

from oam_mosaic_assets.core.archive import HEADER_LENGTH, Archive
from oam_mosaic_assets.core.contents import Repeated, pieces, read
from oam_mosaic_assets.core.directory import Directory, Numbers, joined, packed_directories
from oam_mosaic_assets.core.entry_files import EntryFiles, in_files, mapped
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.stretches import Stretches

if TYPE_CHECKING:
    from pmtiles.tile import HeaderDict

_E7: Final = 10**7
"""PMTiles stores longitudes and latitudes as integers, in units of 1e-7 degrees."""

_TOGETHER: Final = 2**16
"""The most entries of a source in one batch."""

_FIRST_IDS: Final = np.array([first_tile_id(zoom) for zoom in range(32)])


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Tiles in a file.

    Attributes:
        descriptor: file descriptor of the open file.
        entries: where the tiles lie in it, in the order of tile ids. Equal offsets mean equal contents.
    """

    descriptor: int
    entries: Directory

    @classmethod
    def of_archive(
        cls,
        archive: Archive,
        folder: Path | None = None,
        *,
        within: Stretches | None = None,
        besides: Stretches | None = None,
    ) -> Source:
        """All tiles of an archive, or some.

        Args:
            archive: the archive.
            folder: where temporary files go that hold the entries; None holds them in memory.
            within: the tiles wanted; None for all.
            besides: tiles to leave out.

        Raises:
            BrokenArchive: a directory is broken.
        """
        begin = archive.header["tile_data_offset"]
        parts = (each.shifted(begin) for each in archive.directories(within))
        if within is not None:
            parts = (within.cut(each)[0] for each in parts)
        if besides is not None:
            parts = (besides.cut(each)[1] for each in parts)
        return cls(archive.descriptor, joined([*parts]) if folder is None else in_files(parts, folder))

    def content(self, start: int, length: int) -> bytes:
        """The bytes at a place of the file, as stored. Raises OSError if the file ends before that."""
        return read(self.descriptor, start, start + length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The zooms and bounds of an archive's tiles.

    Attributes:
        zoom_min: first zoom.
        zoom_max: last zoom.
        bounds: west, south, east, north, degrees.
    """

    zoom_min: int
    zoom_max: int
    bounds: tuple[float, float, float, float]

    def in_header(self) -> dict[str, int]:
        """The header fields for them; a map opens centred on the bounds, at the first zoom."""
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
    """Write all tiles of the sources to one archive.

    Args:
        target: path of the archive; must not exist.
        sources: the tiles; no tile may be in two of them.
        place: zooms and bounds of the tiles.
        metadata: the archive's metadata, a JSON object.
        tile_type: type of all tiles.
        tile_compression: compression of all tiles.

    Raises:
        ValueError: two sources hold the same tile.
    """
    with TemporaryFile(dir=target.parent) as ranges, ExitStack() as held:
        laid = _laid(sources, EntryFiles.temporary(target.parent, held), ranges, target.parent)
    root, leaves = packed_directories(laid.entries)
    leaves_length = sum(map(len, leaves))
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
        "leaf_directory_length": leaves_length,
        "tile_data_offset": HEADER_LENGTH + len(root) + len(packed) + leaves_length,
        "tile_data_length": laid.size,
        "addressed_tiles_count": int(laid.entries.run_length.sum()),
        "tile_entries_count": len(laid.entries),
        "tile_contents_count": laid.contents,
        "clustered": True,
        "internal_compression": Compression.GZIP,
        "tile_compression": tile_compression,
        "tile_type": tile_type,
        **place.in_header(),
    }
    with target.open("xb") as archive:
        archive.write(serialize_header(cast("HeaderDict", header)) + root + packed)
        archive.writelines(leaves)
        for some in range(0, len(laid.ranges), _TOGETHER):
            for which, start, end in laid.ranges[some : some + _TOGETHER].tolist():
                archive.writelines(pieces(sources[which].descriptor, start, end))


@dataclass(frozen=True, slots=True, eq=False)
class _Laid:
    """The layout of an archive.

    Attributes:
        entries: its directory.
        ranges: its contents in order: source, begin and end in its file; shape (n, 3).
        contents: number of contents.
        size: total size of the contents, bytes.
    """

    entries: Directory
    ranges: Numbers
    contents: int
    size: int


def _laid(sources: Sequence[Source], spool: EntryFiles, ranges: IO[bytes], folder: Path) -> _Laid:
    """Lay out the contents in the order of tile ids, each where it is first needed.

    Args:
        sources: the tiles.
        spool: empty; receives the entries.
        ranges: an empty file; receives the ranges.
        folder: for temporary files.
    """
    repeated = Repeated.among([(each.descriptor, each.entries) for each in sources], folder)
    laid_at = np.full(repeated.number.max(initial=-1) + 2, -1)  # the last element catches number -1
    contents = size = 0
    # the last entry is held back, as its run may continue in the next batch
    last, last_number = Directory.empty(), np.zeros(0, np.int64)
    for source, entries in _windows(sources):
        number = repeated.numbers(source, entries.offset)
        is_new = number < 0
        missing = np.flatnonzero(~is_new & (laid_at[number] < 0))
        is_new[missing[np.unique(number[missing], return_index=True)[1]]] = True
        ends = size + np.cumsum(np.where(is_new, entries.length, 0))
        laid_at[number[is_new]] = (ends - entries.length)[is_new]
        offset = np.where(number < 0, ends - entries.length, laid_at[number])
        ranges.write(_ranges(source[is_new], entries[is_new]).data)
        contents, size = contents + int(is_new.sum()), int(ends[-1])
        laid = joined([last, Directory(entries.tile_id, entries.run_length, entries.length, offset)])
        found = _in_runs(laid, np.append(last_number, number))
        spool.add(found[:-1])
        last, last_number = found[-1:], number[-1:]
    spool.add(last)
    return _Laid(spool.entries(), mapped(ranges).reshape(-1, 3), contents, size)


def _windows(sources: Sequence[Source]) -> Iterator[tuple[Numbers, Directory]]:
    """All entries in the order of tile ids, in batches, with the index of each one's source."""
    begins = np.zeros(len(sources), np.int64)
    stop: int | None = 0
    while stop is not None:
        ahead = zip(sources, (begins + _TOGETHER).tolist(), strict=True)
        stop = min(
            (int(each.entries.tile_id[at]) for each, at in ahead if at < len(each.entries)), default=None
        )
        ends = [
            len(each.entries) if stop is None else int(np.searchsorted(each.entries.tile_id, stop))
            for each in sources
        ]
        whole = joined(
            [each.entries[begin:end] for each, begin, end in zip(sources, begins, ends, strict=True)]
        )
        source = np.repeat(np.arange(len(sources)), ends - begins)
        order = np.argsort(whole.tile_id, kind="stable")
        if len(order):
            yield source[order], whole[order]
        begins = np.array(ends)


def _in_runs(entries: Directory, content: Numbers) -> Directory:
    """The entries, with neighbouring tiles of equal content merged into one; no run crosses zooms.

    Args:
        entries: in the order of tile ids.
        content: number of each entry's content; a negative one equals no other.

    Raises:
        ValueError: two entries cover the same tile.
    """
    ends = entries.tile_id + entries.run_length
    if (entries.tile_id[1:] < ends[:-1]).any():
        raise ValueError("two sources contain the same tile")
    zoom = np.searchsorted(_FIRST_IDS, entries.tile_id, side="right")
    breaks = (entries.tile_id[1:] != ends[:-1]) | (np.diff(content) != 0) | (content[1:] < 0)
    breaks |= np.diff(zoom) != 0
    begins = np.flatnonzero(np.append(np.ones(min(1, len(entries)), np.bool_), breaks))
    lasts = np.append(begins[1:], len(entries)) - 1
    found = entries[begins]
    return Directory(found.tile_id, ends[lasts] - found.tile_id, found.length, found.offset)


def _ranges(source: Numbers, entries: Directory) -> Numbers:
    """Source, begin and end of the byte ranges that hold these contents, in the same order."""
    ends = entries.offset + entries.length
    breaks = np.flatnonzero((np.diff(source) != 0) | (entries.offset[1:] != ends[:-1]))
    begins = np.append(np.zeros(min(1, len(entries)), np.int64), breaks + 1)
    lasts = np.append(breaks, np.arange(len(entries))[-1:])
    return np.column_stack([source[begins], entries.offset[begins], ends[lasts]])

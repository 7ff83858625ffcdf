"""Reading a PMTiles archive (version 3): header, metadata, directories, tiles.

The library `pmtiles` decodes the header; this module adds the checks that it leaves out: header and
directories must be consistent and stay within the file. Source: the PMTiles specification, version 3.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from pmtiles.tile import (
    Compression,
    MagicNumberNotFound,
    SpecVersionUnsupported,
    TileType,
    deserialize_header,
)

from oam_mosaic_assets.core.directory import BrokenDirectory, Directory, joined
from oam_mosaic_assets.core.grid import first_tile_id, zoom_of
from oam_mosaic_assets.core.stretches import Stretches

HEADER_LENGTH: Final = 127

LARGEST_TILE: Final = 64 * 2**20
"""The most bytes that a tile may inflate to, a hundred times what a map loads, so none can fill memory."""

LARGEST_DIRECTORY: Final = 2**20
"""The most bytes that a directory may inflate to, fifty times what writers aim for; each can be a number."""

DEEPEST_ZOOM: Final = 31
"""The deepest zoom whose tile ids fit in 64 bits."""

_ENDS_OF_ZOOMS: Final = np.array([first_tile_id(zoom + 1) for zoom in range(DEEPEST_ZOOM + 1)])
"""For each zoom, the id after its last tile."""

_LONGEST_RUN: Final = 2**61
"""Longer runs are refused, so that no sum overflows."""

_GZIP: Final = 31
"""zlib's `wbits` for a gzip stream with the largest window."""


class BrokenArchive(ValueError):
    """The file is not a PMTiles archive, or its parts contradict each other; the message says where."""


class NoArchive(BrokenArchive):
    """The file does not begin like a PMTiles archive that this project can read."""


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """An open archive. Made by `open_archive`.

    Attributes:
        header: as the library `pmtiles` decodes it; coordinates in 1e-7 degrees.
        metadata: the JSON object that readers show.
        size: of the file, bytes.
    """

    path: Path
    header: Mapping[str, Any]
    metadata: Mapping[str, Any]
    size: int
    descriptor: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north, degrees."""
        sides = ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7")
        west, south, east, north = (self.header[side] / 1e7 for side in sides)
        return west, south, east, north

    def entries(self, before: int = int(_ENDS_OF_ZOOMS[-1])) -> Directory:
        """All tile entries as one directory; offsets are relative to the tile data section.

        Args:
            before: only entries of tiles with smaller ids; leaf directories beyond them are not read.

        Raises:
            BrokenArchive: as `directories`.
        """
        found = []
        for directory in self.directories():
            found.append(directory[directory.tile_id < before])
            if len(found[-1]) < len(directory):
                break
        return joined(found)

    def directories(self, within: Stretches | None = None) -> Iterator[Directory]:
        """All tile entries in the order of tile ids, one directory at a time.

        Args:
            within: leaf directories that hold none of these tiles are not read; None reads all.

        Raises:
            BrokenArchive: a directory cannot be decoded, is out of order, or points outside its section; or
                they hold more tiles than the header says.
        """
        last, tiles, stated = -1, 0, self.header["addressed_tiles_count"]
        root = self._directory(self.header["root_offset"], self.header["root_length"])
        is_leaf = root.run_length == 0
        bounds = np.flatnonzero(is_leaf | np.roll(is_leaf, 1))  # each leaf, and each entry after one
        is_skipped = np.zeros(len(root), np.bool_)
        if within is not None:
            ends = np.append(root.tile_id[1:], _ENDS_OF_ZOOMS[-1:])[: len(root)]
            is_skipped = is_leaf & ~within.reach(root.tile_id, ends)
        for start, stop in pairwise(sorted({0, *bounds.tolist(), len(root)})):
            if is_skipped[start]:
                continue
            found = self._leaf(root, start, last) if is_leaf[start] else root[start:stop]
            last = _checked(found, last, self.header["tile_data_length"])
            tiles += int(found.run_length.sum())
            if tiles > stated > 0:  # 0 means unknown
                raise BrokenArchive(f"its directories list more tiles than the {stated:,} in its header")
            yield found

    def by_zoom(self) -> Iterator[tuple[int, Iterator[Directory]]]:
        """The same, grouped by zoom; consume each group before taking the next.

        Raises:
            BrokenArchive: as `directories`.
        """
        for zoom, found in groupby(of_one_zoom(self.directories()), itemgetter(0)):
            yield zoom, (entries for _, entries in found)

    def tile(self, tile_id: int, offset: int, length: int) -> bytes:
        """The inflated bytes of a tile.

        Args:
            tile_id: names the tile in errors.
            offset: from its entry.
            length: from its entry.

        Raises:
            BrokenArchive: they lie outside the file, or do not inflate.
        """
        packed = self._read(self.header["tile_data_offset"] + offset, length)
        if self.header["tile_compression"] is Compression.NONE:
            return packed
        return _inflated(packed, f"tile {tile_id}", most=LARGEST_TILE)

    def _leaf(self, root: Directory, index: int, last: int) -> Directory:
        tile_id, offset, length = (int(column[index]) for column in (root.tile_id, root.offset, root.length))
        if tile_id <= last:
            raise BrokenArchive(f"tile {tile_id} is out of order in the root directory")
        if not _lies_within(offset, length, self.header["leaf_directory_length"]):
            raise BrokenArchive(f"the directory of tile {tile_id} is outside its section")
        leaf = self._directory(self.header["leaf_directory_offset"] + offset, length)
        if len(leaf) and leaf.tile_id[0] < tile_id:  # readers would look for it in the leaf before
            raise BrokenArchive(f"tile {leaf.tile_id[0]} is out of order in its directory")
        return leaf

    def _directory(self, offset: int, length: int) -> Directory:
        packed = self._read(offset, length)
        content = _inflated(packed, f"the directory at byte {offset}", most=LARGEST_DIRECTORY)
        try:
            return Directory.decoded(content)
        except BrokenDirectory as error:
            raise BrokenArchive(f"the directory at byte {offset} does not decode: {error}") from None

    def _read(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.size:
            raise BrokenArchive(f"{length} bytes from byte {offset} on are outside the file")
        return os.pread(self.descriptor, length, offset)


def _checked(entries: Directory, last: int, section_length: int) -> int:
    """Check that tile entries are in order and within the section; returns the id of their last tile."""
    tile_id, run_length, length, offset = entries.tile_id, entries.run_length, entries.length, entries.offset
    # clamped, so that no sum overflows
    ends = np.minimum(tile_id, _ENDS_OF_ZOOMS[DEEPEST_ZOOM]) + np.minimum(run_length, _LONGEST_RUN) - 1
    zoom = np.searchsorted(_ENDS_OF_ZOOMS, tile_id, side="right")
    before = np.concatenate([[last], ends[:-1]])
    outside = (length < 1) | (offset < 0) | (length > section_length) | (offset > section_length - length)
    for wrong, message in (
        ((tile_id <= before) | (run_length < 1), "tile {} is out of order in its directory"),
        (
            (run_length > _LONGEST_RUN) | (ends >= np.append(_ENDS_OF_ZOOMS, 0)[zoom]),
            "the run of equal tiles from {} extends beyond its zoom",
        ),
        (outside, "tile {} is outside the archive"),
    ):
        if wrong.any():
            raise BrokenArchive(message.format(tile_id[wrong.argmax()]))
    return int(ends[-1]) if len(ends) else last


def of_one_zoom(directories: Iterable[Directory]) -> Iterator[tuple[int, Directory]]:
    """The entries, split where a zoom ends; no run crosses zooms."""
    for entries in filter(len, directories):
        first, last = entries.tile_id[[0, -1]].tolist()
        for zoom in range(zoom_of(first), zoom_of(last) + 1):
            ends = [first_tile_id(zoom), first_tile_id(zoom + 1)]
            if len(of_zoom := entries[slice(*np.searchsorted(entries.tile_id, ends))]):
                yield zoom, of_zoom


def _lies_within(offset: int, length: int, section_length: int) -> bool:
    return offset >= 0 and length > 0 and offset + length <= section_length


def _inflated(packed: bytes, name: str, *, most: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP)
    try:
        content = inflater.decompress(packed, most)
    except zlib.error as error:
        raise BrokenArchive(f"{name} does not inflate: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise BrokenArchive(f"{name} is not a single complete gzip stream of up to {most:,} bytes")
    return content


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive and check that its sections lie within the file.

    Raises:
        NoArchive: it is not a PMTiles archive of version 3, or not of a supported kind.
        BrokenArchive: it is not complete.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        header = read_header(os.pread(descriptor, HEADER_LENGTH, 0))
        for section in ("root", "metadata", "leaf_directory", "tile_data"):
            if header[f"{section}_offset"] + header[f"{section}_length"] > size:
                raise BrokenArchive(f"its {section.replace('_', ' ')} ends beyond the file: it is cut short")
        if header["tile_compression"] not in (Compression.GZIP, Compression.NONE):
            raise NoArchive(f"tiles compressed with {header['tile_compression'].name} are not supported")
        packed = os.pread(descriptor, header["metadata_length"], header["metadata_offset"])
        content = _inflated(packed, "its metadata", most=LARGEST_TILE)
        try:
            metadata = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BrokenArchive(f"its metadata is not JSON: {error}") from None
        if not isinstance(metadata, dict):
            raise BrokenArchive("its metadata is not a JSON object")
        yield Archive(path, header, metadata, size, descriptor)
    finally:
        os.close(descriptor)


def read_header(head: bytes) -> dict[str, Any]:
    """The header from a file's first bytes, as `Archive.header`.

    Raises:
        NoArchive: it is not the header of a version 3 archive, or of one that is not supported here.
    """
    try:
        header: dict[str, Any] = dict(deserialize_header(head.ljust(HEADER_LENGTH, b"\0")))
    except MagicNumberNotFound:
        raise NoArchive("it does not begin like a PMTiles archive") from None
    except SpecVersionUnsupported:
        raise NoArchive("it is a PMTiles archive, but not of version 3") from None
    except ValueError as error:  # an unknown compression or tile type, or no text where "PMTiles" should be
        raise NoArchive(f"its header does not decode: {error}") from None
    if header["max_zoom"] > DEEPEST_ZOOM:
        raise NoArchive(f"its header says zoom {header['max_zoom']}; the deepest is {DEEPEST_ZOOM}")
    if header["internal_compression"] is not Compression.GZIP:
        raise NoArchive("its directories are not gzipped")
    return header


def fields_of(archive: Archive) -> dict[str, str]:
    """The fields of an image in the first layer, as the metadata states them; `id` alone if it states none.

    `count` is left out: only features that count images have it, no image does.
    """
    stated = {name: kind for name, kind in _stated_fields(archive).items() if name != "count"}
    return stated or {"id": "String"}


def counts_images(archive: Archive) -> bool:
    """Whether low zooms count small images instead of drawing them, as the metadata states."""
    return "count" in _stated_fields(archive)


def _stated_fields(archive: Archive) -> dict[str, str]:
    try:
        fields = archive.metadata["vector_layers"][0]["fields"]
        return {str(name): str(kind) for name, kind in fields.items()}
    except (KeyError, IndexError, TypeError, AttributeError):
        return {}


def is_vector(archive: Archive) -> bool:
    """Whether its tiles are vector tiles."""
    return archive.header["tile_type"] is TileType.MVT

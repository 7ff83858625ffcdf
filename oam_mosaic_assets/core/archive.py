"""A PMTiles archive (version 3): header, metadata, directories, tiles; and a copy with new metadata.

The library `pmtiles` reads header and directories; here stands what it leaves open: that what they say is
consistent and lies within the file. Source: the PMTiles specification, version 3.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pmtiles.tile import (
    Compression,
    Entry,
    MagicNumberNotFound,
    SpecVersionUnsupported,
    TileType,
    deserialize_directory,
    deserialize_header,
    find_tile,
    serialize_header,
)

if TYPE_CHECKING:
    from pmtiles.tile import HeaderDict

HEADER_LENGTH: Final = 127

LARGEST_TILE: Final = 64 * 2**20
"""Bytes that a tile may inflate to: a hundred times what a map loads; a crafted one fills no memory."""

LARGEST_DIRECTORY: Final = 2**20
"""Bytes that a directory may inflate to, fifty times what writers aim at; each may become an entry."""

DEEPEST_ZOOM: Final = 31
"""The last zoom whose tile ids have 64 bits."""

_DEEPEST_DIRECTORY: Final = 4
"""A root and up to three levels of leaves, as the specification allows readers to assume."""

_ENDLESS_NUMBER: Final = re.compile(rb"[\x80-\xff]{10}")
"""A number of more than 64 bits, which the library would add up however long it is."""

_GZIP: Final = 31
"""What zlib calls a gzip stream with the largest window."""


class BrokenArchive(ValueError):
    """The file is no PMTiles archive, or one whose parts contradict each other; the message says where."""


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

    def entries(self) -> Iterator[Entry]:
        """What the directories name, in the order of tile ids.

        Raises:
            BrokenArchive: a directory cannot be decoded, is out of order, or points outside its section; or
                they name more tiles than the header says.
        """
        last, tiles, stated = -1, 0, self.header["addressed_tiles_count"]
        for of_root in self._directory(self.header["root_offset"], self.header["root_length"]):
            if of_root.tile_id <= last:
                raise BrokenArchive(f"tile {of_root.tile_id} stands out of order in the root directory")
            for entry in [of_root] if of_root.run_length else self._leaf(of_root):
                if entry.tile_id <= last or entry.tile_id < of_root.tile_id or entry.run_length < 1:
                    raise BrokenArchive(f"tile {entry.tile_id} stands out of order in its directory")
                if not _lies_within(entry, self.header["tile_data_length"]):
                    raise BrokenArchive(f"tile {entry.tile_id} lies outside the archive")
                last = entry.tile_id + entry.run_length - 1
                tiles += entry.run_length
                if tiles > stated > 0:  # 0 is unknown
                    raise BrokenArchive(f"its directories name more tiles than the {stated:,} of its header")
                yield entry

    def tile(self, entry: Entry) -> bytes:
        """The inflated bytes of a tile.

        Raises:
            BrokenArchive: they do not inflate.
        """
        packed = self._read(self.header["tile_data_offset"] + entry.offset, entry.length)
        if self.header["tile_compression"] is Compression.NONE:
            return packed
        return _inflated(packed, f"tile {entry.tile_id}", most=LARGEST_TILE)

    def find(self, tile_id: int) -> Entry | None:
        """The entry that addresses a tile; None where the archive has no such tile."""
        header = self.header
        offset, length = header["root_offset"], header["root_length"]
        for _ in range(_DEEPEST_DIRECTORY):
            entry = find_tile(_decoded_directory(self, offset, length), tile_id)
            if entry is None or entry.run_length:
                return entry
            offset, length = header["leaf_directory_offset"] + entry.offset, entry.length
        raise BrokenArchive(f"the directories of tile {tile_id} are nested too deeply")

    def _leaf(self, entry: Entry) -> list[Entry]:
        if not _lies_within(entry, self.header["leaf_directory_length"]):
            raise BrokenArchive(f"the directory of tile {entry.tile_id} lies outside its section")
        return self._directory(self.header["leaf_directory_offset"] + entry.offset, entry.length)

    def _directory(self, offset: int, length: int) -> list[Entry]:
        packed = self._read(offset, length)
        content = _inflated(packed, f"the directory at byte {offset}", most=LARGEST_DIRECTORY)
        if _ENDLESS_NUMBER.search(content):
            raise BrokenArchive(f"the directory at byte {offset} holds a number of more than 64 bits")
        try:
            return deserialize_directory(packed)
        except EOFError as error:
            raise BrokenArchive(f"the directory at byte {offset} does not decode: {error}") from None

    def _read(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.size:
            raise BrokenArchive(f"{length} bytes from byte {offset} on lie outside the file")
        return os.pread(self.descriptor, length, offset)


def _lies_within(entry: Entry, section_length: int) -> bool:
    return entry.offset >= 0 and entry.length > 0 and entry.offset + entry.length <= section_length


def _inflated(packed: bytes, name: str, *, most: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP)
    try:
        content = inflater.decompress(packed, most)
    except zlib.error as error:
        raise BrokenArchive(f"{name} does not inflate: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise BrokenArchive(f"{name} is not one whole gzip stream of up to {most:,} bytes")
    return content


@lru_cache(maxsize=8)
def _decoded_directory(archive: Archive, offset: int, length: int) -> list[Entry]:
    return archive._directory(offset, length)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive and check that its sections lie within the file.

    Raises:
        BrokenArchive: it is no PMTiles archive of version 3, or not a whole one.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        header = _header(os.pread(descriptor, HEADER_LENGTH, 0))
        for section in ("root", "metadata", "leaf_directory", "tile_data"):
            if header[f"{section}_offset"] + header[f"{section}_length"] > size:
                raise BrokenArchive(f"its {section.replace('_', ' ')} ends beyond the file: it is cut short")
        if header["tile_compression"] not in (Compression.GZIP, Compression.NONE):
            raise BrokenArchive(f"tiles compressed with {header['tile_compression'].name} are not read here")
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


def _header(head: bytes) -> dict[str, Any]:
    try:
        header: dict[str, Any] = dict(deserialize_header(head.ljust(HEADER_LENGTH, b"\0")))
    except MagicNumberNotFound:
        raise BrokenArchive("it does not begin as a PMTiles archive does") from None
    except SpecVersionUnsupported:
        raise BrokenArchive("it is a PMTiles archive of another version than 3") from None
    except ValueError as error:  # an unknown compression or tile type, or no text where "PMTiles" should be
        raise BrokenArchive(f"its header does not decode: {error}") from None
    if header["max_zoom"] > DEEPEST_ZOOM:
        raise BrokenArchive(f"its header says zoom {header['max_zoom']}; there is none beyond {DEEPEST_ZOOM}")
    if header["internal_compression"] is not Compression.GZIP:
        raise BrokenArchive("its directories are not gzipped")
    return header


def is_vector(archive: Archive) -> bool:
    """Whether its tiles are vector tiles."""
    return archive.header["tile_type"] is TileType.MVT


def write_with_metadata(source: Path, target: Path, metadata: Mapping[str, Any]) -> None:
    """Copy an archive with other metadata; directories and tiles stay byte for byte.

    Args:
        source: the archive.
        target: where the new one goes; must not exist.
        metadata: the new JSON object. Equal objects give equal bytes.
    """
    packed = gzip.compress(
        json.dumps(metadata, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(), mtime=0
    )
    with open_archive(source) as archive, target.open("xb") as copy:
        old = archive.header
        metadata_offset = HEADER_LENGTH + old["root_length"]
        leaves_offset = metadata_offset + len(packed)
        tiles_offset = leaves_offset + old["leaf_directory_length"]
        header = {  # the rest of it describes what is copied
            **old,
            "root_offset": HEADER_LENGTH,
            "metadata_offset": metadata_offset,
            "metadata_length": len(packed),
            "leaf_directory_offset": leaves_offset,
            "tile_data_offset": tiles_offset,
        }
        copy.write(serialize_header(cast("HeaderDict", header)))
        copy.flush()
        _append(archive.descriptor, copy.fileno(), old["root_offset"], old["root_length"])
        os.write(copy.fileno(), packed)
        _append(archive.descriptor, copy.fileno(), old["leaf_directory_offset"], old["leaf_directory_length"])
        _append(archive.descriptor, copy.fileno(), old["tile_data_offset"], old["tile_data_length"])


def _append(source: int, target: int, offset: int, length: int) -> None:
    while length:
        copied = os.sendfile(target, source, offset, length)
        if not copied:
            raise BrokenArchive(f"the archive ends at byte {offset}, {length} bytes too early")
        offset += copied
        length -= copied

"""Take archives apart and put them together again, deliberately broken if need be, with library `pmtiles`."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pmtiles.tile import (
    Entry,
    deserialize_directory,
    deserialize_header,
    serialize_directory,
    serialize_header,
    tileid_to_zxy,
    write_varint,
    zxy_to_tileid,
)

HEADER_LENGTH = 127


@dataclass
class Pieces:
    """An archive in pieces, which `assembled` writes as they are.

    Attributes:
        header: `assembled` sets the offsets and lengths of sections; all else is written as it is.
        metadata: gzipped JSON.
        entries: of tiles, from the root and all leaves.
        tiles: the section that entries point into.
    """

    header: dict[str, Any]
    metadata: bytes
    entries: list[Entry]
    tiles: bytes

    def packed(self, entry: Entry) -> bytes:
        """A tile as stored in the archive."""
        return self.tiles[entry.offset : entry.offset + entry.length]

    def at(self, zoom: int, x: int, y: int) -> Entry:
        """The entry of a tile."""
        tile_id = zxy_to_tileid(zoom, x, y)
        return next(e for e in self.entries if e.tile_id <= tile_id < e.tile_id + e.run_length)

    def of_zoom(self, zoom: int) -> list[Entry]:
        """The entries of a zoom."""
        return [entry for entry in self.entries if tileid_to_zxy(entry.tile_id)[0] == zoom]

    def replace(self, entry: Entry, packed: bytes) -> None:
        """Make an entry point at other bytes, appended to the tiles."""
        entry.offset, entry.length = len(self.tiles), len(packed)
        self.tiles += packed


def with_short_repeats(path: Path, target: Path) -> Path:
    """The archive, but of each content that several entries point to, only the first one states its length.

    So the other tiles lack their last bytes. There must be such contents.
    """
    pieces, seen = pieces_of(path), set[int]()
    for entry in pieces.entries:
        if entry.offset in seen:
            entry.length -= 20
        seen.add(entry.offset)
    assert len(seen) < len(pieces.entries)
    return assembled(pieces, target)


def pieces_of(path: Path) -> Pieces:
    """Take an archive apart."""
    content = path.read_bytes()
    header: dict[str, Any] = dict(deserialize_header(content[:HEADER_LENGTH]))

    def section(name: str) -> bytes:
        start: int = header[f"{name}_offset"]
        return content[start : start + header[f"{name}_length"]]

    def entries(directory: bytes) -> Iterator[Entry]:
        for entry in deserialize_directory(directory):
            if entry.run_length:
                yield entry
            else:
                leaves = section("leaf_directory")
                yield from entries(leaves[entry.offset : entry.offset + entry.length])

    return Pieces(header, section("metadata"), list(entries(section("root"))), section("tile_data"))


def assembled(
    pieces: Pieces,
    target: Path,
    *,
    leaf_size: int | None = None,
    root: bytes | Sequence[Entry] | None = None,
    leaves: bytes = b"",
) -> Path:
    """Put an archive together.

    Args:
        target: where it goes.
        leaf_size: entries in each leaf directory; None writes them all into the root.
        root: a root directory to write instead.
        leaves: the section of leaf directories that belongs to `root`.
    """
    if root is None and leaf_size is None:
        root = pieces.entries
    elif root is None:
        root, leaves = in_leaves(pieces.entries, leaf_size or 1)
    if not isinstance(root, bytes):
        root = serialize_directory(root)
    header, at = dict(pieces.header), HEADER_LENGTH
    sections = {
        "root": root,
        "metadata": pieces.metadata,
        "leaf_directory": leaves,
        "tile_data": pieces.tiles,
    }
    for name, content in sections.items():
        header |= {f"{name}_offset": at, f"{name}_length": len(content)}
        at += len(content)
    target.write_bytes(serialize_header(header) + b"".join(sections.values()))  # type: ignore[arg-type]  # a HeaderDict
    return target


def in_leaves(entries: Sequence[Entry], leaf_size: int) -> tuple[list[Entry], bytes]:
    """The entries of a root directory, and the section of leaf directories that they point to."""
    root, leaves = [], b""
    for start in range(0, len(entries), leaf_size):
        leaf = serialize_directory(entries[start : start + leaf_size])
        root.append(Entry(entries[start].tile_id, len(leaves), len(leaf), 0))
        leaves += leaf
    return root, leaves


def packed_directory(*numbers: int) -> bytes:
    """A directory of exactly these numbers as varints, gzipped; they need not make sense."""
    content = BytesIO()
    for number in numbers:
        write_varint(content, number)
    return gzip.compress(content.getvalue(), mtime=0)

"""PMTiles directories as arrays: which tiles there are, and where in the file each is stored.

A mosaic has a quarter of a million entries; decoding them number by number, as the library `pmtiles` does,
takes longer than inflating the tiles. Source: the PMTiles specification, version 3, "Directories".
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

LARGEST_ROOT: Final = 16_384 - 127
"""The most bytes of a root directory: readers fetch it along with the header in their first 16 KiB."""

LEAF_ENTRIES: Final = 4096
"""Entries per leaf directory, doubled for as long as the root directory is too large."""

_LEAST_NAMED: Final = 4
"""Packed bytes that each of very many leaves takes in the root; hardly ever fewer."""

_COLUMNS: Final = 4
_BITS: Final = 7
"""Bits of a number per byte; the eighth says whether another byte follows."""
_LONGEST: Final = 9
"""The most bytes of a number below 2**63."""

Numbers = NDArray[np.int64]


class BrokenDirectory(ValueError):
    """The bytes are not a directory; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """Entries in the order of tile ids, an array per column.

    Attributes:
        tile_id: the first tile of an entry.
        run_length: how many consecutive tiles have this content; 0 if the entry points to a leaf directory.
        length: bytes of the tile or leaf as stored.
        offset: where it begins within its section of the file.
    """

    tile_id: Numbers
    run_length: Numbers
    length: Numbers
    offset: Numbers

    def __len__(self) -> int:
        return len(self.tile_id)

    def __getitem__(self, which: slice | NDArray[np.bool_] | Numbers) -> Directory:
        return Directory(self.tile_id[which], self.run_length[which], self.length[which], self.offset[which])

    @classmethod
    def empty(cls) -> Self:
        """No entries."""
        return cls(*(np.zeros(0, np.int64) for _ in range(_COLUMNS)))

    def at(self, tile_ids: Numbers) -> Numbers:
        """The index of the entry of each tile; -1 if there is none."""
        if not len(self):
            return np.full(len(tile_ids), -1)
        index = np.searchsorted(self.tile_id, tile_ids, side="right") - 1
        ends = self.tile_id[index] + self.run_length[index]
        found: Numbers = np.where((index >= 0) & (tile_ids < ends), index, -1)
        return found

    def distinct(self) -> Numbers:
        """The index of the first entry of each content, in file order; equal places are equal contents."""
        order = np.lexsort([self.length, self.offset])
        places = np.column_stack([self.offset, self.length])[order]
        found: Numbers = order[np.diff(places, axis=0, prepend=-1).any(axis=1)]
        return found

    def shifted(self, by: int) -> Directory:
        """The same entries for a file in which everything lies `by` bytes further on."""
        return Directory(self.tile_id, self.run_length, self.length, self.offset + by)

    @classmethod
    def decoded(cls, content: bytes) -> Self:
        """Decode an inflated directory. Checking that its entries make sense is left to the caller.

        Raises:
            BrokenDirectory: it is cut short, it does not hold as many entries as it says, its first offset
                refers to an entry before it, or a number or sum has more than 63 bits.
        """
        numbers = _decoded(content)
        if len(numbers) == 0 or len(numbers) != 1 + _COLUMNS * int(numbers[0]):
            raise BrokenDirectory("it does not hold as many entries as it says")
        steps, run_length, length, placed = numbers[1:].reshape(_COLUMNS, -1)
        for sums in (steps, length):
            if sums.sum(dtype=np.float64) >= 2.0**63:
                raise BrokenDirectory("its numbers add up to more than 63 bits")
        # 0 means "where the previous entry ends"; anything else is the offset plus 1
        ends = np.cumsum(length)
        begins = np.flatnonzero(placed)
        if len(placed) and (not len(begins) or begins[0] != 0):
            raise BrokenDirectory("its first entry refers to one before it")
        before = np.repeat(begins, np.diff(begins, append=len(placed)))
        offset = placed[before] - 1 + (ends - length) - (ends - length)[before]
        return cls(np.cumsum(steps), run_length, length, offset)

    def encoded(self) -> bytes:
        """The bytes of the directory as in a file, but not packed yet."""
        follows = np.zeros(len(self), dtype=np.bool_)
        follows[1:] = self.offset[1:] == self.offset[:-1] + self.length[:-1]
        columns = [
            np.array([len(self)]),
            np.diff(self.tile_id, prepend=0),
            self.run_length,
            self.length,
            np.where(follows, 0, self.offset + 1),
        ]
        return _encoded(np.concatenate(columns))


def joined(parts: Sequence[Directory]) -> Directory:
    """The entries of all parts, one after another."""
    columns = (
        (each.tile_id, each.run_length, each.length, each.offset) for each in (Directory.empty(), *parts)
    )
    return Directory(*(np.concatenate(each) for each in zip(*columns, strict=True)))


def packed_directories(entries: Directory) -> tuple[bytes, list[bytes]]:
    """The packed root directory and leaf directories; leaves are to be stored one right after another.

    A few entries go straight into the root, many into leaves that the root points to.
    """
    if len(entries) <= LEAF_ENTRIES and len(root := _packed(entries)) <= LARGEST_ROOT:
        return root, []
    size = LEAF_ENTRIES
    while len(entries) // size * _LEAST_NAMED > LARGEST_ROOT:
        size *= 2
    while True:
        parts = [entries[start : start + size] for start in range(0, len(entries), size)]
        packed = [_packed(part) for part in parts]
        length = np.array([len(each) for each in packed])
        root = _packed(
            Directory(
                tile_id=np.array([part.tile_id[0] for part in parts]),
                run_length=np.zeros_like(length),
                length=length,
                offset=np.cumsum(length) - length,
            )
        )
        if len(root) <= LARGEST_ROOT:
            return root, packed
        size *= 2


def _packed(directory: Directory) -> bytes:
    return gzip.compress(directory.encoded(), compresslevel=6, mtime=0)


def _decoded(content: bytes) -> Numbers:
    """Decode variable-length numbers, one after another."""
    octets = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(octets < 1 << _BITS)
    if len(octets) and (not len(ends) or ends[-1] != len(octets) - 1):
        raise BrokenDirectory("its last number is cut short")
    begins = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1])
    lengths = ends - begins + 1
    if len(lengths) and lengths.max() > _LONGEST:
        raise BrokenDirectory("it holds a number of more than 63 bits")
    numbers: Numbers = octets[begins].astype(np.int64) & 0x7F
    longer = np.arange(len(ends))
    for place in range(1, int(lengths.max(initial=0))):
        longer = longer[lengths[longer] > place]
        bits = octets[begins[longer] + place].astype(np.int64) & 0x7F
        numbers[longer] |= bits << (_BITS * place)
    return numbers


def _encoded(numbers: Numbers) -> bytes:
    """The inverse of `_decoded`."""
    lengths, longer = np.ones(len(numbers), np.int64), np.arange(len(numbers))
    for place in range(1, _LONGEST):
        longer = longer[numbers[longer] >= 1 << (_BITS * place)]
        lengths[longer] += 1
    begins = np.cumsum(lengths) - lengths
    octets = np.zeros(int(lengths.sum()), np.uint8)
    longer = np.arange(len(numbers))
    for place in range(int(lengths.max(initial=0))):
        longer = longer[lengths[longer] > place]
        more = np.where(lengths[longer] > place + 1, 0x80, 0)
        octets[begins[longer] + place] = (numbers[longer] >> (_BITS * place) & 0x7F) | more
    return octets.tobytes()

"""Which contents of several files are equal: for millions of them, with a few bytes of memory for each.

Most differ in length or in their last bytes; only those that agree in both are read in full.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Directory, Numbers
from oam_mosaic_assets.core.sorting import Sorting

_PIECE: Final = 4 * 2**20
"""Bytes of a file that are held at a time."""

_TOGETHER: Final = 2**16
"""Contents that are processed together."""

_SORTED: Final = 2**19
"""Contents that are sorted at a time: some thirty megabytes."""

_TAIL: Final = 16
"""Last bytes of a content, which are compared first: gzip and PNG have their checksums there."""

_DIGEST_BYTES: Final = 16
"""Length of a content's digest."""

_MIXED: Final = np.int64(0x1E3779B97F4A7C15)
"""An odd factor whose products spread over all bits."""

_HEAP_BITS: Final = 40
"""Low bits of a mixed number that are ignored when a heap is chosen."""

_LENGTH_BITS: Final = 26
"""Bits that hold the length of a content when places are sorted; the other 37 hold its offset."""

_OFFSET_BITS: Final = 48
"""Bits of a place that hold the offset; those above say which file."""


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """Contents that more than one entry refers to: by the same place in a file, or by equal bytes elsewhere.

    Attributes:
        place: where they lie: the file in the upper bits, the offset in the lower ones; ascending.
        number: the number of the content there, from 0; equal bytes have equal numbers.
    """

    place: Numbers
    number: Numbers

    @classmethod
    def among(cls, files: Sequence[tuple[int, Directory]], folder: Path) -> Self:
        """Find the repeated contents.

        Args:
            files: the descriptor and the entries of each. Equal offsets are equal contents.
            folder: where temporary files for sorting go.
        """
        place, length = _alike(files, folder)
        ends = np.searchsorted(place, _places(np.arange(len(files) + 1), 0))
        digests = bytearray()
        for which, (descriptor, _) in enumerate(files):
            some = slice(ends[which], ends[which + 1])
            for digest in _digests(descriptor, place[some] - _places(which, 0), length[some]):
                digests += digest
        return cls(place, _numbered(digests))

    def numbers(self, which: Numbers, offset: Numbers) -> Numbers:
        """The number of the content at each of these places; -1 where only one entry refers to it.

        Args:
            which: index of the file.
            offset: where in it.
        """
        at, is_known = _among(_places(which, offset), self.place)
        found = np.full(len(at), -1)
        found[is_known] = self.number[at[is_known]]
        return found


def pieces(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file from start to end, in chunks. Raises OSError if the file ends before."""
    for begin in range(start, end, _PIECE):
        yield read(descriptor, begin, min(begin + _PIECE, end))


def read(descriptor: int, start: int, end: int) -> bytes:
    """The same in one piece."""
    found = os.pread(descriptor, end - start, start)
    if len(found) < end - start:
        raise OSError(f"a file of tiles ends before byte {end}")
    return found


def _alike(files: Sequence[tuple[int, Directory]], folder: Path) -> tuple[Numbers, Numbers]:
    """Places that several entries refer to, or that look like another; ascending, with the length of each.

    Contents that look alike go to the same one of several heaps; each heap is sorted by itself.
    """
    heaps = 1 + sum(len(entries) for _, entries in files) // _SORTED
    found = [np.zeros((0, 2), np.int64)]
    with ExitStack() as held:
        spools = [held.enter_context(TemporaryFile(dir=folder)) for _ in range(heaps)]
        for which, (descriptor, entries) in enumerate(files):
            for offset, length in _in_file_order(entries, folder):
                rows = _looked_at(descriptor, which, offset, length)
                heap = ((rows[:, 0] * _MIXED) >> _HEAP_BITS) % heaps
                for each in np.unique(heap).tolist():
                    spools[each].write(rows[heap == each].data)
        for spool in spools:
            spool.seek(0)
            rows = np.frombuffer(spool.read(), np.int64).reshape(-1, 3)
            rows = rows[np.argsort(rows[:, 0])]
            same = np.zeros(len(rows) + 1, np.bool_)
            same[1:-1] = rows[1:, 0] == rows[:-1, 0]
            found.append(np.unique(rows[same[1:] | same[:-1], 1:], axis=0))
    place, length = np.concatenate(found).T
    order = np.argsort(place)
    return place[order], length[order]


def _in_file_order(entries: Directory, folder: Path) -> Iterator[tuple[Numbers, Numbers]]:
    """Offsets and lengths of all entries in batches, so that the file is read from start to end."""
    ordered = Sorting(folder)
    for start in range(0, len(entries), _TOGETHER):
        some = entries[start : start + _TOGETHER]
        if (some.length >> _LENGTH_BITS).any() or (some.offset >> 63 - _LENGTH_BITS).any():
            raise ValueError("a tile is larger than 64 MiB, or more than 128 GiB of others precede it")
        ordered.add(some.offset << _LENGTH_BITS | some.length)
    places = ordered.finished()
    for start in range(0, len(places), _TOGETHER):
        some_places = places[start : start + _TOGETHER]
        yield some_places >> _LENGTH_BITS, some_places & (1 << _LENGTH_BITS) - 1


def _looked_at(descriptor: int, which: int, offset: Numbers, length: Numbers) -> Numbers:
    """For each place of a file: what it looks like, the place, and its length.

    What it looks like is a hash of its length and last bytes, so equal contents look alike. A place that
    several of these entries refer to is listed twice.
    """
    offset, first, uses = np.unique(offset, return_index=True, return_counts=True)
    length = length[first]
    ends = offset + length
    looks = np.zeros(len(offset), np.int64)
    start = 0
    while start < len(offset):
        begin = max(int(offset[start]), int(ends[start]) - _TAIL)
        stop = max(start + 1, int(np.searchsorted(ends, begin + _PIECE, side="right")))
        piece = np.frombuffer(read(descriptor, begin, int(ends[stop - 1])), np.uint8)
        # where a content is shorter than the tail, its first byte is repeated
        at = np.maximum(ends[start:stop, None] + np.arange(-_TAIL, 0), offset[start:stop, None])
        early, late = piece[at - begin].view(np.int64).T
        looks[start:stop] = (early * _MIXED) ^ late ^ (length[start:stop] * _MIXED * _MIXED)
        start = stop
    rows = np.column_stack([looks, _places(which, offset), length])
    return np.repeat(rows, np.minimum(uses, 2), axis=0)


def _digests(descriptor: int, offset: Numbers, length: Numbers) -> Iterator[bytes]:
    """The digests of the contents at these places, 16 bytes each."""
    for start in range(0, len(offset), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        for begin, size in zip(offset[some].tolist(), length[some].tolist(), strict=True):
            digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            for piece in pieces(descriptor, begin, begin + size):
                digest.update(piece)
            yield digest.digest()


def _numbered(digests: bytes | bytearray) -> Numbers:
    """A number for each digest of 16 bytes, from 0; equal digests have equal numbers."""
    halves = np.frombuffer(digests, "<u8").reshape(-1, 2)
    order = np.lexsort(halves.T)
    is_new = np.zeros(len(order), np.bool_)
    is_new[1:] = (halves[order[1:]] != halves[order[:-1]]).any(axis=1)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new)
    return numbers


def _places(which: int | Numbers, offset: int | Numbers) -> Numbers:
    """Places in several files as numbers, which sort by file, then by offset."""
    found: Numbers = np.left_shift(which, _OFFSET_BITS) | offset
    return found


def _among(these: Numbers, those: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    """Where each of these belongs among those, which ascend, and whether it is there."""
    at = np.searchsorted(those, these)
    if not len(those):
        return at, np.zeros(len(these), np.bool_)
    np.minimum(at, len(those) - 1, out=at)
    return at, those[at] == these

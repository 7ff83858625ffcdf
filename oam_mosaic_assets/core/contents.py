"""Which contents of several files are equal: for millions of them, with a few bytes of memory for each.

Most differ in length or in their last bytes; only those that agree in both are read in full. What is held for
each content is held in files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, Self

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Directory, Numbers
from oam_mosaic_assets.core.entry_files import mapped
from oam_mosaic_assets.core.sorting import Sorting, among

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
            folder: for temporary files, which last as long as the result is used.
        """
        ordered = [(descriptor, _in_file_order(entries, folder)) for descriptor, entries in files]
        repeated = _repeated(ordered, folder)
        count = int(repeated.sum())
        start = index = 0
        with ExitStack() as held:
            heaps = _Heaps(count, 3, folder, held)
            places = held.enter_context(TemporaryFile(dir=folder))
            for which, descriptor, offset, length, _ in _contents(ordered):
                some = repeated[start : start + len(offset)]
                start += len(offset)
                offset, length = offset[some], length[some]  # noqa: PLW2901
                places.write(_places(which, offset).data)
                digests = _digests(descriptor, offset, length)
                heaps.add(np.column_stack([digests, np.arange(index, index + len(digests))]))
                index += len(digests)
            return cls(mapped(places), _numbered(heaps, count, held.enter_context(TemporaryFile(dir=folder))))

    def numbers(self, which: Numbers, offset: Numbers) -> Numbers:
        """The number of the content at each of these places; -1 where only one entry refers to it.

        Args:
            which: index of the file.
            offset: where in it.
        """
        at, is_known = among(_places(which, offset), self.place)
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


def _in_file_order(entries: Directory, folder: Path) -> Numbers:
    """Offset and length of each entry's content in one number; ascending, so that files are read in order."""
    ordered = Sorting(folder)
    for start in range(0, len(entries), _TOGETHER):
        some = entries[start : start + _TOGETHER]
        if (some.length >> _LENGTH_BITS).any() or (some.offset >> 63 - _LENGTH_BITS).any():
            raise ValueError("a tile is larger than 64 MiB, or more than 128 GiB of others precede it")
        ordered.add(some.offset << _LENGTH_BITS | some.length)
    return ordered.finished()


def _contents(
    ordered: Sequence[tuple[int, Numbers]],
) -> Iterator[tuple[int, int, Numbers, Numbers, Numbers]]:
    """Contents in batches: index and descriptor of the file; offset, length and number of uses of each."""
    for which, (descriptor, places) in enumerate(ordered):
        start = 0
        while start < len(places):
            last = places[min(start + _TOGETHER, len(places)) - 1] >> _LENGTH_BITS
            stop = int(np.searchsorted(places, last + 1 << _LENGTH_BITS))
            some = places[start:stop]
            offset, first, uses = np.unique(some >> _LENGTH_BITS, return_index=True, return_counts=True)
            yield which, descriptor, offset, some[first] & (1 << _LENGTH_BITS) - 1, uses
            start = stop


def _repeated(ordered: Sequence[tuple[int, Numbers]], folder: Path) -> NDArray[np.bool_]:
    """Which of the `_contents` several entries refer to, or look like another."""
    count = sum(len(places) for _, places in ordered)
    found, index = np.zeros(count, np.bool_), 0
    with ExitStack() as held:
        heaps = _Heaps(count, 2, folder, held)
        for _, descriptor, offset, length, uses in _contents(ordered):
            some = np.arange(index, index + len(offset))
            found[some] = uses > 1
            heaps.add(np.column_stack([_looks(descriptor, offset, length), some]))
            index += len(offset)
        for rows in heaps.emptied():
            looks, number = rows[np.argsort(rows[:, 0])].T
            same = np.zeros(len(rows) + 1, np.bool_)
            same[1:-1] = looks[1:] == looks[:-1]
            found[number[same[1:] | same[:-1]]] = True
    return found


class _Heaps:
    """Rows of numbers in files, so that rows that begin with the same number are together, and few at a time.

    Args:
        rows: how many there will be, at most.
        columns: numbers in each.
        folder: where the files go.
        held: closes them.
    """

    def __init__(self, rows: int, columns: int, folder: Path, held: ExitStack) -> None:
        self._columns = columns
        self._files = [
            held.enter_context(TemporaryFile(dir=folder))  # noqa: SIM115  # the stack closes it
            for _ in range(1 + rows // _SORTED)
        ]

    def add(self, rows: Numbers) -> None:
        heap = ((rows[:, 0] * _MIXED) >> _HEAP_BITS) % len(self._files)
        for each in np.unique(heap).tolist():
            self._files[each].write(rows[heap == each].data)

    def emptied(self) -> Iterator[Numbers]:
        """The rows, heap by heap."""
        for file in self._files:
            file.seek(0)
            yield np.frombuffer(file.read(), np.int64).reshape(-1, self._columns)


def _looks(descriptor: int, offset: Numbers, length: Numbers) -> Numbers:
    """A hash of the length and last bytes of each content, so that equal contents look alike."""
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
    return looks


def _digests(descriptor: int, offset: Numbers, length: Numbers) -> Numbers:
    """The digests of the contents at these places, two numbers each; shape (n, 2)."""
    digests = bytearray()
    for begin, size in zip(offset.tolist(), length.tolist(), strict=True):
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for piece in pieces(descriptor, begin, begin + size):
            digest.update(piece)
        digests += digest.digest()
    return np.frombuffer(digests, np.int64).reshape(-1, 2)


def _numbered(heaps: _Heaps, count: int, file: IO[bytes]) -> Numbers:
    """A number for each of so many contents, from 0; those with equal digests have equal numbers.

    Args:
        heaps: digest and index of each content.
        count: how many there are.
        file: receives the numbers.
    """
    if not count:  # an empty file cannot be mapped
        return np.zeros(0, np.int64)
    numbers, given = np.asarray(np.memmap(file, np.int64, "w+", shape=count)), 0
    for rows in heaps.emptied():
        rows = rows[np.lexsort(rows[:, :2].T)]  # noqa: PLW2901
        is_new = (np.diff(rows[:, :2], axis=0, prepend=rows[:1, :2] - 1) != 0).any(axis=1)
        numbers[rows[:, 2]] = given - 1 + np.cumsum(is_new)
        given += int(is_new.sum())
    return numbers


def _places(which: int | Numbers, offset: int | Numbers) -> Numbers:
    """Places in several files as numbers, which sort by file, then by offset."""
    found: Numbers = np.left_shift(which, _OFFSET_BITS) | offset
    return found

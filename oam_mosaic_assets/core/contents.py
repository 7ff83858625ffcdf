"""Which contents of several files are equal, told of millions of them with a few bytes for each.

Most differ in length or in their last bytes; only those that agree in both are read whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Directory, Numbers

_PIECE: Final = 4 * 2**20
"""Bytes that are held of a file."""

_TOGETHER: Final = 2**16
"""Contents that are looked at together."""

_TAIL: Final = 16
"""Last bytes of a content that are looked at first: gzip and PNG have their checksums there."""

DIGEST_BYTES: Final = 16
"""Of a content's digest."""

_MIXED: Final = np.int64(0x1E3779B97F4A7C15)
"""An odd number; products with it spread over all bits."""

_OFFSET_BITS: Final = 48
"""Of a place in some file; the bits above say which file."""


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """Contents that more than one entry is about: by the same place in a file, or by equal bytes elsewhere.

    Attributes:
        place: where they lie: the file in the upper bits, the offset in the lower ones; ascending.
        number: which content lies there; equal bytes, equal number, from 0 on.
    """

    place: Numbers
    number: Numbers

    @classmethod
    def among(cls, files: Sequence[tuple[int, Directory]]) -> Self:
        """Find them.

        Args:
            files: their descriptors, and what lies there. Equal offsets are equal contents.
        """
        found = [np.zeros(0, np.int64)]
        for which, (_, entries) in enumerate(files):
            offset, uses = np.unique(entries.offset, return_counts=True)
            found.append(_places(which, offset[uses > 1]))
        place = np.unique(np.concatenate([*found, _alike(files)]))
        ends = np.searchsorted(place, _places(np.arange(len(files) + 1), 0))
        digests = bytearray()
        for which, (descriptor, entries) in enumerate(files):
            offset = place[ends[which] : ends[which + 1]] - _places(which, 0)
            digests += b"".join(_digests(descriptor, entries, offset))
        return cls(place, numbered(digests))

    def numbers(self, which: Numbers, offset: Numbers) -> Numbers:
        """The content at each of these places; -1 where a single entry is about it.

        Args:
            which: index of the file.
            offset: where in it.
        """
        at, is_known = _among(_places(which, offset), self.place)
        found = np.full(len(at), -1)
        found[is_known] = self.number[at[is_known]]
        return found


def numbered(digests: bytes | bytearray) -> Numbers:
    """A number for each distinct digest of 16 bytes, from 0 on, where it stands."""
    halves = np.frombuffer(digests, "<u8").reshape(-1, 2)
    order = np.lexsort(halves.T)
    is_new = np.zeros(len(order), np.bool_)
    is_new[1:] = (halves[order[1:]] != halves[order[:-1]]).any(axis=1)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new)
    return numbers


def pieces(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file from start to end, some at a time. Raises OSError where it ends before."""
    for begin in range(start, end, _PIECE):
        yield read(descriptor, begin, min(begin + _PIECE, end))


def read(descriptor: int, start: int, end: int) -> bytes:
    """The same at once."""
    found = os.pread(descriptor, end - start, start)
    if len(found) < end - start:
        raise OSError(f"a file of tiles ends before byte {end}")
    return found


def _alike(files: Sequence[tuple[int, Directory]]) -> Numbers:
    """Places of contents that look like another, in any order."""
    looks = [_looks(*each) for each in files]
    together = np.sort(np.concatenate([np.zeros(0, np.int64), *looks]))
    alike = np.unique(together[1:][together[1:] == together[:-1]])
    del together
    found = [np.zeros(0, np.int64)]
    for which, (_, entries) in enumerate(files):
        found.append(_places(which, np.unique(entries.offset)[_among(looks[which], alike)[1]]))
    return np.concatenate(found)


def _looks(descriptor: int, entries: Directory) -> Numbers:
    """For each place a number that is equal for equal contents: of their length and last bytes.

    The file is read once, from its beginning to its end.
    """
    offset, first = np.unique(entries.offset, return_index=True)
    length = entries.length[first]
    del first
    looks = np.zeros(len(offset), np.int64)
    start = 0
    while start < len(offset):
        begin = max(int(offset[start]), int(offset[start] + length[start]) - _TAIL)
        within = offset[start : start + _TOGETHER] + length[start : start + _TOGETHER] - begin <= _PIECE
        stop = start + max(1, len(within) if within.all() else int(within.argmin()))
        ends = offset[start:stop] + length[start:stop]
        piece = np.frombuffer(read(descriptor, begin, int(ends[-1])), np.uint8)
        # of what is shorter, the first byte stands for what is not there
        at = np.maximum(ends[:, None] + np.arange(-_TAIL, 0), offset[start:stop, None])
        early, late = piece[at - begin].view(np.int64).T
        looks[start:stop] = (early * _MIXED) ^ late ^ (length[start:stop] * _MIXED * _MIXED)
        start = stop
    return looks


def _digests(descriptor: int, entries: Directory, offset: Numbers) -> Iterator[bytes]:
    """Of the contents that begin there, 16 bytes each."""
    order = np.argsort(entries.offset)
    length = entries.length[order[np.searchsorted(entries.offset, offset, sorter=order)]]
    del order
    for start, size in zip(offset.tolist(), length.tolist(), strict=True):
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for piece in pieces(descriptor, start, start + size):
            digest.update(piece)
        yield digest.digest()


def _places(which: int | Numbers, offset: int | Numbers) -> Numbers:
    """Places in any of several files as numbers, in the order of the files."""
    found: Numbers = np.left_shift(which, _OFFSET_BITS) | offset
    return found


def _among(these: Numbers, those: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    """Where each of these would stand among those, which ascend, and whether it does."""
    at = np.searchsorted(those, these)
    if not len(those):
        return at, np.zeros(len(these), np.bool_)
    np.minimum(at, len(those) - 1, out=at)
    return at, those[at] == these

"""Tiles as bitmaps: one bit per pixel, cut from runs of pixels and halved for the zoom above.

A bitmap has a row of bytes for each row of pixels, from north to south; the highest bit of a byte is its
westernmost pixel. Several bitmaps form one array of shape (tiles, pixels, pixels / 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.pixels import Numbers, Pixels

Bitmaps = NDArray[np.uint8]

_WORD: Final = 64
"""Bits that are processed together."""

_CHILDREN: Final = 4


def _halves() -> NDArray[np.uint8]:
    """Lookup table to halve rows: from two bytes, as a native-endian number, to one bit for each two bits."""
    pairs = np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    bits = np.unpackbits(pairs, axis=1)
    halves: NDArray[np.uint8] = np.packbits(bits[:, ::2] | bits[:, 1::2], axis=1).ravel()
    return halves


_HALVED: Final = _halves()


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Tiles of one zoom with at least one pixel set.

    Attributes:
        pixels: along a tile's edge; a multiple of 64.
        x: their columns.
        y: their rows.
        is_full: which have all pixels set.
        bitmap: of each tile that is not full, in the same order.
    """

    pixels: int
    x: Numbers
    y: Numbers
    is_full: NDArray[np.bool_]
    bitmap: Bitmaps

    @classmethod
    def of_runs(cls, pixels: int, runs: Pixels) -> Tiles:
        """The tiles that these pixels lie in, row by row. Needs memory for one number per tile of the map."""
        row, west, east = runs.rows()
        side = runs.side // pixels
        covered = _covered(pixels, side, row, west, east)
        found = np.flatnonzero(covered)
        is_full = covered[found] == pixels**2
        x, y = found % side, found // side
        # a bit is flipped where a run begins or has ended, and at the start of a row that begins within a run
        place = np.full(side**2, -1)
        place[found[~is_full]] = np.arange(len(found) - int(is_full.sum()))
        rows = y[~is_full, None] * pixels + np.arange(pixels)
        begins_within = runs.hold(np.broadcast_to(x[~is_full, None] * pixels, rows.shape), rows)
        turned = [np.flatnonzero(begins_within) * pixels]
        for column in (west, east):
            some = column % pixels != 0
            tile = place[row[some] // pixels * side + column[some] // pixels]
            bits = (tile * pixels + row[some] % pixels) * pixels + column[some] % pixels
            turned.append(bits[tile >= 0])
        words = np.zeros(rows.size * pixels // _WORD, np.uint64)
        bit = np.concatenate(turned)
        np.bitwise_xor.at(words, bit // _WORD, np.uint64(1) << (63 - bit % _WORD).astype(np.uint64))
        return cls(pixels, x, y, is_full, _filled(words, pixels).reshape(-1, pixels, pixels // 8))

    def __len__(self) -> int:
        return len(self.x)

    def moved(self, columns: int, rows: int) -> Tiles:
        """The same tiles, moved east by some columns and south by some rows."""
        return Tiles(self.pixels, self.x + columns, self.y + rows, self.is_full, self.bitmap)

    def halved(self) -> Tiles:
        """The tiles of the zoom above that contain these; a pixel is set where any of its four is."""
        columns = int(self.x.max(initial=0)) // 2 + 1
        tile, parent = np.unique(self.y // 2 * columns + self.x // 2, return_inverse=True)
        is_full = np.bincount(parent[self.is_full], minlength=len(tile)) == _CHILDREN
        place = (np.cumsum(~is_full) - 1)[parent]
        half = self.pixels // 2
        bitmap = np.zeros((int((~is_full).sum()), 2, half, 2, half // 8), np.uint8)
        some = self.is_full & ~is_full[parent]
        bitmap[place[some], self.y[some] % 2, :, self.x[some] % 2] = 0xFF
        rows = self.bitmap[:, ::2] | self.bitmap[:, 1::2]
        some = ~self.is_full
        bitmap[place[some], self.y[some] % 2, :, self.x[some] % 2] = _HALVED[rows.view(np.uint16)]
        whole = bitmap.reshape(-1, self.pixels, self.pixels // 8)
        return Tiles(self.pixels, tile % columns, tile // columns, is_full, whole)

    def is_as(self, other: Tiles) -> bool:
        """Whether the other tiles are the same ones with the same pixels, in any order."""
        if len(self) != len(other):
            return False
        order, others = np.lexsort([self.x, self.y]), np.lexsort([other.x, other.y])
        return (
            np.array_equal(self.x[order], other.x[others])
            and np.array_equal(self.y[order], other.y[others])
            and np.array_equal(self._bitmaps()[order], other._bitmaps()[others])
        )

    def _bitmaps(self) -> Bitmaps:
        """The bitmaps of all tiles, including the full ones."""
        bitmaps = np.full((len(self), self.pixels, self.pixels // 8), 0xFF, np.uint8)
        bitmaps[~self.is_full] = self.bitmap
        return bitmaps

    def runs(self, side: int) -> Pixels:
        """Their pixels, as runs again.

        Args:
            side: of the map, pixels.
        """
        row, column = np.divmod(np.flatnonzero(self._edges()), self.pixels + 1)
        begin, end = column[::2], column[1::2]
        tile, row = np.divmod(row[::2], self.pixels)
        west = self.x[tile] * self.pixels
        return Pixels.of_runs(side, self.y[tile] * self.pixels + row, west + begin, west + end)

    def _edges(self) -> NDArray[np.bool_]:
        """For each row of each tile, where runs begin and where they have just ended."""
        bits = np.zeros((len(self) * self.pixels, self.pixels + 2), np.uint8)
        bits[:, 1:-1] = np.unpackbits(self._bitmaps().reshape(len(bits), self.pixels // 8), axis=1)
        edges: NDArray[np.bool_] = bits[:, 1:] != bits[:, :-1]
        return edges


def _covered(pixels: int, side: int, row: Numbers, west: Numbers, east: Numbers) -> Numbers:
    """How many pixels of each tile of a map are covered by runs, row by row.

    Args:
        pixels: along a tile's edge.
        side: of the map, in tiles.
        row: of each run, in pixels.
        west: where it begins.
        east: the pixel after its last.
    """
    first, last = west // pixels, (east - 1) // pixels
    steps = np.zeros(side * (side + 1), np.int64)
    begin = row // pixels * (side + 1)
    # as if each run covered its first and last tile from side to side; the excess is then subtracted
    np.add.at(steps, begin + first, pixels)
    np.add.at(steps, begin + last + 1, -pixels)
    covered = np.cumsum(steps.reshape(side, side + 1), axis=1)[:, :side].ravel()
    np.subtract.at(covered, row // pixels * side + first, west - first * pixels)
    np.subtract.at(covered, row // pixels * side + last, (last + 1) * pixels - east)
    return covered


def _filled(words: NDArray[np.uint64], pixels: int) -> NDArray[np.uint8]:
    """Turn flipped bits into set bits: each bit of a row becomes the parity of all bits up to it."""
    shift = 1
    while shift < _WORD:
        words ^= words >> np.uint64(shift)
        shift *= 2
    rows = words.reshape(-1, pixels // _WORD)
    for word in range(1, rows.shape[1]):
        rows[:, word] ^= np.uint64(0) - (rows[:, word - 1] & np.uint64(1))
    return words.astype(">u8").view(np.uint8)

"""Tiles as bitmaps: a bit a pixel, cut from runs of pixels and halved for the zoom above.

A bitmap has a row of bytes for each row of pixels, from the north; in a byte the highest bit is the pixel in
the west. Several are one array of shape (tiles, pixels, pixels / 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.pixels import Numbers, Pixels

Bitmaps = NDArray[np.uint8]

_WORD: Final = 64
"""Bits that are worked on together."""

_CHILDREN: Final = 4


def _halves() -> NDArray[np.uint8]:
    """For each two bytes of a row, as a number in this machine's order: a bit for each two of theirs."""
    pairs = np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    bits = np.unpackbits(pairs, axis=1)
    halves: NDArray[np.uint8] = np.packbits(bits[:, ::2] | bits[:, 1::2], axis=1).ravel()
    return halves


_HALVED: Final = _halves()


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Tiles of one zoom that have a pixel set.

    Attributes:
        pixels: along a tile's edge; a multiple of 64.
        x: their columns.
        y: their rows.
        is_full: which have all pixels set.
        bitmap: of each of the others, in the same order.
    """

    pixels: int
    x: Numbers
    y: Numbers
    is_full: NDArray[np.bool_]
    bitmap: Bitmaps

    @classmethod
    def of_runs(cls, pixels: int, runs: Pixels) -> Tiles:
        """The tiles that these pixels lie in, row by row. Holds a number for each tile of the map."""
        row, west, east = runs.rows()
        side = runs.side // pixels
        covered = _covered(pixels, side, row, west, east)
        found = np.flatnonzero(covered)
        is_full = covered[found] == pixels**2
        x, y = found % side, found // side
        # a bit is turned where a run begins or has ended, and in front of a row that begins within a run
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
        """The same tiles so far to the east and to the south."""
        return Tiles(self.pixels, self.x + columns, self.y + rows, self.is_full, self.bitmap)

    def halved(self) -> Tiles:
        """The tiles of the zoom above that hold these: a pixel is set where any of its four is."""
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
        """Whether the other tiles are the same and cover the same, in whatever order."""
        if len(self) != len(other):
            return False
        order, others = np.lexsort([self.x, self.y]), np.lexsort([other.x, other.y])
        return (
            np.array_equal(self.x[order], other.x[others])
            and np.array_equal(self.y[order], other.y[others])
            and np.array_equal(self._bitmaps()[order], other._bitmaps()[others])
        )

    def _bitmaps(self) -> Bitmaps:
        """Of the full ones too."""
        bitmaps = np.full((len(self), self.pixels, self.pixels // 8), 0xFF, np.uint8)
        bitmaps[~self.is_full] = self.bitmap
        return bitmaps

    def runs(self, side: int) -> Pixels:
        """Their pixels again.

        Args:
            side: of the map, pixels.
        """
        row, column = np.divmod(np.flatnonzero(self._edges()), self.pixels + 1)
        begin, end = column[::2], column[1::2]
        tile, row = np.divmod(row[::2], self.pixels)
        west = self.x[tile] * self.pixels
        return Pixels.of_runs(side, self.y[tile] * self.pixels + row, west + begin, west + end)

    def _edges(self) -> NDArray[np.bool_]:
        """For each row of each tile, where runs begin and where they have ended."""
        bits = np.zeros((len(self) * self.pixels, self.pixels + 2), np.uint8)
        bits[:, 1:-1] = np.unpackbits(self._bitmaps().reshape(len(bits), self.pixels // 8), axis=1)
        edges: NDArray[np.bool_] = bits[:, 1:] != bits[:, :-1]
        return edges


def _covered(pixels: int, side: int, row: Numbers, west: Numbers, east: Numbers) -> Numbers:
    """How many pixels of each tile of a map runs cover, row by row.

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
    # as if a run covered all of its first tile and of its last, and then what is too much
    np.add.at(steps, begin + first, pixels)
    np.add.at(steps, begin + last + 1, -pixels)
    covered = np.cumsum(steps.reshape(side, side + 1), axis=1)[:, :side].ravel()
    np.subtract.at(covered, row // pixels * side + first, west - first * pixels)
    np.subtract.at(covered, row // pixels * side + last, (last + 1) * pixels - east)
    return covered


def _filled(words: NDArray[np.uint64], pixels: int) -> NDArray[np.uint8]:
    """From bits that are turned to bits that are set: each bit of a row is the parity of those up to it."""
    shift = 1
    while shift < _WORD:
        words ^= words >> np.uint64(shift)
        shift *= 2
    rows = words.reshape(-1, pixels // _WORD)
    for word in range(1, rows.shape[1]):
        rows[:, word] ^= np.uint64(0) - (rows[:, word - 1] & np.uint64(1))
    return words.astype(">u8").view(np.uint8)

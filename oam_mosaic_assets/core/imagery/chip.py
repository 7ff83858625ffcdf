"""A chip is what one image shows of one block, cut to its footprint; a block is composed from chips."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.imagery.blocks import BLOCK, Tile, Window
from oam_mosaic_assets.core.imagery.pixels import Pixels, over

LINES: Final = 8
"""Scan lines in each row of pixels along which a footprint's coverage is measured."""

_TOGETHER: Final = 2**20
"""About how many crossings of outline and scan lines are in memory at a time; each takes some 100 bytes. A
footprint like a comb, which is valid, crosses each of a block's scan lines thousands of times."""

_SPECK: Final = 0.02
"""Area in pixels below which a footprint may fall between all scan lines."""

_HEAD: Final = struct.Struct("<4I")
_FULL: Final = 255


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """What an image shows in a window.

    Attributes:
        window: within one block.
        pixels: those of the window.
        counts: each pixel's weight, shape (height, width), see `feather`; None where edges are sharp.
    """

    window: Window
    pixels: Pixels
    counts: NDArray[np.uint8] | None = None

    def cut_to(self, window: Window) -> Chip:
        """The part of it that is in a window inside its own."""
        part = window.within(self.window)
        return Chip(window, self.pixels[part], None if self.counts is None else self.counts[part])

    def trimmed(self) -> Chip | None:
        """The chip without the empty rows and columns at its edges; None where it shows nothing."""
        rows = np.flatnonzero(self.pixels[..., 3].any(axis=1))
        columns = np.flatnonzero(self.pixels[..., 3].any(axis=0))
        if not len(rows):
            return None
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        x, y = self.window.x0, self.window.y0
        return self.cut_to(Window(x + int(left), y + int(top), x + int(right), y + int(bottom)))

    def to_bytes(self) -> bytes:
        """Serialise for short-term storage: uncompressed, as packing would take a fifth of the total time."""
        window = self.window
        counts = b"" if self.counts is None else self.counts.tobytes()
        return _HEAD.pack(window.x0, window.y0, window.x1, window.y1) + self.pixels.tobytes() + counts

    @classmethod
    def from_bytes(cls, content: bytes) -> Chip:
        """Read it back."""
        window = Window(*_HEAD.unpack_from(content))
        height, width = window.shape
        values = np.frombuffer(content, np.uint8, offset=_HEAD.size)
        pixels, counts = np.split(values, [height * width * 4])
        return cls(
            window, pixels.reshape(height, width, 4), counts.reshape(height, width) if len(counts) else None
        )


def within(pixels: Pixels, window: Window, area: Area) -> Pixels:
    """Cut pixels to a footprint.

    Args:
        pixels: those of the window.
        window: where they are.
        area: the footprint in pixel coordinates.
    """
    if shapely.contains(area, shapely.box(window.x0, window.y0, window.x1, window.y1)):
        return pixels
    alpha = pixels[..., 3]
    # footprint and image share their edge: a pixel half covered by both is half opaque, not a quarter
    covered = _covered(window, area)
    is_in = covered > 0
    # all four channels as one integer: numpy is slow to do it channel by channel
    cut: Pixels = (pixels.view(np.uint32) * is_in[..., None]).view(np.uint8)
    some = (covered < alpha) & is_in
    share, whole = covered[some, None].astype(np.uint16), alpha[some, None].astype(np.uint16)
    cut[some] = (pixels[some] * share + whole // 2) // whole
    return cut


def _covered(window: Window, area: Area) -> NDArray[np.uint8]:
    """How much of each pixel the footprint covers, 0 to 255: exact along `LINES` scan lines per row."""
    height, width = window.shape
    sides = _Sides.of(area, window)
    covered = np.concatenate([_covered_in(rows, sides, width) for rows in _bands(sides, height)])
    if area.area < _SPECK:  # it may fall between all lines
        middle = shapely.get_coordinates(area)[0] - (window.x0, window.y0)
        column, row = np.floor(middle).astype(np.int64).tolist()
        if 0 <= column < width and 0 <= row < height:
            covered[row, column] = _FULL
    return covered


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """The sides of an outline, seen from a window's north-west corner.

    Attributes:
        start: where each begins, shape (n, 2): x in pixels, y in scan lines.
        end: where it ends.
        first: the first of the window's scan lines that it crosses.
        after: the one after the last; equal to `first` if it crosses none.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    first: NDArray[np.int64]
    after: NDArray[np.int64]

    @classmethod
    def of(cls, area: Area, window: Window) -> _Sides:
        """Those of a footprint in pixel coordinates."""
        rings = shapely.get_rings(shapely.get_parts(area))
        places, ring = shapely.get_coordinates(rings, return_index=True)
        places = (places - (window.x0, window.y0)) * (1.0, LINES)
        inside = np.flatnonzero(ring[1:] == ring[:-1])
        start, end = places[inside], places[inside + 1]
        low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
        lines = window.shape[0] * LINES
        first, after = (np.clip(np.ceil(each - 0.5), 0, lines).astype(np.int64) for each in (low, high))
        return cls(start, end, first, after)


def _bands(sides: _Sides, height: int) -> Iterator[range]:
    """A window's rows in bands of about `_TOGETHER` crossings, or of one row that has more."""
    begun, ended = (np.bincount(each, minlength=height * LINES + 1) for each in (sides.first, sides.after))
    crossings = np.cumsum(begun - ended)[:-1].reshape(height, LINES).sum(axis=1)
    band = np.cumsum(crossings) // _TOGETHER
    edges = [0, *(np.flatnonzero(np.diff(band)) + 1).tolist(), height]
    return (range(top, bottom) for top, bottom in pairwise(edges))


def _covered_in(rows: range, sides: _Sides, width: int) -> NDArray[np.uint8]:
    """How much of each pixel in some rows of a window the outline encloses."""
    x, line = _crossings(rows, sides, width)
    # the footprint lies between pairs of crossings; each changes all pixels after it, and its own in part
    side = np.where(np.arange(len(x)) % 2 == 0, _FULL / LINES, -_FULL / LINES)
    column = np.minimum(x.astype(np.int64), width)
    rest = x - column
    place = (line // LINES - rows.start) * (width + 2) + column
    changes = np.bincount(
        np.concatenate([place, place + 1]),
        np.concatenate([side * (1.0 - rest), side * rest]),
        minlength=len(rows) * (width + 2),
    ).reshape(len(rows), width + 2)
    shares: NDArray[np.float64] = changes.astype(np.float64, copy=False)  # integers if nothing is crossed
    shares[:, 0] += 0.5  # so that each sum is rounded, and none is below 0 or above 255
    covered: NDArray[np.uint8] = shares.cumsum(axis=1)[:, :width].astype(np.uint8)
    return covered


def _crossings(rows: range, sides: _Sides, width: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where an outline crosses the scan lines of some rows, in pairs: x from the west edge, and the line."""
    start, stop = rows.start * LINES, rows.stop * LINES
    first, after = (np.clip(each, start, stop) for each in (sides.first, sides.after))
    edge = np.repeat(np.arange(len(first)), after - first)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(after - first) - after, after - first)
    (x0, y0), (x1, y1) = sides.start[edge].T, sides.end[edge].T
    x = np.clip(x0 + (line + 0.5 - y0) * (x1 - x0) / np.where(y1 == y0, 1.0, y1 - y0), 0.0, width)
    order = np.lexsort([x, line])
    return x[order], line[order]


def composed(block: Tile, chips: Iterable[Chip]) -> Pixels:
    """Compose a block from its chips; the first lies on top, the others show where it is transparent."""
    whole = Window.of_block(block)
    seen = np.zeros((BLOCK, BLOCK, 4), np.uint8)
    for chip in chips:
        top = seen[chip.window.within(whole)]
        top[:] = over(top, chip.pixels) if top.any() else chip.pixels
    return seen

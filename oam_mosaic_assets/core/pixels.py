"""Areas as sets of the pixels that they touch, stored as runs along rows.

A pixel is 1/256 of a tile's edge at its zoom; x to the east, y to the south, from the map's north-western
corner. Pixels are numbered row after row, so that millions of them are joined and compared as plain numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.grid import Geometries

Numbers = NDArray[np.int64]
Points = NDArray[np.float64]

TOGETHER = 200_000
"""Rows of pixels crossed by edges that are processed in one batch: some 40 MB."""

_MARGIN = 1
"""Pixels of padding round the map, so that growing a set by one neither leaves the row nor goes below 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A set of pixels.

    Attributes:
        side: the map's side, in pixels.
        begin: number of each run's first pixel; ascending, and no two runs touch.
        end: the number after each run's last pixel.
    """

    side: int
    begin: Numbers
    end: Numbers

    @classmethod
    def of_runs(cls, side: int, row: Numbers, west: Numbers, east: Numbers) -> Self:
        """The pixels of runs in rows, each from west up to but excluding east; in any order, may overlap."""
        start = (row + _MARGIN) * (side + 2 * _MARGIN) + _MARGIN
        return cls._joined(side, start + west, start + east)

    @classmethod
    def union(cls, side: int, sets: Sequence[Pixels]) -> Self:
        """The pixels that are in any of these sets."""
        none = np.zeros(0, np.int64)
        return cls._joined(
            side,
            np.concatenate([none, *(each.begin for each in sets)]),
            np.concatenate([none, *(each.end for each in sets)]),
        )

    @classmethod
    def _joined(cls, side: int, begin: Numbers, end: Numbers) -> Self:
        order = np.argsort(begin)
        order = order[(end > begin)[order]]
        begin, reach = begin[order], np.maximum.accumulate(end[order])
        is_first = np.ones(len(begin), np.bool_)
        is_first[1:] = begin[1:] > reach[:-1]
        firsts = np.flatnonzero(is_first)
        return cls(side, begin[firsts], reach[np.append(firsts[1:], len(begin))[: len(firsts)] - 1])

    def __len__(self) -> int:
        """Number of pixels."""
        return int((self.end - self.begin).sum())

    def hold(self, x: Numbers, y: Numbers) -> NDArray[np.bool_]:
        """Which of these pixels are in the set."""
        number = (y + _MARGIN) * (self.side + 2 * _MARGIN) + _MARGIN + x
        place = np.searchsorted(self.begin, number, side="right") - 1
        held: NDArray[np.bool_] = place >= 0
        held[held] = number[held] < self.end[place[held]]
        return held

    def rows(self) -> tuple[Numbers, Numbers, Numbers]:
        """The runs as row, west and east, as `of_runs` takes them."""
        stride = self.side + 2 * _MARGIN
        row, west = np.divmod(self.begin, stride)
        return row - _MARGIN, west - _MARGIN, self.end - row * stride - _MARGIN

    def halved(self) -> Pixels:
        """The pixels of the zoom above that contain these."""
        row, west, east = self.rows()
        return Pixels.of_runs(self.side // 2, row // 2, west // 2, (east + 1) // 2)

    def grown(self) -> Pixels:
        """These pixels and the eight around each."""
        stride = self.side + 2 * _MARGIN
        rows = [-stride, 0, stride]
        return Pixels._joined(
            self.side,
            np.concatenate([self.begin + row - 1 for row in rows]),
            np.concatenate([self.end + row + 1 for row in rows]),
        )

    def held_by(self, other: Pixels) -> Pixels:
        """The pixels that are also in the other set."""
        return self._pieces(other, kept=True)

    def without(self, other: Pixels) -> Pixels:
        """The pixels that are not in the other set."""
        return self._pieces(other, kept=False)

    def _pieces(self, other: Pixels, *, kept: bool) -> Pixels:
        bounds = np.unique(np.concatenate([self.begin, self.end, other.begin, other.end]))
        in_these, in_other = (
            np.searchsorted(np.column_stack([each.begin, each.end]).ravel(), bounds[:-1], side="right") % 2
            for each in (self, other)
        )
        which = (in_these == 1) & (in_other == kept)
        return Pixels._joined(self.side, bounds[:-1][which], bounds[1:][which])

    def outside(self, other: Pixels) -> list[tuple[int, int]]:
        """Column and row of the first pixel that the other set lacks, for each run that it does not cover."""
        if not len(other.begin):
            first = self.begin
        else:
            place = np.searchsorted(other.begin, self.begin, side="right") - 1
            covered = np.where(place < 0, self.begin, np.maximum(other.end[place], self.begin))
            first = covered[covered < self.end]
        rows, columns = np.divmod(first, self.side + 2 * _MARGIN)
        return list(zip((columns - _MARGIN).tolist(), (rows - _MARGIN).tolist(), strict=True))


def pixels_touched(
    polygons: Geometries, side: int, *, scale: float, origin: tuple[int, int] = (0, 0)
) -> Pixels:
    """The pixels of a square map that polygons overlap. Whatever lies beyond the map is cut off.

    Args:
        polygons: not empty, in any coordinates with x to the east and y to the south.
        side: the map's side, in pixels.
        scale: pixels per unit of these coordinates.
        origin: the map's north-western corner, in pixels.
    """
    rings, of = shapely.get_rings(polygons, return_index=True)
    sizes = shapely.get_num_coordinates(rings).astype(np.int64)
    # a ring's last point repeats its first
    points = np.delete(shapely.get_coordinates(rings), np.cumsum(sizes) - 1, axis=0) * scale - origin
    sizes -= 1
    found = []
    for top, bottom in _bands(points[:, 1], sizes, side):
        row, west, east = touched(points, sizes, of, rows=(top, bottom))
        found.append(Pixels.of_runs(side, row, np.clip(west, 0, side), np.clip(east, 0, side)))
    return Pixels.union(side, found)


def _bands(y: Points, sizes: Numbers, side: int) -> Iterator[tuple[int, int]]:
    """Split a map's rows into bands that edges cross about `TOGETHER` times, or of one row with more.

    A footprint like a comb, which is valid, crosses a few of the rows thousands of times, and no others.

    Args:
        y: of the points of all rings, see `touched`.
        sizes: number of points in each ring.
        side: the map's side, in pixels.
    """
    ends = np.clip(np.stack([y, y[_following(sizes)]]), 0, side)
    first, after = np.floor(ends.min(axis=0)).astype(np.int64), np.ceil(ends.max(axis=0)).astype(np.int64)
    if (after - first).sum() <= TOGETHER:
        yield 0, side
        return
    begun, ended = (np.bincount(each, minlength=side + 1) for each in (first, after))
    crossings = np.cumsum(begun - ended)[:-1]
    band = np.cumsum(crossings) // TOGETHER
    yield from pairwise([0, *(np.flatnonzero(np.diff(band)) + 1).tolist(), side])


def touched(
    points: Points, sizes: Numbers, of: Numbers, *, rows: tuple[int, int] | None = None
) -> tuple[Numbers, Numbers, Numbers]:
    """Every pixel that polygons overlap, as runs: row, west, east. Touching a pixel's side does not count.

    Args:
        points: points of all rings, ring after ring, none of them closed; shape (n, 2), pixels.
        sizes: number of points in each ring.
        of: index of each ring's polygon, ascending. A polygon's rings are filled by the even-odd rule.
        rows: the first wanted row and the one after the last; None for all.
    """
    following = _following(sizes)
    is_up = points[following, 1] < points[:, 1]
    low = np.where(is_up[:, None], points[following], points)
    high = np.where(is_up[:, None], points, points[following])
    polygon = np.repeat(of, sizes)
    # every row that an edge crosses
    first, after = np.floor(low[:, 1]).astype(np.int64), np.ceil(high[:, 1]).astype(np.int64)
    if rows is not None:
        first, after = np.maximum(first, rows[0]), np.minimum(after, rows[1])
    count = np.maximum(after - first, 0)
    edge = np.repeat(np.arange(len(points)), count)
    row = np.arange(len(edge)) + np.repeat(first - (np.cumsum(count) - count), count)
    (x0, y0), (x1, y1) = low[edge].T, high[edge].T
    height = y1 - y0
    slope = np.divide(x1 - x0, height, out=np.zeros_like(height), where=height > 0.0)

    def at(y: Points) -> Points:
        x: Points = np.clip(x0 + (y - y0) * slope, np.minimum(x0, x1), np.maximum(x0, x1))
        return x

    enters, leaves = at(np.maximum(y0, row)), np.where(height > 0.0, at(np.minimum(y1, row + 1.0)), x1)
    # the inside lies between the points where edges cross the middle of each row
    crosses = (y0 <= row + 0.5) & (y1 > row + 0.5)
    x = at(row + 0.5)[crosses]
    order = np.lexsort([x, row[crosses], polygon[edge[crosses]]])
    x, across = x[order], row[crosses][order]
    return (
        np.concatenate([row, across[::2]]),
        np.floor(np.concatenate([np.minimum(enters, leaves), x[::2]])).astype(np.int64),
        np.ceil(np.concatenate([np.maximum(enters, leaves), x[1::2]])).astype(np.int64),
    )


def _following(sizes: Numbers) -> Numbers:
    """The index of the point after each one along its ring."""
    ends = np.cumsum(sizes)
    following = np.arange(1, int(sizes.sum()) + 1)
    following[ends - 1] = ends - sizes
    return following

"""Sets of tiles as stretches of tile ids: in PMTiles the tiles below a tile are one stretch at each zoom.

The ids of a zoom follow those of the zoom before, so a stretch may span several zooms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Directory, Numbers, joined
from oam_mosaic_assets.core.grid import first_tile_id

_TOGETHER: Final = 2**17
"""Entries that are cut in one batch: some twenty megabytes besides the result."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """Tile ids from each `begin` up to but excluding its `end`. Ascending; no two stretches touch."""

    begin: Numbers
    end: Numbers

    @classmethod
    def of(cls, tile_ids: Numbers) -> Self:
        """The set of these tiles, given in any order; duplicates are allowed."""
        ids = np.unique(tile_ids)
        breaks = np.flatnonzero(np.diff(ids) != 1)
        return cls(np.append(ids[:1], ids[breaks + 1]), np.append(ids[breaks], ids[-1:]) + 1)

    @classmethod
    def of_zooms(cls, first: int, last: int) -> Self:
        """All tiles of the zooms from `first` to `last`; none if `last` is before `first`."""
        begin = np.array([first_tile_id(first)] if first <= last else [], np.int64)
        return cls(begin, np.array([first_tile_id(last + 1)] if first <= last else [], np.int64))

    @classmethod
    def union(cls, sets: Sequence[Stretches]) -> Self:
        """The tiles that are in any of these sets."""
        none = np.zeros(0, np.int64)
        begin = np.concatenate([none, *(each.begin for each in sets)])
        order = np.argsort(begin)
        begin, end = begin[order], np.concatenate([none, *(each.end for each in sets)])[order]
        reach = np.maximum.accumulate(end)
        firsts = np.flatnonzero(np.append(np.ones(min(1, len(begin)), np.bool_), begin[1:] > reach[:-1]))
        return cls(begin[firsts], reach[np.append(firsts[1:], len(begin))[: len(firsts)] - 1])

    def common(self, other: Stretches) -> Stretches:
        """The tiles that are in both sets."""
        bounds = np.unique(np.concatenate([self._bounds, other._bounds]))
        begin, end = bounds[:-1], bounds[1:]
        both = self.hold(begin) & other.hold(begin)
        return Stretches.union([Stretches(begin[both], end[both])])

    def above(self, zoom: int, last: int) -> Stretches:
        """The tiles of a zoom that are in the set, or above a tile of it down to zoom `last`."""
        found = []
        for deeper in range(zoom, last + 1):
            some, shift = self.within(deeper), 2 * (deeper - zoom)
            first, of = first_tile_id(deeper), first_tile_id(zoom)
            begin, end = some.begin - first >> shift, (some.end - 1 - first >> shift) + 1
            found.append(Stretches(begin + of, end + of))
        return Stretches.union(found)

    def __len__(self) -> int:
        return int((self.end - self.begin).sum())

    @property
    def tile_ids(self) -> Numbers:
        """All tile ids of the set, ascending."""
        lengths = self.end - self.begin
        before = np.cumsum(lengths) - lengths
        ids: Numbers = np.arange(len(self)) + np.repeat(self.begin - before, lengths)
        return ids

    def batches(self, size: int) -> Iterator[Numbers]:
        """The same, `size` at a time."""
        after = np.cumsum(self.end - self.begin)
        for start in range(0, len(self), size):
            number = np.arange(start, min(start + size, len(self)))
            which = np.searchsorted(after, number, side="right")
            ids = np.asarray(self.end[which] - after[which] + number, np.int64)
            yield ids

    def of_zoom(self, zoom: int) -> Numbers:
        """The tile ids of one zoom, ascending."""
        return self.within(zoom).tile_ids

    def within(self, zoom: int) -> Stretches:
        """The tiles of one zoom."""
        first, after = first_tile_id(zoom), first_tile_id(zoom + 1)
        some = slice(np.searchsorted(self.end, first, side="right"), np.searchsorted(self.begin, after))
        return Stretches(np.maximum(self.begin[some], first), np.minimum(self.end[some], after))

    def hold(self, tile_ids: Numbers) -> NDArray[np.bool_]:
        """Which of these tiles are in the set."""
        held: NDArray[np.bool_] = np.searchsorted(self._bounds, tile_ids, side="right") % 2 == 1
        return held

    def reach(self, begin: Numbers, end: Numbers) -> NDArray[np.bool_]:
        """Which ranges of tile ids, from `begin` up to but excluding `end`, hold a tile of the set."""
        reached: NDArray[np.bool_] = self.end.searchsorted(begin, side="right") < self.begin.searchsorted(end)
        return reached

    def cut(self, entries: Directory) -> tuple[Directory, Directory]:
        """Entries of tiles in the set, and those of other tiles. Runs are cut where they cross over."""
        if not len(entries):
            return entries, entries
        first, after = entries.tile_id[0], entries.tile_id[-1] + entries.run_length[-1]
        some = slice(np.searchsorted(self.end, first, side="right"), np.searchsorted(self.begin, after))
        near = Stretches(self.begin[some], self.end[some])  # there may be a million of them
        if not len(near.begin):
            return Directory.empty(), entries
        if near.begin[0] <= first and after <= near.end[0]:
            return entries, Directory.empty()
        starts = range(0, len(entries), _TOGETHER)
        parts = [near._cut(entries[start : start + _TOGETHER]) for start in starts]
        return joined([inside for inside, _ in parts]), joined([outside for _, outside in parts])

    def _cut(self, entries: Directory) -> tuple[Directory, Directory]:
        bounds, first = self._bounds, entries.tile_id
        after = np.searchsorted(bounds, first, side="right")
        cuts = np.searchsorted(bounds, first + entries.run_length) - after
        of = np.repeat(np.arange(len(entries)), cuts + 1)
        ordinal = np.arange(len(of)) - np.repeat(np.cumsum(cuts + 1) - cuts - 1, cuts + 1)
        begin = first[of]
        later = ordinal > 0
        begin[later] = bounds[(after[of] + ordinal - 1)[later]]
        end = np.append(begin[1:], 0)
        is_last = ordinal == cuts[of]
        end[is_last] = (first + entries.run_length)[of][is_last]
        pieces = Directory(begin, end - begin, entries.length[of], entries.offset[of])
        inside = self.hold(begin)
        return pieces[inside], pieces[~inside]

    @property
    def _bounds(self) -> Numbers:
        return np.column_stack([self.begin, self.end]).ravel()

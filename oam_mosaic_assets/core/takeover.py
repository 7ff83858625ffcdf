"""Checking that tiles that were taken over did not change: two files are compared byte for byte."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import tile_name
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.stretches import Stretches

_PIECE: Final = 4 * 2**20
"""Bytes of each file that are read at a time."""

_TOGETHER: Final = 2**17
"""Entries of each source that are compared in one batch: some fifty megabytes."""

_AFTER_ALL: Final = 2**63 - 1
"""A number above all tile ids."""


def differences(now: Source, then: Source, *, besides: Stretches | None = None) -> list[str]:
    """Tiles that only one of two sources has, or that differ between them, in words; empty if none do.

    Args:
        now: the tiles that were taken over.
        then: the same tiles where they were taken from.
        besides: tiles that are ignored.
    """
    found = [_named(what, *tiles) for what, tiles in _differing(now, then, besides).items()]
    return [each for each in found if each]


def differing_tiles(now: Source, then: Source) -> Stretches:
    """The tiles that only one of two sources has, or that differ between them."""
    found = _differing(now, then, None).values()
    return Stretches.union([Stretches(begin, begin + lengths) for begin, lengths in found])


def _differing(now: Source, then: Source, besides: Stretches | None) -> dict[str, tuple[Numbers, Numbers]]:
    """First tile and length of stretches of tiles, by how they differ; they are compared in batches."""
    none = np.zeros(0, np.int64)
    found = {what: [(none, none)] for what in ("lost", "new", "different")}
    breaks = np.unique(np.concatenate([each.entries.tile_id[::_TOGETHER] for each in (now, then)])).tolist()
    for low, high in pairwise([*breaks, _AFTER_ALL]):
        sides = (_between(each, low, high, besides) for each in (now, then))
        for what, tiles in _differing_between(low, high, *sides).items():
            found[what].append(tiles)
    return {
        what: (np.concatenate([begin for begin, _ in tiles]), np.concatenate([length for _, length in tiles]))
        for what, tiles in found.items()
    }


def _between(source: Source, low: int, high: int, besides: Stretches | None) -> Source:
    """The source's entries of tiles from `low` to before `high`; at the ends they may cover others too."""
    first, after = np.searchsorted(source.entries.tile_id, [low, high]).tolist()
    some = source.entries[max(0, first - 1) : after]
    return Source(source.descriptor, some if besides is None else besides.cut(some)[1])


def _differing_between(low: int, high: int, now: Source, then: Source) -> dict[str, tuple[Numbers, Numbers]]:
    sides = [each.entries.tile_id for each in (now, then)]
    sides += [each.entries.tile_id + each.entries.run_length for each in (now, then)]
    bounds = np.sort(np.clip(np.concatenate(sides), low, high), kind="stable")  # merges sorted runs
    bounds = bounds[np.diff(bounds, prepend=-1) > 0]
    begin, lengths = bounds[:-1], np.diff(bounds)
    of_now, of_then = now.entries.at(begin), then.entries.at(begin)
    both = (of_now >= 0) & (of_then >= 0)
    others = both.copy()
    others[both] = ~_equal(now, of_now[both], then, of_then[both])
    which = {
        "lost": (of_now < 0) & (of_then >= 0),
        "new": (of_now >= 0) & (of_then < 0),
        "different": others,
    }
    return {what: (begin[each], lengths[each]) for what, each in which.items()}


def _equal(now: Source, of_now: Numbers, then: Source, of_then: Numbers) -> NDArray[np.bool_]:
    """Whether these entries have equal contents, pair by pair."""
    these, those = now.entries[of_now], then.entries[of_then]
    same = these.length == those.length
    places = np.column_stack([these.offset, those.offset, these.length])[same]
    order = np.lexsort(places.T[::-1])
    is_first = np.diff(places[order], axis=0, prepend=-1).any(axis=1)
    alike = _equal_pairs(now.descriptor, then.descriptor, places[order][is_first])
    of_pair = np.zeros(len(places), np.int64)
    of_pair[order] = np.cumsum(is_first) - 1
    same[same] = alike[of_pair]
    return np.asarray(same, np.bool_)


def _equal_pairs(now: int, then: int, pairs: Numbers) -> NDArray[np.bool_]:
    """The same for two offsets and a length each. Contents adjacent in both files are read together."""
    equal = np.zeros(len(pairs), np.bool_)
    ends = pairs[:, :2] + pairs[:, 2:]
    follows = (pairs[1:, :2] == ends[:-1]).all(axis=1)
    begins = np.append(np.zeros(min(1, len(pairs)), np.int64), np.flatnonzero(~follows) + 1)
    for start, end in pairwise([*begins.tolist(), len(pairs)]):
        while start < end:
            stop = int(np.searchsorted(ends[start:end, 0], pairs[start, 0] + _PIECE)) + start
            stop = max(start + 1, stop)
            equal[start:stop] = _equal_run(now, then, pairs[start:stop])
            start = stop  # noqa: PLW2901
    return equal


def _equal_run(now: int, then: int, pairs: Numbers) -> NDArray[np.bool_] | bool:
    length = int(pairs[:, 2].sum())
    these, those = (os.pread(each, length, int(at)) for each, at in ((now, pairs[0, 0]), (then, pairs[0, 1])))
    if these == those and len(these) == length:
        return True
    if len(pairs) == 1:
        return False
    each_by_itself: NDArray[np.bool_] = np.array([_equal_run(now, then, each[None, :]) for each in pairs])
    return each_by_itself


def _named(what: str, begin: Numbers, lengths: Numbers) -> str:
    if not len(begin):
        return ""
    return f"{int(lengths.sum())} tiles are {what}, first {tile_name(int(begin[0]))}"

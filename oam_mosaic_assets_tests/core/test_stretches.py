"""Sets of tiles: what they contain and what they do not, tile by tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.core import stretches
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids, tile_positions, zoom_of
from oam_mosaic_assets.core.stretches import Stretches

IDS = st.integers(0, 60)


@st.composite
def directories(draw: st.DrawFn) -> Directory:
    """Runs of tiles that do not overlap, each identified by its offset."""
    gaps = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=12))
    skipped, runs = np.array(gaps, np.int64).reshape(-1, 2).T
    begins = np.cumsum(skipped + runs) - runs
    return Directory(begins, runs, np.ones_like(runs), np.arange(len(runs)))


def tiles_in(entries: Directory) -> dict[int, int]:
    """The offset of each tile."""
    found: dict[int, int] = {}
    for first, run, offset in zip(
        entries.tile_id.tolist(), entries.run_length.tolist(), entries.offset.tolist(), strict=True
    ):
        assert found.keys().isdisjoint(range(first, first + run))
        found.update(dict.fromkeys(range(first, first + run), offset))
    return found


@pytest.mark.parametrize("together", [1, 3, 100])
@given(chosen=st.sets(IDS) | st.just(set(range(200))), entries=directories())
def test_each_tile_is_on_its_side_of_the_cut(together: int, chosen: set[int], entries: Directory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "_TOGETHER", together)
        inside, outside = Stretches.of(np.array(sorted(chosen), np.int64)).cut(entries)
    whole = tiles_in(entries)
    assert tiles_in(inside) == {tile: offset for tile, offset in whole.items() if tile in chosen}
    assert tiles_in(outside) == {tile: offset for tile, offset in whole.items() if tile not in chosen}
    assert all((np.diff(each.tile_id) > 0).all() for each in (inside, outside))


def set_of(some: Stretches) -> set[int]:
    """The tiles of a set, once it is checked that its stretches ascend and no two touch."""
    assert (some.begin < some.end).all()
    assert (some.end[:-1] < some.begin[1:]).all()
    assert len(some) == len(some.tile_ids)
    return set(some.tile_ids.tolist())


def stretches_of(chosen: set[int]) -> Stretches:
    return Stretches.of(np.array(sorted(chosen), np.int64))


LAST = 4
"""The last zoom."""

TILES = st.sets(st.integers(0, first_tile_id(LAST + 1) - 1), max_size=40) | st.builds(
    lambda begin, count: set(range(begin, min(begin + count, first_tile_id(LAST + 1)))),
    st.integers(0, first_tile_id(LAST + 1) - 1),
    st.integers(0, 200),
)


@given(one=TILES, other=TILES)
def test_what_is_common_is_in_both(one: set[int], other: set[int]) -> None:
    first, second = stretches_of(one), stretches_of(other)
    assert set_of(first.common(second)) == set_of(second.common(first)) == one & other
    assert set_of(first.common(first)) == one


@given(chosen=TILES, zoom=st.integers(0, LAST), last=st.integers(0, LAST))
def test_above_are_the_tiles_that_others_lie_below(chosen: set[int], zoom: int, last: int) -> None:
    above = set()
    for tile in chosen:
        deeper = zoom_of(tile)
        if zoom <= deeper <= last:
            (x,), (y,) = tile_positions(np.array([tile]), deeper)
            up = deeper - zoom
            above.add(int(tile_ids(zoom, np.array([x >> up]), np.array([y >> up]))[0]))
    assert set_of(stretches_of(chosen).above(zoom, last)) == above


@pytest.mark.parametrize("zoom", [0, 10, 17, 18])
def test_above_reaches_down_to_the_deepest_zoom(zoom: int) -> None:
    corners = np.array([0, 2**18 - 1])
    deepest = tile_ids(18, corners, corners)
    above = set(tile_ids(zoom, corners >> 18 - zoom, corners >> 18 - zoom).tolist())
    assert set_of(Stretches.of(deepest).above(zoom, 18)) == above


@given(chosen=st.sets(IDS), size=st.integers(1, 7))
def test_batches_are_all_tiles_in_their_order(chosen: set[int], size: int) -> None:
    batches = [each.tolist() for each in stretches_of(chosen).batches(size)]
    assert [tile for each in batches for tile in each] == sorted(chosen)
    assert all(len(each) == size for each in batches[:-1])

"""Sets of tiles: what lies in them and what does not, tile by tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.core import stretches
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.stretches import Stretches

IDS = st.integers(0, 60)


@st.composite
def directories(draw: st.DrawFn) -> Directory:
    """Runs of tiles, none of which overlap; the offset of each tells it from the others."""
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

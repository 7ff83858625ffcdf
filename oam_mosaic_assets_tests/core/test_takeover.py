"""Differences between two files of tiles, found however many tiles are compared at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from oam_mosaic_assets.core import stretches, takeover
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.takeover import differences, differing_tiles

CONTENTS = [b"a", b"bb", b"cc", b"d" * 40]
TILES = 300


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[ExitStack, Path]]:
    with ExitStack() as stack:
        yield stack, tmp_path


def source_of(world: dict[int, bytes], held: tuple[ExitStack, Path]) -> Source:
    """A world as runs of equal tiles, with each content in the file once."""
    stack, folder = held
    spool = stack.enter_context((folder / f"{len([*folder.iterdir()])}").open("x+b"))
    spool.write(b"".join(CONTENTS))
    spool.flush()
    starts = np.cumsum([0, *map(len, CONTENTS)])
    entries: list[list[int]] = []
    for tile, content in sorted(world.items()):
        which = CONTENTS.index(content)
        if entries and entries[-1][0] + entries[-1][1] == tile and entries[-1][3] == starts[which]:
            entries[-1][1] += 1
        else:
            entries.append([tile, 1, len(content), int(starts[which])])
    return Source(spool.fileno(), Directory(*np.array(entries, np.int64).reshape(-1, 4).T))


def worlds(seed: int) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Two that differ here and there; contents repeat over several tiles, so that there are runs."""
    chance = np.random.default_rng(seed)
    then = {
        tile: CONTENTS[(tile // 7) % 4 if chance.integers(4) else chance.integers(4)]
        for tile in range(5, TILES)
        if chance.integers(5)
    }
    now = dict(then)
    for tile in chance.integers(0, TILES, 30).tolist():
        if chance.integers(2):
            now[tile] = CONTENTS[chance.integers(4)]
        else:
            now.pop(tile, None)
    return now, then


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("together", [1, 2, 7, 2**17])
def test_what_differs_is_found_and_nothing_else(
    held: tuple[ExitStack, Path], monkeypatch: pytest.MonkeyPatch, seed: int, together: int
) -> None:
    monkeypatch.setattr(takeover, "_TOGETHER", together)
    now, then = worlds(seed)
    sides = source_of(now, held), source_of(then, held)

    expected = sorted(tile for tile in now.keys() | then.keys() if now.get(tile) != then.get(tile))
    assert differing_tiles(*sides).tile_ids.tolist() == expected
    lost = sum(tile not in now for tile in expected)
    told = differences(*sides)
    assert [each for each in told if each.startswith(f"{lost} tiles are lost")]
    assert differences(sides[0], source_of(now, held)) == []
    assert differences(*sides, besides=Stretches.of(np.array(expected))) == []
    one = differences(*sides, besides=Stretches.of(np.array(expected[1:])))
    assert [each.split(" ")[0] for each in one] == ["1"]


def test_what_there_is_nothing_of_is_all_lost_or_new(held: tuple[ExitStack, Path]) -> None:
    some, none = source_of({1: b"a", 2: b"a"}, held), source_of({}, held)
    assert differences(none, some) == ["2 tiles are lost, first 1/0/0"]
    assert differences(some, none) == ["2 tiles are new, first 1/0/0"]
    assert differences(none, none) == []


@pytest.mark.parametrize("together", [1, 3, 2**17])
def test_entries_are_cut_alike_however_many_are_cut_together(
    held: tuple[ExitStack, Path], monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(stretches, "_TOGETHER", together)
    now, _ = worlds(3)
    chance = np.random.default_rng(3)
    wanted = Stretches.of(chance.choice(TILES, 90, replace=False))
    inside, outside = wanted.cut(source_of(now, held).entries)
    for part, is_inside in ((inside, True), (outside, False)):
        tiles = np.concatenate(
            [np.arange(begin, begin + run) for begin, run in zip(part.tile_id, part.run_length, strict=True)]
        )
        assert tiles.tolist() == [
            tile for tile in sorted(now) if wanted.hold(np.array([tile]))[0] == is_inside
        ]

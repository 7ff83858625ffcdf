"""Merging files of tiles into one archive: each tile and each content once, and always the same bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pmtiles.reader import MemorySource, all_tiles
from pmtiles.tile import tileid_to_zxy

from oam_mosaic_assets.core import contents as contents_module
from oam_mosaic_assets.core import merging
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.entry_files import EntryFiles
from oam_mosaic_assets.core.fragment import spooled
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets_tests.core.archives import pieces_of
from oam_mosaic_assets_tests.core.strategies import examples

PLACE = Place(zoom_min=0, zoom_max=4, bounds=(-1.0, -2.0, 3.0, 4.0))

contents = st.sampled_from([b"a", b"b", b"ab" * 20, b"b" + b"ab" * 20, b"c" * 40])
"""Short, long, and some with the same ending."""

worlds = st.dictionaries(st.integers(0, first_tile_id(5) - 1), contents, max_size=60)
"""Contents by tile id."""

sets = st.sets(st.integers(0, first_tile_id(5) - 1)).map(
    lambda ids: Stretches.of(np.array(sorted(ids), np.int64))
)


class Bench:
    """A folder to write in, with files that stay open."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.folder, self.held, self.number = folder, held, count()

    def path(self) -> Path:
        return self.folder / f"{next(self.number)}"

    def source(self, world: Mapping[int, bytes]) -> Source:
        """A source of these tiles, in a file of its own."""
        tiles = ((*tileid_to_zxy(tile_id), content) for tile_id, content in world.items())
        return spooled(tiles, self.held.enter_context(self.path().open("x+b")))

    def merged(self, *sources: Source) -> Path:
        """An archive of all these sources."""
        path = self.path()
        write_archive(path, sources, PLACE, {"name": "a"})
        return path

    def archived(self, path: Path) -> Source:
        """All tiles of an archive, as a source."""
        return Source.of_archive(self.held.enter_context(open_archive(path)))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as held:
        yield Bench(tmp_path, held)


def tiles_of(path: Path) -> dict[tuple[int, int, int], bytes]:
    return dict(all_tiles(MemorySource(path.read_bytes())))  # type: ignore[no-untyped-call]  # pmtiles has none


@examples(100)
@given(old=worlds, new=worlds, made=sets)
def test_what_is_taken_over_and_what_is_made_give_the_bytes_of_a_whole_run(
    tmp_path_factory: pytest.TempPathFactory, old: dict[int, bytes], new: dict[int, bytes], made: Stretches
) -> None:
    ids = np.array(sorted(new), np.int64)
    fresh = set(ids[made.hold(ids)].tolist())
    after = {each: content for each, content in old.items() if not made.hold(np.array([each]))[0]}
    after |= {each: new[each] for each in fresh}
    with ExitStack() as held:
        bench = Bench(tmp_path_factory.mktemp("bench"), held)
        before = bench.archived(bench.merged(bench.source(old)))
        _, kept = made.cut(before.entries)
        inside, _ = made.cut(bench.source(new).entries)
        both = bench.merged(
            Source(before.descriptor, kept), bench.source({each: new[each] for each in fresh})
        )
        whole = bench.merged(bench.source(after))

        assert both.read_bytes() == whole.read_bytes()
        assert tiles_of(both) == {tileid_to_zxy(each): content for each, content in after.items()}
        assert inside.run_length.sum() == len(fresh)


def test_equal_contents_of_two_files_lie_there_once(bench: Bench) -> None:
    path = bench.merged(bench.source({1: b"same", 3: b"other"}), bench.source({2: b"same", 0: b"first"}))

    pieces = pieces_of(path)
    assert pieces.tiles == b"firstsameother"
    assert [(e.tile_id, e.run_length, e.offset) for e in pieces.entries] == [(0, 1, 0), (1, 2, 5), (3, 1, 9)]


def test_contents_that_only_end_alike_stay_two(bench: Bench) -> None:
    ending = b"0123456789abcdef"
    path = bench.merged(bench.source({1: b"a" + ending}), bench.source({2: b"b" + ending}))

    assert pieces_of(path).tiles == b"a" + ending + b"b" + ending


def test_a_run_of_equal_tiles_ends_with_its_zoom(bench: Bench) -> None:
    path = bench.merged(bench.source(dict.fromkeys(range(first_tile_id(2)), b"x")))

    assert [(e.tile_id, e.run_length) for e in pieces_of(path).entries] == [(0, 1), (1, 4)]


def test_a_tile_of_two_sources_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="two sources"):
        bench.merged(bench.source({1: b"a"}), bench.source({1: b"b"}))


def test_a_file_that_ends_too_soon_is_no_archive(bench: Bench) -> None:
    path = bench.path()
    with path.open("x+b") as spool:
        source = spooled([(0, 0, 0, b"a" * 50)], spool)
        spool.truncate(10)
        with pytest.raises(OSError, match="ends before"):
            bench.merged(source)


def test_entries_are_the_same_however_many_are_worked_on_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = np.random.default_rng(3)
    words = [bytes(each) for each in (b"a", b"b", b"ab" * 20, b"c" * 40)]
    worlds = [
        {each: words[chance.integers(4)] for each in range(first_tile_id(5)) if chance.integers(3) == which}
        for which in (0, 1)
    ]
    worlds[1] = {each: content for each, content in worlds[1].items() if each not in worlds[0]}
    at_once = bench.merged(*map(bench.source, worlds)).read_bytes()
    for together in (1, 2, 7, 50):
        monkeypatch.setattr(merging, "_TOGETHER", together)
        monkeypatch.setattr(contents_module, "_TOGETHER", together)
        monkeypatch.setattr(contents_module, "_SORTED", together)
        assert bench.merged(*map(bench.source, worlds)).read_bytes() == at_once


def test_a_tile_of_two_sources_is_refused_wherever_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_TOGETHER", 1)
    run = Directory(*(np.array([n]) for n in (5, 12, 1, 0)))
    source = bench.source(dict.fromkeys(range(5), b"a"))
    with pytest.raises(ValueError, match="two sources"):
        bench.merged(Source(source.descriptor, run), bench.source({6: b"b", 16: b"b"}))


def test_a_million_tiles_take_less_than_seventy_megabytes(bench: Bench) -> None:
    """Most of it would be the same for ten million: it is the entries that are processed at a time.

    The content of every other tile is unique; those of the others are stored eight times each.
    """
    count, length = 500_000, 24
    with ExitStack() as held:
        sources = []
        for which in (0, 1):
            file = held.enter_context(bench.path().open("x+b"))
            index = np.arange(count)
            np.repeat(np.where(index % 2, 2 * index + which, -1 - index // 8), length // 8).tofile(file)
            columns = (np.arange(which, 2 * count, 2), 1, length, np.arange(count) * length)
            spool = EntryFiles.opened(
                f"{which}", lambda name: held.enter_context((bench.folder / name).open("x+b"))
            )
            spool.add(Directory(*(np.broadcast_to(np.asarray(each, np.int64), count) for each in columns)))
            sources.append(Source(file.fileno(), spool.entries()))
        tracemalloc.start()
        try:
            path = bench.merged(*sources)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    with open_archive(path) as archive:
        assert archive.header["tile_contents_count"] == count + count // 8
    assert peak < 70e6


def test_no_tiles_at_all_are_an_archive_too(bench: Bench) -> None:
    path = bench.merged(bench.source({}), bench.source({}))

    assert tiles_of(path) == {}
    with open_archive(path) as archive:
        assert sum(map(len, archive.directories())) == 0


@examples(100)
@given(world=worlds, some=sets)
@example(world={0: b"a", 1: b"b"}, some=Stretches.of(np.array([0, 1, 3, 4, 5, 20, 21])))
def test_entries_are_cut_where_a_set_begins_and_ends(
    tmp_path_factory: pytest.TempPathFactory, world: dict[int, bytes], some: Stretches
) -> None:
    with ExitStack() as held:
        bench = Bench(tmp_path_factory.mktemp("bench"), held)
        parts = some.cut(bench.archived(bench.merged(bench.source(world))).entries)

    held_ids = set(some.tile_ids.tolist())
    found = [
        {
            tile
            for first, length in zip(part.tile_id.tolist(), part.run_length.tolist(), strict=True)
            for tile in range(first, first + length)
        }
        for part in parts
    ]
    assert found == [held_ids & set(world), set(world) - held_ids]
    assert len(some) == len(held_ids)
    assert np.concatenate([some.of_zoom(zoom) for zoom in range(5)]).tolist() == sorted(held_ids)

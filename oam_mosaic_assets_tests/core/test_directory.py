"""Directories as arrays: they read what the library `pmtiles` writes, and it reads what they write."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pmtiles.tile import Entry, deserialize_directory, serialize_directory

import oam_mosaic_assets.core.directory as directory_module
from oam_mosaic_assets.core.directory import (
    LARGEST_ROOT,
    LEAF_ENTRIES,
    BrokenDirectory,
    Directory,
    packed_directories,
)
from oam_mosaic_assets_tests.core.strategies import examples

numbers = st.integers(0, 3) | st.integers(0, 2**14) | st.integers(0, 2**40)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Entries of any length, each right after the one before or at any offset, in the order of tile ids."""
    made: list[Entry] = []
    tile_id = end = 0
    for step, run_length, length, elsewhere in draw(
        st.lists(st.tuples(numbers, numbers, numbers, st.none() | numbers), max_size=20)
    ):
        tile_id += step
        offset = end if elsewhere is None else elsewhere
        made.append(Entry(tile_id, offset, length, run_length))
        end = offset + length
    return made


def directory(made: list[Entry]) -> Directory:
    columns = ("tile_id", "run_length", "length", "offset")
    return Directory(*(np.array([getattr(each, name) for each in made], np.int64) for name in columns))


def listed(found: Directory) -> list[tuple[int, int, int, int]]:
    return list(
        zip(
            found.tile_id.tolist(),
            found.run_length.tolist(),
            found.length.tolist(),
            found.offset.tolist(),
            strict=True,
        )
    )


def as_listed(made: list[Entry]) -> list[tuple[int, int, int, int]]:
    return [(each.tile_id, each.run_length, each.length, each.offset) for each in made]


@examples(300)
@given(entries())
@example([])
@example([Entry(0, 0, 0, 0)])
def test_what_the_library_writes_is_read(made: list[Entry]) -> None:
    content = gzip.decompress(serialize_directory(made))

    assert listed(Directory.decoded(content)) == as_listed(made)


@examples(300)
@given(entries())
@example([])
def test_the_library_reads_what_is_written(made: list[Entry]) -> None:
    packed = gzip.compress(directory(made).encoded())

    assert as_listed(deserialize_directory(packed)) == as_listed(made)


@examples(300)
@given(st.binary(max_size=60))
@example(b"\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\x01\x01\x01")
def test_arbitrary_bytes_are_a_directory_or_broken(content: bytes) -> None:
    try:
        found = Directory.decoded(content)
    except BrokenDirectory as broken:
        assert str(broken)  # noqa: PT017  # any other error is the failure
    else:
        assert Directory.decoded(found.encoded()).tile_id.tolist() == found.tile_id.tolist()


@pytest.mark.parametrize("count", [1, LEAF_ENTRIES, LEAF_ENTRIES + 1, 10 * LEAF_ENTRIES])
def test_many_entries_stand_in_leaves_that_the_root_names(count: int) -> None:
    whole = Directory(np.arange(count) * 3, np.ones(count, np.int64), np.arange(count) + 1, np.arange(count))

    root, several = packed_directories(whole)
    leaves = b"".join(several)

    assert len(root) <= LARGEST_ROOT
    assert bool(leaves) == (count > LEAF_ENTRIES)
    found: list[Entry] = []
    for named in deserialize_directory(root):
        if named.run_length:
            found.append(named)
            continue
        leaf = deserialize_directory(leaves[named.offset : named.offset + named.length])
        assert leaf[0].tile_id == named.tile_id
        found += leaf
    assert as_listed(found) == listed(whole)


def test_leaves_grow_where_the_root_would_be_too_large_for_the_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory_module, "LEAF_ENTRIES", 1)
    count = 20_000
    ones = np.ones(count, np.int64)
    tile_id = np.cumsum(np.random.default_rng(1).integers(1, 100, count))  # a pattern would compress too well
    whole = Directory(tile_id, ones, ones, np.cumsum(ones))

    root, _ = packed_directories(whole)

    named = deserialize_directory(root)
    assert len(root) <= LARGEST_ROOT
    assert len(named) < count
    assert named[1].tile_id == tile_id[round(count / len(named))]

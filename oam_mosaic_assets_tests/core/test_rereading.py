"""A snapshot that takes over rows of the previous one equals one read in full, down to the digest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.core.footprint import IN_THE_FUTURE, Footprint
from oam_mosaic_assets.core.rereading import Kept, as_hashes, kept_rows, reading_digest
from oam_mosaic_assets_tests.chain import quick_folder
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, footprint, snapshot_of
from oam_mosaic_assets_tests.core.strategies import examples

READING = reading_digest("a test")


def hashes_of(rows: list[Footprint]) -> pl.DataFrame:
    return as_hashes([(row.id, hash(repr(row))) for row in rows])


def kept_of(
    before: list[Footprint],
    now: list[Footprint],
    folder: Path,
    *,
    reading: str = READING,
    not_these: tuple[str, ...] = (),
) -> Kept | str:
    """What a snapshot of `now` takes over from one of `before`, or why it takes over nothing."""
    snapshot_of(before, folder / "before", hashes=hashes_of(before), reading=READING)
    table = folder / "before" / "footprints.parquet"
    return kept_rows(table, hashes_of(now), reading=reading, not_these=not_these)


def some(number: int, **known: Any) -> Footprint:
    return replace(footprint(str(number), number % 90, 0, number % 90 + 1, 1), **known)


images = st.builds(
    lambda number, days, title: some(
        number, acquired_to=None if days is None else NOW - timedelta(days=days), title=title
    ),
    st.integers(0, 40),
    st.none() | st.integers(-3, 80_000),
    st.sampled_from([None, "a", "b"]),
)
"""Few ids, which begin with any digit; dates may be equal, unknown or before 1970."""


@examples(60)
@given(
    st.lists(images, min_size=1, max_size=25, unique_by=lambda each: each.id),
    st.lists(images, max_size=8, unique_by=lambda each: each.id),
    st.sets(st.integers(0, 40), max_size=5),
)
def test_what_is_taken_over_and_what_is_read_are_the_whole(
    before: list[Footprint], altered: list[Footprint], gone: set[int]
) -> None:
    renewed = {each.id: each for each in before} | {each.id: each for each in altered}
    now = [each for each in renewed.values() if int(each.id) not in gone]
    with quick_folder() as folder:
        kept = kept_of(before, now, folder)
        if isinstance(kept, str):
            assert "are new or changed" in kept
            return
        unread = set(kept.unread)
        assert unread == {each.id for each in now if each not in before}
        read = [each for each in now if each.id in unread]
        made = snapshot_of(read, folder / "made", kept=kept, hashes=hashes_of(now), reading=READING)
        whole = snapshot_of(now, folder / "whole", hashes=hashes_of(now), reading=READING)
        assert made == whole
        tables = [pl.read_parquet(folder / each / "footprints.parquet") for each in ("made", "whole")]
        assert tables[0].equals(tables[1])


def test_what_was_in_the_future_is_read_again(tmp_path: Path) -> None:
    early = replace(IMAGES[0], unknown=(f"updated: {IN_THE_FUTURE}",))
    odd = replace(IMAGES[1], unknown=("gsd: not a number",))
    rows = [early, odd, *IMAGES[2:]]
    kept = kept_of(rows, rows, tmp_path)
    assert isinstance(kept, Kept)
    assert kept.unread.to_list() == [early.id]


def test_an_id_that_comes_twice_is_read_again(tmp_path: Path) -> None:
    snapshot_of(IMAGES, tmp_path / "before", hashes=hashes_of([*IMAGES]), reading=READING)
    twice = pl.concat([hashes_of([*IMAGES]), hashes_of([IMAGES[0]])])
    kept = kept_rows(tmp_path / "before" / "footprints.parquet", twice, reading=READING, not_these=())
    assert isinstance(kept, Kept)
    assert set(kept.unread) == {IMAGES[0].id}


def test_what_is_named_is_read_again(tmp_path: Path) -> None:
    kept = kept_of([*IMAGES], [*IMAGES], tmp_path, not_these=(IMAGES[3].id,))
    assert isinstance(kept, Kept)
    assert kept.unread.to_list() == [IMAGES[3].id]


@pytest.mark.parametrize("reading", ["", reading_digest("another version")])
def test_what_was_read_otherwise_is_not_taken_over(tmp_path: Path, reading: str) -> None:
    why = kept_of([*IMAGES], [*IMAGES], tmp_path, reading=reading)
    assert why == "the way items are read has changed"


def test_without_hashes_nothing_is_taken_over(tmp_path: Path) -> None:
    snapshot_of(IMAGES, tmp_path / "before", reading=READING)
    why = kept_rows(
        tmp_path / "before" / "footprints.parquet", hashes_of([*IMAGES]), reading=READING, not_these=()
    )
    assert why == f"{len(IMAGES)} of {len(IMAGES)} items are new or changed"

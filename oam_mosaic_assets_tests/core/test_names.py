"""Whether a file names an image: exactly that id, wherever it occurs."""

from __future__ import annotations

import base64
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from oam_mosaic_assets.core import names
from oam_mosaic_assets.core.archive import Archive, open_archive
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.names import names_any, text_names_any
from oam_mosaic_assets.core.snapshot import SET_ASIDE_SCHEMA
from oam_mosaic_assets_tests.core.scene import Scene


def test_an_archive_names_what_it_draws_and_nothing_else(scene: Scene) -> None:
    assert names_any(scene.archive, {"nobody's", "a field"})
    assert not names_any(scene.archive, {"a", "a fiel", "field"})


def test_an_archive_names_what_its_metadata_quotes(scene: Scene) -> None:
    assert names_any(scene.archive, {scene.snapshot.digest})


def test_equal_tiles_are_read_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[tuple[int, int]]()
    tile = Archive.tile

    def noted(archive: Archive, tile_id: int, offset: int, length: int) -> bytes:
        read.append((offset, length))
        return tile(archive, tile_id, offset, length)

    with open_archive(scene.archive) as archive:
        tiles = archive.entries()
    monkeypatch.setattr(Archive, "tile", noted)
    monkeypatch.setattr(Archive, "directories", lambda _: iter([tiles[np.repeat(np.arange(len(tiles)), 3)]]))
    assert not names_any(scene.archive, {"nobody's"})
    assert read == [*dict.fromkeys(zip(tiles.offset.tolist(), tiles.length.tolist(), strict=True))]


def test_memory_does_not_grow_with_the_tiles_of_an_archive(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def directories(_: Archive) -> Iterator[Directory]:
        """Two hundred thousand tiles, all of them different."""
        for start in range(0, 200_000, 1000):
            tiles = np.arange(start, start + 1000)
            yield Directory(tiles, np.ones_like(tiles), np.full_like(tiles, 100), 100 * tiles)

    monkeypatch.setattr(Archive, "directories", directories)
    monkeypatch.setattr(Archive, "tile", lambda *_: b"")
    tracemalloc.start()
    try:
        assert not names_any(scene.archive, {"nobody's"})
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_what_is_cut_short_is_searched_as_it_is(scene: Scene, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"PMTiles\x03" + b'{"id": "a field"}')
    assert names_any(broken, {"a field"})
    broken.write_bytes(b"PAR1" + b'{"id": "a field"}')
    assert names_any(broken, {"a field"})
    assert names_any(broken, {"a"}) is None, "compressed text may name it"


def test_a_table_that_makes_its_reader_panic_is_searched_as_it_is(tmp_path: Path) -> None:
    """What Polars then raises is not an `Exception`; here a bad time zone in the Arrow schema causes it."""
    path = tmp_path / "table"
    rows = pl.DataFrame({"told": ['"a field"'], "at": [datetime(2026, 1, 1, tzinfo=UTC)]})
    rows.write_parquet(path, compression="uncompressed")
    whole = path.read_bytes()
    schema = max(re.findall(rb"[A-Za-z0-9+/]+=*", whole), key=len)
    path.write_bytes(
        whole.replace(schema, base64.b64encode(base64.b64decode(schema).replace(b"UTC", b"UT!")))
    )
    assert names_any(path, {"a field"})
    assert not names_any(path, {"a"})


@pytest.mark.parametrize("column", ["id", "value"])
def test_a_table_names_what_a_cell_is(column: str, tmp_path: Path) -> None:
    path = tmp_path / "table"
    pl.DataFrame({"id": ["x", None], "value": ["y", "z"], "size": [1, 2]}).with_columns(
        pl.lit("it's").alias(column)
    ).write_parquet(path)
    assert names_any(path, {"it's"})
    assert not names_any(path, {"it", "1"})
    pl.DataFrame({"size": [1]}).write_parquet(path)
    assert not names_any(path, {"1"})


def test_of_what_a_build_wrote_only_ids_count(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "table"
    pl.DataFrame({"id": ["x"], "title": ["y"]}).write_parquet(path)
    assert names_any(path, {"x"}, is_ours=True)
    assert names_any(path, {"y"})
    assert not names_any(path, {"y"}, is_ours=True)
    pl.DataFrame({"title": ["y"]}).write_parquet(path)
    assert not names_any(path, {"y"}, is_ours=True)
    assert names_any(scene.archive, {"a field"}, is_ours=True)
    assert not names_any(scene.archive, {scene.snapshot.digest, scene.plan.layer}, is_ours=True)


@pytest.mark.parametrize(
    ("row", "name", "is_named"),
    [
        (("row 5", "not_an_item", "text"), "row 5", False),
        (("row 5", "no_id", "['a']"), "row 5", False),
        (("row 5", "no_geometry", "null"), "row 5", True),
        (("row 5", "not_an_item", '{"type": "Feature", "id": "a", "geome'), "a", True),
        (("row 5", "not_an_item", "a text"), "a", False),
        (("row 5", "no_id", "['a']"), "a", False),
    ],
)
def test_what_is_set_aside_without_an_id_goes_by_its_position_which_is_none(
    row: tuple[str, str, str], name: str, *, is_named: bool, tmp_path: Path
) -> None:
    path = tmp_path / "set_aside.parquet"
    pl.DataFrame([row], SET_ASIDE_SCHEMA, orient="row").write_parquet(path)
    assert names_any(path, {name}, is_ours=True) is is_named


@pytest.mark.parametrize("name", ["a", "it's", 'say "é"', "back\\slash", "\u2028"])
def test_text_names_what_stands_in_quotes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    for written in (json.dumps(name), json.dumps(name, ensure_ascii=False), repr(name)):
        path.write_text(f'{{"of": {written}}}\n', encoding="utf-8")
        assert names_any(path, {name, "b"})
        assert text_names_any(path.read_text(encoding="utf-8"), {name})
    path.write_text(f"a {name} that is part of something", encoding="utf-8")
    assert not names_any(path, {name})
    assert text_names_any(name, {name})


def test_text_without_line_breaks_takes_no_more_memory_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b'{"type": "FeatureCollection", "features": [')
    os.truncate(path, 64 * names.BLOCK_BYTES)
    tracemalloc.start()
    try:
        assert not names_any(path, {"a field"})
        with path.open("ab") as content:
            content.write(b'{"id": "a field"}]}')
        assert names_any(path, {"a field"})
        assert tracemalloc.get_traced_memory()[1] < 4 * names.BLOCK_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [1, 5, 16, 64])
def test_text_names_what_lies_across_blocks(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "BLOCK_BYTES", size)
    path = tmp_path / "text"
    for before in range(70):
        path.write_text("." * before + '"a field"' + "." * 9)
        assert names_any(path, {"a field", "b"}), before
        assert not names_any(path, {"a fiel", "field", "b"}), before

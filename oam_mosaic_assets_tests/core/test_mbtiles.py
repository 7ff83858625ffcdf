"""From MBTiles to PMTiles: the same tiles as in tippecanoe's own PMTiles, found by every reader."""

from __future__ import annotations

import gzip
import json
import resource
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pmtiles.reader import MemorySource, Reader, all_tiles
from pmtiles.tile import zxy_to_tileid

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.drawn import read_drawn
from oam_mosaic_assets.core.fragment import spooled
from oam_mosaic_assets.core.mbtiles import BrokenTiles, read_tiles
from oam_mosaic_assets.core.merging import Place, write_archive
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe
from oam_mosaic_assets_tests.core.archives import pieces_of
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAN, Scene, made_from

PLACE = Place(zoom_min=0, zoom_max=3, bounds=(-10.5, -20.0, 30.0, 40.25))


@pytest.fixture(scope="module")
def raw(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene as tippecanoe's MBTiles."""
    folder = tmp_path_factory.mktemp("raw")
    made = folder / "raw.mbtiles"
    Tippecanoe().run([PLAN.arguments(source=str(scene.geojson), target=str(made), temporary=str(folder))])
    return made


def write_pmtiles(mbtiles: Path, target: Path, metadata: dict[str, Any]) -> None:
    """Write all tiles of an MBTiles file to an archive."""
    with target.with_suffix(".spool").open("w+b") as spool:
        write_archive(target, [spooled(read_tiles(mbtiles), spool)], PLACE, metadata)


def tiles_of(path: Path) -> dict[tuple[int, int, int], bytes]:
    """Every tile's stored bytes by zoom, column and row, as the pmtiles library reads them."""
    return dict(all_tiles(MemorySource(path.read_bytes())))  # type: ignore[no-untyped-call]  # pmtiles has none


def mbtiles(path: Path, tiles: Iterable[tuple[int, int, int, bytes]]) -> Path:
    """The simplest possible MBTiles; columns and rows are given as PMTiles counts them."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data blob)")
        flipped = ((z, x, 2**z - 1 - y, content) for z, x, y, content in tiles)
        database.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", flipped)
    return path


def test_the_archive_holds_what_tippecanoe_writes_as_pmtiles(scene: Scene, raw: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pmtiles"
    Tippecanoe().run([PLAN.arguments(source=str(scene.geojson), target=str(own), temporary=str(tmp_path))])
    write_pmtiles(raw, tmp_path / "ours.pmtiles", {})

    assert tiles_of(tmp_path / "ours.pmtiles") == tiles_of(own)
    ours, its = pieces_of(tmp_path / "ours.pmtiles"), pieces_of(own)
    counted = ("addressed_tiles_count", "tile_contents_count", "clustered", "tile_type", "tile_compression")
    assert {name: ours.header[name] for name in counted} == {name: its.header[name] for name in counted}
    assert len(ours.entries) == ours.header["tile_entries_count"] <= its.header["tile_entries_count"]


def test_equal_tiles_lie_there_once_and_neighbours_share_an_entry(tmp_path: Path) -> None:
    path = mbtiles(
        tmp_path / "a.mbtiles",
        [(2, 3, 0, b"same"), (0, 0, 0, b"one"), (1, 0, 0, b"same"), (1, 0, 1, b"same"), (2, 0, 0, b"two")],
    )

    write_pmtiles(path, tmp_path / "a.pmtiles", {})

    pieces = pieces_of(tmp_path / "a.pmtiles")
    assert pieces.tiles == b"onesametwo"
    assert [(e.tile_id, e.run_length, e.offset, e.length) for e in pieces.entries] == [
        (0, 1, 0, 3),
        (1, 2, 3, 4),
        (zxy_to_tileid(2, 0, 0), 1, 7, 3),
        (zxy_to_tileid(2, 3, 0), 1, 3, 4),
    ]
    counts = ("addressed_tiles_count", "tile_entries_count", "tile_contents_count", "clustered")
    assert [pieces.header[name] for name in counts] == [5, 4, 3, True]


def test_the_header_says_where_the_tiles_lie(tmp_path: Path) -> None:
    write_pmtiles(mbtiles(tmp_path / "a.mbtiles", [(0, 0, 0, b"x")]), tmp_path / "a.pmtiles", {})

    header = pieces_of(tmp_path / "a.pmtiles").header
    assert (header["min_zoom"], header["max_zoom"], header["center_zoom"]) == (0, 3, 0)
    assert (header["center_lon_e7"], header["center_lat_e7"]) == (97_500_000, 101_250_000)
    with open_archive(tmp_path / "a.pmtiles") as archive:
        assert archive.bounds == (-10.5, -20, 30, 40.25)


def test_metadata_are_those_that_were_given(tmp_path: Path) -> None:
    path = mbtiles(tmp_path / "a.mbtiles", [(0, 0, 0, b"x")])

    write_pmtiles(path, tmp_path / "a.pmtiles", {"name": "Zürich 🛰", "b": [1], "a": None})

    reader = Reader(MemorySource((tmp_path / "a.pmtiles").read_bytes()))  # type: ignore[no-untyped-call]  # pmtiles has none
    assert reader.metadata() == {"name": "Zürich 🛰", "b": [1], "a": None}


def test_equal_tiles_and_metadata_give_equal_bytes(tmp_path: Path) -> None:
    tiles = [(2, x, y, bytes([x, y])) for x in range(4) for y in range(4)]
    write_pmtiles(mbtiles(tmp_path / "a.mbtiles", tiles), tmp_path / "a", {"a": 1, "b": {"c": 2, "d": 3}})
    backwards = mbtiles(tmp_path / "b.mbtiles", reversed(tiles))
    write_pmtiles(backwards, tmp_path / "b", {"b": {"d": 3, "c": 2}, "a": 1})

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_existing_file_is_never_written_over(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pmtiles").write_bytes(b"precious")

    with pytest.raises(FileExistsError):
        write_pmtiles(raw, tmp_path / "a.pmtiles", {})
    assert (tmp_path / "a.pmtiles").read_bytes() == b"precious"


@pytest.mark.parametrize("kept", [0, 50, 4096, 40_000])
def test_a_database_cut_short_is_no_archive(raw: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.mbtiles"
    cut.write_bytes((raw).read_bytes()[:kept])

    with pytest.raises(BrokenTiles, match="not a complete MBTiles"):
        write_pmtiles(cut, tmp_path / "a.pmtiles", {})
    assert not (tmp_path / "a.pmtiles").exists()


def test_a_full_disk_is_no_whole_archive(raw: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="File too large"),
        room_for(raw.stat().st_size // 8),
    ):
        write_pmtiles(raw, tmp_path / "a.pmtiles", {})


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Limit the size of files, within the block only: the tests' own output may go to a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_name_with_a_meaning_in_addresses_is_a_name(raw: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a?mode=rw&b#c%20.mbtiles"
    odd.write_bytes((raw).read_bytes())

    write_pmtiles(odd, tmp_path / "a.pmtiles", {})

    tiles = {(zoom, x, y): content for zoom, x, y, content in read_tiles(raw)}
    assert tiles_of(tmp_path / "a.pmtiles") == tiles


def test_the_archive_knows_nothing_of_the_machine_that_made_it(scene: Scene) -> None:
    pieces = pieces_of(scene.archive)
    told = [scene.archive.read_bytes(), gzip.decompress(pieces.metadata)]
    told += [gzip.decompress(pieces.packed(entry)) for entry in pieces.entries]

    for name in (str(scene.folder), ".mbtiles", "geojsonl", "--output", "tilestats"):
        assert not any(name.encode() in text for text in told), name


def test_two_runs_in_two_folders_give_the_same_bytes(scene: Scene, tmp_path: Path) -> None:
    again = made_from(reversed(IMAGES), tmp_path / "another folder")

    assert again.archive.read_bytes() == scene.archive.read_bytes()
    assert again.geojson.read_bytes() == scene.geojson.read_bytes()
    assert json.loads(gzip.decompress(pieces_of(again.archive).metadata))["snapshot"] == scene.snapshot.digest


def test_every_tile_is_found_by_the_audit(scene: Scene) -> None:
    with open_archive(scene.archive) as archive:
        drawn = read_drawn(archive, None, layer=PLAN.layer)

    assert sum(drawn.tiles.values()) == len(tiles_of(scene.archive))

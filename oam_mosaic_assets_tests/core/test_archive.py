"""Reading archives, whole ones and broken ones of every kind, and writing new metadata into them."""

from __future__ import annotations

import gzip
import json
import random
import resource
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pmtiles.reader import MemorySource, Reader, all_tiles
from pmtiles.tile import Compression, Entry, TileType, zxy_to_tileid

from oam_mosaic_assets.core.archive import BrokenArchive, is_vector, open_archive, write_with_metadata
from oam_mosaic_assets.core.drawn import read_drawn
from oam_mosaic_assets_tests.core.archives import Pieces, assembled, in_leaves, packed_directory, pieces_of
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAN, Scene, made_from
from oam_mosaic_assets_tests.core.strategies import examples


@pytest.fixture
def pieces(scene: Scene) -> Pieces:
    return pieces_of(scene.archive)


def reader(path: Path) -> Any:
    """The library's own reader."""
    return Reader(MemorySource(path.read_bytes()))  # type: ignore[no-untyped-call]  # pmtiles has none


def tiles_of(path: Path) -> dict[tuple[int, int, int], bytes]:
    """Every tile as it lies in the archive, by zoom, column and row; read by the library."""
    return dict(all_tiles(MemorySource(path.read_bytes())))  # type: ignore[no-untyped-call]  # pmtiles has none


def read_whole(path: Path) -> None:
    """Look at everything in an archive."""
    with open_archive(path) as archive:
        read_drawn(archive, None, layer=PLAN.layer)


@pytest.mark.parametrize("leaf_size", [None, 7, 1])
def test_an_archive_reads_as_the_library_pmtiles_reads_it(
    pieces: Pieces, tmp_path: Path, leaf_size: int | None
) -> None:
    path = assembled(pieces, tmp_path / "a.pmtiles", leaf_size=leaf_size)
    tiles = tiles_of(path)

    with open_archive(path) as archive:
        assert archive.header == reader(path).header()
        assert archive.metadata == reader(path).metadata()
        assert archive.size == path.stat().st_size
        assert is_vector(archive)
        found = {
            tile_id: archive.tile(entry)
            for entry in archive.entries()
            for tile_id in range(entry.tile_id, entry.tile_id + entry.run_length)
        }
        assert found == {zxy_to_tileid(*tile): gzip.decompress(packed) for tile, packed in tiles.items()}
        for zoom in range(PLAN.zoom_max + 2):
            for x in range(0, 2**zoom, max(1, 2**zoom // 16)):
                entry = archive.find(zxy_to_tileid(zoom, x, 2**zoom // 2))
                packed = tiles.get((zoom, x, 2**zoom // 2))
                assert (entry and archive.tile(entry)) == (packed and gzip.decompress(packed))


def test_an_archive_tells_its_bounds(scene: Scene) -> None:
    with open_archive(scene.archive) as archive:
        assert archive.bounds == pytest.approx((-180, -85.0511287, 180, 85.0511287), abs=1e-6)


def test_uncompressed_tiles_are_read_as_they_are(pieces: Pieces, tmp_path: Path) -> None:
    entry = pieces.entries[0]
    pieces.replace(entry, content := gzip.decompress(pieces.packed(entry)))
    pieces.header["tile_compression"] = Compression.NONE

    with open_archive(assembled(pieces, tmp_path / "a.pmtiles")) as archive:
        assert archive.tile(next(archive.entries())) == content


def test_other_than_vector_tiles_are_told_apart(pieces: Pieces, tmp_path: Path) -> None:
    pieces.header["tile_type"] = TileType.PNG

    with open_archive(assembled(pieces, tmp_path / "a.pmtiles")) as archive:
        assert not is_vector(archive)


# Broken archives: each function breaks one thing, and the message names it.


def no_magic(content: bytearray) -> None:
    content[:7] = b"SQLite "


def no_text(content: bytearray) -> None:
    content[:7] = b"\xff" * 7


def version_2(content: bytearray) -> None:
    content[7] = 2


def unknown_compression(content: bytearray) -> None:
    content[97] = 99


def directories_in_brotli(content: bytearray) -> None:
    content[97] = Compression.BROTLI.value


def tiles_in_zstd(content: bytearray) -> None:
    content[98] = Compression.ZSTD.value


def unknown_tiles(content: bytearray) -> None:
    content[99] = 99


def zoom_255(content: bytearray) -> None:
    content[101] = 255


def root_beyond_the_end(content: bytearray) -> None:
    content[8:16] = (2**63).to_bytes(8, "little")


def leaves_beyond_the_end(content: bytearray) -> None:
    content[48:56] = (2**64 - 1).to_bytes(8, "little")


def metadata_is_the_root(content: bytearray) -> None:
    content[24:40] = content[8:24]


def nothing_at_all(content: bytearray) -> None:
    content.clear()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (nothing_at_all, "does not begin as a PMTiles archive does"),
        (no_magic, "does not begin as a PMTiles archive does"),
        (no_text, "its header does not decode"),
        (version_2, "another version than 3"),
        (unknown_compression, "99 is not a valid Compression"),
        (directories_in_brotli, "its directories are not gzipped"),
        (tiles_in_zstd, "tiles compressed with ZSTD are not read here"),
        (unknown_tiles, "99 is not a valid TileType"),
        (zoom_255, "its header says zoom 255; there is none beyond 31"),
        (root_beyond_the_end, "its root ends beyond the file"),
        (leaves_beyond_the_end, "its leaf directory ends beyond the file"),
        (metadata_is_the_root, "its metadata is not JSON"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_header_is_named(
    scene: Scene, tmp_path: Path, break_it: Callable[[bytearray], None], message: str
) -> None:
    content = bytearray(scene.archive.read_bytes())
    break_it(content)
    (tmp_path / "a.pmtiles").write_bytes(content)

    with pytest.raises(BrokenArchive, match=message), open_archive(tmp_path / "a.pmtiles"):
        pass


def test_a_file_that_is_cut_anywhere_is_broken(scene: Scene, tmp_path: Path) -> None:
    content, path = scene.archive.read_bytes(), tmp_path / "a.pmtiles"

    for length in [*range(200), *range(200, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(BrokenArchive), open_archive(path):
            pass


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b"{}", "its metadata does not inflate"),
        (gzip.compress(b"{}")[:-1], "its metadata is not one whole gzip stream"),
        (gzip.compress(b"{}") + b"more", "its metadata is not one whole gzip stream"),
        (gzip.compress(b"{"), "its metadata is not JSON"),
        (gzip.compress(b'{"a": "\xff"}'), "its metadata is not JSON"),
        (gzip.compress(b"[" * 200_000), "its metadata is not JSON"),
        (gzip.compress(b"[]"), "its metadata is not a JSON object"),
        (gzip.compress(b" " * 2**27), "its metadata is not one whole gzip stream"),
    ],
    ids=["plain", "cut", "and more", "half", "no UTF-8", "deep", "a list", "endless"],
)
def test_broken_metadata_are_named(pieces: Pieces, tmp_path: Path, metadata: bytes, message: str) -> None:
    path = assembled(replace(pieces, metadata=metadata), tmp_path / "a.pmtiles")

    with pytest.raises(BrokenArchive, match=message), open_archive(path):
        pass


def entry(tile_id: int, offset: int = 0, length: int = 100, run_length: int = 1) -> Entry:
    return Entry(tile_id, offset, length, run_length)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (b"no gzip", "the directory at byte 127 does not inflate"),
        (packed_directory(), "does not decode: unexpectedly reached end"),
        (packed_directory(10**15), "does not decode: unexpectedly reached end"),
        (packed_directory(2, 0, 1, 1, 1, 100), "does not decode: unexpectedly reached end"),
        (packed_directory(1 << 70), "holds a number of more than 64 bits"),
        (gzip.compress(b"\xff" * 2**19), "holds a number of more than 64 bits"),
        (gzip.compress(b"\0" * 2**21), "is not one whole gzip stream of up to 1,048,576 bytes"),
        ([entry(5), entry(5)], "tile 5 stands out of order"),
        ([entry(5, run_length=4), entry(8)], "tile 8 stands out of order"),
        ([entry(5, length=0)], "tile 5 lies outside the archive"),
        ([entry(5, length=2**40)], "tile 5 lies outside the archive"),
        ([entry(5, offset=2**40)], "tile 5 lies outside the archive"),
        (packed_directory(1, 5, 1, 100, 0), "tile 5 lies outside the archive"),
        ([entry(0, run_length=3)], "the run of equal tiles from 0 leaves its zoom"),
        ([entry(2**63)], "the run of equal tiles from 9223372036854775808 leaves its zoom"),
        ([entry(1365, run_length=10**9)], "its directories name more tiles than"),
        ([entry(0, offset=10**9, run_length=0)], "the directory of tile 0 lies outside its section"),
    ],
    ids=[
        "no gzip",
        "empty",
        "too many promised",
        "ends early",
        "a number of 70 bits",
        "a number without an end",
        "endless",
        "a tile twice",
        "a run over the next tile",
        "no bytes",
        "too many bytes",
        "beyond the end",
        "before the beginning",
        "a run beyond its zoom",
        "no such zoom",
        "a run without an end",
        "a leaf beyond the end",
    ],
)
def test_a_broken_directory_is_named(
    pieces: Pieces, tmp_path: Path, root: bytes | list[Entry], message: str
) -> None:
    path = assembled(pieces, tmp_path / "a.pmtiles", root=root)

    with pytest.raises(BrokenArchive, match=message):
        read_whole(path)


def test_leaves_must_be_found_by_the_root_that_names_them(pieces: Pieces, tmp_path: Path) -> None:
    """A reader looks for a tile in one leaf only; what another leaf holds is lost to it."""
    root, leaves = in_leaves(pieces.entries, 20)
    first, second = root[0].offset, root[1].offset
    swapped = [Entry(e.tile_id, e.offset, e.length, 0) for e in root]
    swapped[0].offset, swapped[1].offset = second, first
    swapped[0].length, swapped[1].length = root[1].length, root[0].length
    late = [Entry(e.tile_id + (number == 1), e.offset, e.length, 0) for number, e in enumerate(root)]

    for wrong in (swapped, late, [root[0], root[0]]):
        path = assembled(pieces, tmp_path / "a.pmtiles", root=wrong, leaves=leaves)
        with pytest.raises(BrokenArchive, match="out of order"):
            read_whole(path)


def test_a_leaf_that_names_leaves_is_broken(pieces: Pieces, tmp_path: Path) -> None:
    nested = packed_directory(1, 0, 0, 30, 1)
    path = assembled(pieces, tmp_path / "a.pmtiles", root=[entry(0, 0, len(nested), 0)], leaves=nested)

    with pytest.raises(BrokenArchive, match="out of order"):
        read_whole(path)
    with open_archive(path) as archive, pytest.raises(BrokenArchive):
        archive.find(0)


def test_a_root_may_name_tiles_and_leaves_side_by_side(pieces: Pieces, tmp_path: Path) -> None:
    leaf_root, leaves = in_leaves(pieces.entries[5:], 50)
    path = assembled(pieces, tmp_path / "a.pmtiles", root=[*pieces.entries[:5], *leaf_root], leaves=leaves)

    with open_archive(path) as archive:
        assert [e.tile_id for e in archive.entries()] == [e.tile_id for e in pieces.entries]
        assert all(archive.find(e.tile_id) for e in pieces.entries)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"no gzip at all", "tile 0 does not inflate"),
        (gzip.compress(b"\x1a\x00")[:-4], "tile 0 is not one whole gzip stream"),
        (gzip.compress(b"\x1a\x00") + b"x", "tile 0 is not one whole gzip stream"),
        (gzip.compress(b"\0" * (64 * 2**20 + 1)), "tile 0 is not one whole gzip stream of up to 67,108,864"),
    ],
    ids=["no gzip", "cut", "and more", "a bomb"],
)
def test_a_broken_tile_is_named(pieces: Pieces, tmp_path: Path, packed: bytes, message: str) -> None:
    pieces.replace(pieces.entries[0], packed)
    path = assembled(pieces, tmp_path / "a.pmtiles")

    with open_archive(path) as archive:
        with pytest.raises(BrokenArchive, match=message):
            archive.tile(next(archive.entries()))
        drawn = read_drawn(archive, None, layer=PLAN.layer)
    assert drawn.fault_count == 1
    assert drawn.faults[0].startswith("0/0/0: ")


def test_equal_tiles_are_told_by_where_they_begin_and_end(pieces: Pieces, tmp_path: Path) -> None:
    """Two entries that begin at the same byte are not the same tile if one of them is cut short."""
    whole, cut = pieces.of_zoom(PLAN.zoom_max)[:2]
    cut.offset, cut.length = whole.offset, whole.length - 10

    with open_archive(assembled(pieces, tmp_path / "a.pmtiles")) as archive:
        drawn = read_drawn(archive, None, layer=PLAN.layer)

    assert drawn.fault_count == 1


@settings(examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_whatever_bytes_change_an_archive_is_read_or_broken(scene: Scene, tmp_path: Path, seed: int) -> None:
    """Never another error, never more memory than the archive is worth."""
    chance, content = random.Random(seed), bytearray(scene.archive.read_bytes())
    pieces = pieces_of(scene.archive)
    # most of it is tiles; what else there is deserves as much attention
    spans = [(0, 127), (127, pieces.header["tile_data_offset"]), (127, len(content))]
    for _ in range(chance.choice([1, 1, 3, 10])):
        at = chance.randrange(*chance.choice(spans))
        content[at] = chance.choice([0, 255, content[at] ^ (1 << chance.randrange(8)), chance.randrange(256)])
    (tmp_path / "a.pmtiles").write_bytes(content)

    assert_read_or_broken(tmp_path / "a.pmtiles")


@settings(examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_whatever_a_directory_says_an_archive_is_read_or_broken(
    scene: Scene, tmp_path: Path, seed: int
) -> None:
    """Within the gzip stream, whose checksum would give most changes away."""
    chance, pieces = random.Random(seed), pieces_of(scene.archive)
    path = assembled(pieces, tmp_path / "a.pmtiles")
    start, length = 127, pieces_of(path).header["root_length"]
    root = bytearray(gzip.decompress(path.read_bytes()[start : start + length]))
    for _ in range(chance.choice([1, 1, 3, 10])):
        at = chance.randrange(len(root))
        root[at] = chance.choice([0, 255, root[at] ^ (1 << chance.randrange(8)), chance.randrange(256)])

    assert_read_or_broken(assembled(pieces, path, root=gzip.compress(bytes(root), mtime=0)))


def assert_read_or_broken(path: Path) -> None:
    try:
        with open_archive(path) as archive:
            drawn = read_drawn(archive, None, layer=PLAN.layer)
            archive.find(zxy_to_tileid(10, 540, 482))
            assert sum(drawn.tiles.values()) > 0
    except BrokenArchive as broken:
        assert str(broken)  # noqa: PT017  # any other error is the failure


def test_a_crafted_archive_fills_no_memory(pieces: Pieces, tmp_path: Path) -> None:
    bombs: list[dict[str, Any]] = [
        {"root": gzip.compress(b"\0" * 2**28)},
        {"root": packed_directory(2**40)},
        {"root": [entry(1365, run_length=2**31)]},
    ]
    for bomb in bombs:
        path = assembled(pieces, tmp_path / "a.pmtiles", **bomb)
        tracemalloc.start()
        with pytest.raises(BrokenArchive):
            read_whole(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
        tracemalloc.stop()


# Metadata


def test_new_metadata_leave_every_tile_byte_for_byte(scene: Scene, tmp_path: Path) -> None:
    for leaf_size in (None, 9):
        source = assembled(pieces_of(scene.archive), tmp_path / f"{leaf_size}.pmtiles", leaf_size=leaf_size)
        target = tmp_path / f"{leaf_size}-copy.pmtiles"

        write_with_metadata(source, target, {"name": "Zürich 🛰", "b": [1], "a": None})

        assert tiles_of(target) == tiles_of(source)
        assert reader(target).metadata() == {"name": "Zürich 🛰", "b": [1], "a": None}
        moved = {
            "root_offset",
            "metadata_offset",
            "metadata_length",
            "leaf_directory_offset",
            "tile_data_offset",
        }
        old, new = reader(source).header(), reader(target).header()
        assert {k: v for k, v in new.items() if k not in moved} == {
            k: v for k, v in old.items() if k not in moved
        }
        read_whole(target)


def test_sections_in_another_order_are_copied_as_well(scene: Scene, tmp_path: Path) -> None:
    """The format leaves the order of sections open: here the root stands last."""
    content = bytearray(scene.archive.read_bytes())
    offset, length = (int.from_bytes(content[at : at + 8], "little") for at in (8, 16))
    content[8:16] = len(content).to_bytes(8, "little")
    content += content[offset : offset + length]
    (tmp_path / "a.pmtiles").write_bytes(content)

    write_with_metadata(tmp_path / "a.pmtiles", tmp_path / "b.pmtiles", {})

    assert tiles_of(tmp_path / "b.pmtiles") == tiles_of(scene.archive)


def test_equal_metadata_give_equal_bytes(scene: Scene, tmp_path: Path) -> None:
    write_with_metadata(scene.archive, tmp_path / "a.pmtiles", {"a": 1, "b": {"c": 2, "d": 3}})
    write_with_metadata(scene.archive, tmp_path / "b.pmtiles", {"b": {"d": 3, "c": 2}, "a": 1})

    assert (tmp_path / "a.pmtiles").read_bytes() == (tmp_path / "b.pmtiles").read_bytes()


def test_an_existing_file_is_never_written_over(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "a.pmtiles").write_bytes(b"precious")

    with pytest.raises(FileExistsError):
        write_with_metadata(scene.archive, tmp_path / "a.pmtiles", {})
    assert (tmp_path / "a.pmtiles").read_bytes() == b"precious"


def test_a_broken_archive_gets_no_new_metadata(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "a.pmtiles").write_bytes(scene.archive.read_bytes()[:-1])

    with pytest.raises(BrokenArchive, match="cut short"):
        write_with_metadata(tmp_path / "a.pmtiles", tmp_path / "b.pmtiles", {})


@pytest.mark.usefixtures("_little_room")
def test_a_full_disk_is_no_whole_archive(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large"):
        write_with_metadata(scene.archive, tmp_path / "a.pmtiles", {})


@pytest.fixture
def _little_room(scene: Scene) -> Any:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (scene.archive.stat().st_size // 2, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_archive_knows_nothing_of_the_machine_that_made_it(scene: Scene) -> None:
    raw = pieces_of(scene.folder / "raw.pmtiles")
    assert str(scene.folder) in gzip.decompress(raw.metadata).decode()  # tippecanoe's own command line

    pieces = pieces_of(scene.archive)
    told = [scene.archive.read_bytes(), gzip.decompress(pieces.metadata)]
    told += [gzip.decompress(pieces.packed(entry)) for entry in pieces.entries]

    for name in (str(scene.folder), "raw.pmtiles", "geojsonl", "--output", "tilestats"):
        assert not any(name.encode() in text for text in told), name


def test_two_runs_in_two_folders_give_the_same_bytes(scene: Scene, tmp_path: Path) -> None:
    again = made_from(reversed(IMAGES), tmp_path / "another folder")

    assert again.archive.read_bytes() == scene.archive.read_bytes()
    assert again.geojson.read_bytes() == scene.geojson.read_bytes()
    assert json.loads(gzip.decompress(pieces_of(again.archive).metadata))["snapshot"] == scene.snapshot.digest

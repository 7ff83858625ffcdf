"""Reading archives, both sound ones and ones broken in every way."""

from __future__ import annotations

import gzip
import json
import random
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

from oam_mosaic_assets.core.archive import (
    Archive,
    BrokenArchive,
    counts_images,
    fields_of,
    is_vector,
    open_archive,
)
from oam_mosaic_assets.core.drawn import read_drawn
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets_tests.core.archives import Pieces, assembled, in_leaves, packed_directory, pieces_of
from oam_mosaic_assets_tests.core.scene import PLAN, Scene
from oam_mosaic_assets_tests.core.strategies import examples


@pytest.fixture
def pieces(scene: Scene) -> Pieces:
    return pieces_of(scene.archive)


def reader(path: Path) -> Any:
    """The reader of the library `pmtiles`."""
    return Reader(MemorySource(path.read_bytes()))  # type: ignore[no-untyped-call]  # pmtiles has none


def tiles_of(path: Path) -> dict[tuple[int, int, int], bytes]:
    """Every tile as stored in the archive, by zoom, column and row; read by the library `pmtiles`."""
    return dict(all_tiles(MemorySource(path.read_bytes())))  # type: ignore[no-untyped-call]  # pmtiles has none


def entries_of(archive: Archive) -> list[Entry]:
    """All entries in the directories of an archive."""
    return [
        Entry(*each)
        for found in archive.directories()
        for each in zip(
            *(c.tolist() for c in (found.tile_id, found.offset, found.length, found.run_length)), strict=True
        )
    ]


def read_whole(path: Path) -> None:
    """Read everything in an archive."""
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
            tile_id: archive.tile(entry.tile_id, entry.offset, entry.length)
            for entry in entries_of(archive)
            for tile_id in range(entry.tile_id, entry.tile_id + entry.run_length)
        }
    assert found == {zxy_to_tileid(*tile): gzip.decompress(packed) for tile, packed in tiles.items()}


def test_an_archive_tells_its_bounds(scene: Scene) -> None:
    with open_archive(scene.archive) as archive:
        assert archive.bounds == pytest.approx((-180, -85.0511287, 180, 85.0511287), abs=1e-6)


def test_uncompressed_tiles_are_read_as_they_are(pieces: Pieces, tmp_path: Path) -> None:
    entry = pieces.entries[0]
    pieces.replace(entry, content := gzip.decompress(pieces.packed(entry)))
    pieces.header["tile_compression"] = Compression.NONE

    with open_archive(assembled(pieces, tmp_path / "a.pmtiles")) as archive:
        first = entries_of(archive)[0]
        assert archive.tile(first.tile_id, first.offset, first.length) == content


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
        (nothing_at_all, "does not begin like a PMTiles archive"),
        (no_magic, "does not begin like a PMTiles archive"),
        (no_text, "its header does not decode"),
        (version_2, "is a PMTiles archive, but not of version 3"),
        (unknown_compression, "99 is not a valid Compression"),
        (directories_in_brotli, "its directories are not gzipped"),
        (tiles_in_zstd, "tiles compressed with ZSTD are not supported"),
        (unknown_tiles, "99 is not a valid TileType"),
        (zoom_255, "its header says zoom 255; the deepest is 31"),
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
        (gzip.compress(b"{}")[:-1], "its metadata is not a single complete gzip stream"),
        (gzip.compress(b"{}") + b"more", "its metadata is not a single complete gzip stream"),
        (gzip.compress(b"{"), "its metadata is not JSON"),
        (gzip.compress(b'{"a": "\xff"}'), "its metadata is not JSON"),
        (gzip.compress(b"[" * 200_000), "its metadata is not JSON"),
        (gzip.compress(b"[]"), "its metadata is not a JSON object"),
        (gzip.compress(b" " * 2**27), "its metadata is not a single complete gzip stream"),
    ],
    ids=["plain", "cut", "and more", "half", "no UTF-8", "deep", "a list", "endless"],
)
def test_broken_metadata_are_named(pieces: Pieces, tmp_path: Path, metadata: bytes, message: str) -> None:
    path = assembled(replace(pieces, metadata=metadata), tmp_path / "a.pmtiles")

    with pytest.raises(BrokenArchive, match=message), open_archive(path):
        pass


@pytest.mark.parametrize(
    ("fields", "counts"),
    [({"id": "String", "count": "Number"}, True), ({"id": "String"}, False), ([], False)],
)
def test_whether_low_zooms_count_images_is_in_the_metadata(
    pieces: Pieces, tmp_path: Path, fields: object, *, counts: bool
) -> None:
    metadata = gzip.compress(json.dumps({"vector_layers": [{"fields": fields}]}).encode())
    with open_archive(assembled(replace(pieces, metadata=metadata), tmp_path / "a.pmtiles")) as archive:
        assert counts_images(archive) is counts
        assert fields_of(archive) == {"id": "String"}


def entry(tile_id: int, offset: int = 0, length: int = 100, run_length: int = 1) -> Entry:
    return Entry(tile_id, offset, length, run_length)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (b"no gzip", "the directory at byte 127 does not inflate"),
        (packed_directory(), "does not hold as many entries as it says"),
        (packed_directory(10**15), "does not hold as many entries as it says"),
        (packed_directory(2, 0, 1, 1, 1, 100), "does not hold as many entries as it says"),
        (packed_directory(1, 0, 1, 100, 1, 0), "does not hold as many entries as it says"),
        (packed_directory(1 << 70), "holds a number of more than 63 bits"),
        (packed_directory(1, 1 << 63, 1, 1, 1), "holds a number of more than 63 bits"),
        (packed_directory(2, 2**62, 2**62, 1, 1, 1, 1, 1, 0), "add up to more than 63 bits"),
        (packed_directory(1, 0, 1, 100, 0), "its first entry refers to one before it"),
        (gzip.compress(b"\xff" * 2**19), "its last number is cut short"),
        (gzip.compress(b"\xff" * 2**19 + b"\1"), "holds a number of more than 63 bits"),
        (gzip.compress(b"\0" * 2**21), "is not a single complete gzip stream of up to 1,048,576 bytes"),
        ([entry(5), entry(5)], "tile 5 is out of order"),
        ([entry(5, run_length=4), entry(8)], "tile 8 is out of order"),
        ([entry(5, length=0)], "tile 5 is outside the archive"),
        ([entry(5, length=2**40)], "tile 5 is outside the archive"),
        ([entry(5, offset=2**40)], "tile 5 is outside the archive"),
        ([entry(0, run_length=3)], "the run of equal tiles from 0 extends beyond its zoom"),
        ([entry(2**62 + 2**61)], "the run of equal tiles from 6917529027641081856 extends beyond its zoom"),
        ([entry(1365, run_length=2**63 - 1)], "the run of equal tiles from 1365 extends beyond its zoom"),
        ([entry((4**31 - 1) // 3, run_length=2**62 + 5)], r"1537228672809129301 extends beyond its zoom"),
        ([entry((4**15 - 1) // 3, run_length=10**9)], "its directories list more tiles than"),
        ([entry(0, offset=10**9, run_length=0)], "the directory of tile 0 is outside its section"),
    ],
    ids=[
        "no gzip",
        "empty",
        "too many promised",
        "ends early",
        "goes on",
        "a number of 70 bits",
        "a number of 64 bits",
        "a sum of 64 bits",
        "before the beginning",
        "a number without an end",
        "a number of half a million bytes",
        "endless",
        "a tile twice",
        "a run over the next tile",
        "no bytes",
        "too many bytes",
        "beyond the end",
        "a run beyond its zoom",
        "no such zoom",
        "a run beyond all zooms",
        "a run beyond the deepest zoom",
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
    """A reader looks for a tile in one leaf only; it never finds what another leaf holds."""
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


def test_a_root_may_name_tiles_and_leaves_side_by_side(pieces: Pieces, tmp_path: Path) -> None:
    leaf_root, leaves = in_leaves(pieces.entries[5:], 50)
    path = assembled(pieces, tmp_path / "a.pmtiles", root=[*pieces.entries[:5], *leaf_root], leaves=leaves)

    with open_archive(path) as archive:
        assert list(map(str, entries_of(archive))) == list(map(str, pieces.entries))


@pytest.mark.parametrize("leaf_size", [1, 7, 50])
def test_only_leaves_that_may_hold_a_wanted_tile_are_read(
    pieces: Pieces, tmp_path: Path, leaf_size: int
) -> None:
    root, leaves = in_leaves(pieces.entries, leaf_size)
    path = assembled(pieces, tmp_path / "a.pmtiles", root=root, leaves=leaves)
    with open_archive(path) as archive:
        whole = archive.entries()
        for number in (0, len(whole) // 2, len(whole) - 1):
            some = whole[number : number + 1]
            wanted = Stretches(some.tile_id, some.tile_id + some.run_length)
            (found,) = archive.directories(wanted)
            assert len(found) <= leaf_size
            assert wanted.cut(found)[0].offset == some.offset
        beyond = Stretches.of(whole.tile_id[-1:] + 10**6)
        assert sum(map(len, archive.directories(beyond))) <= leaf_size
        assert not [*archive.directories(Stretches.of(beyond.tile_ids[:0]))]


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"no gzip at all", "tile 0 does not inflate"),
        (gzip.compress(b"\x1a\x00")[:-4], "tile 0 is not a single complete gzip stream"),
        (gzip.compress(b"\x1a\x00") + b"x", "tile 0 is not a single complete gzip stream"),
        (
            gzip.compress(b"\0" * (64 * 2**20 + 1)),
            "tile 0 is not a single complete gzip stream of up to 67,108,864",
        ),
    ],
    ids=["no gzip", "cut", "and more", "a bomb"],
)
def test_a_broken_tile_is_named(pieces: Pieces, tmp_path: Path, packed: bytes, message: str) -> None:
    pieces.replace(pieces.entries[0], packed)
    path = assembled(pieces, tmp_path / "a.pmtiles")

    with open_archive(path) as archive:
        first = entries_of(archive)[0]
        with pytest.raises(BrokenArchive, match=message):
            archive.tile(first.tile_id, first.offset, first.length)
        drawn = read_drawn(archive, None, layer=PLAN.layer)
    assert drawn.fault_count == 1
    assert drawn.faults[0].startswith("0/0/0: ")


def test_a_tile_that_is_stored_once_for_several_zooms_is_read_at_each(pieces: Pieces, tmp_path: Path) -> None:
    top, below = pieces.entries[0], pieces.of_zoom(1)
    pieces.entries[1 : 1 + len(below)] = [Entry(1, top.offset, top.length, 4)]
    pieces.header["addressed_tiles_count"] += 4 - sum(each.run_length for each in below)

    with open_archive(assembled(pieces, tmp_path / "a.pmtiles")) as archive:
        drawn = read_drawn(archive, None, layer=PLAN.layer)

    assert (drawn.tiles[1], drawn.images[1]) == (4, drawn.images[0])
    assert drawn.images[0] > 0


def test_a_run_of_more_tiles_than_anyone_could_store_is_read_once(pieces: Pieces, tmp_path: Path) -> None:
    last = pieces.entries[-1]
    pieces.entries.append(Entry((4**20 - 1) // 3, last.offset, last.length, 4**20))
    pieces.header |= {"max_zoom": 20, "addressed_tiles_count": pieces.header["addressed_tiles_count"] + 4**20}

    with open_archive(assembled(pieces, tmp_path / "a.pmtiles")) as archive:
        drawn = read_drawn(archive, None, layer=PLAN.layer)

    assert drawn.tiles[20] == 4**20
    assert drawn.images[20] > 0


def test_equal_tiles_are_told_by_where_they_begin_and_end(pieces: Pieces, tmp_path: Path) -> None:
    """Two entries with the same offset are not the same tile if one of them is shorter."""
    whole, cut = pieces.of_zoom(PLAN.zoom_max)[:2]
    cut.offset, cut.length = whole.offset, whole.length - 10

    with open_archive(assembled(pieces, tmp_path / "a.pmtiles")) as archive:
        drawn = read_drawn(archive, None, layer=PLAN.layer)

    assert drawn.fault_count == 1


@settings(examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_whatever_bytes_change_an_archive_is_read_or_broken(scene: Scene, tmp_path: Path, seed: int) -> None:
    """Any other error is a failure."""
    chance, content = random.Random(seed), bytearray(scene.archive.read_bytes())
    pieces = pieces_of(scene.archive)
    # most bytes are tiles; the other sections deserve as much attention
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
    """Bytes change before compression; afterwards gzip's checksum would reveal most changes."""
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

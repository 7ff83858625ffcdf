"""The audit of imagery fails what is wrong, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import shapely

from oam_mosaic_assets.core.archive import HEADER_LENGTH, open_archive
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.imagery.audit import (
    ALL_READ,
    IMAGERY_CHECKS,
    Unread,
    _surely_seen,
    examine_imagery,
)
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, FINEST, Tile, blocks_of
from oam_mosaic_assets.core.imagery.fragment import above, tiles_of_block, write_tiles
from oam_mosaic_assets.core.imagery.grey import GREY_PLAN, LAST_GREY
from oam_mosaic_assets.core.imagery.laid import contents, laid_in
from oam_mosaic_assets.core.imagery.pixels import decoded
from oam_mosaic_assets.core.snapshot import write_snapshot
from oam_mosaic_assets_tests.core.archives import with_short_repeats
from oam_mosaic_assets_tests.core.pictures import covered

FOOTPRINT = shapely.box(15.0, 44.95, 15.02, 44.97)
BLOCK = Tile(*blocks_of(np.array([FOOTPRINT], dtype=object))[1][0].tolist())
NAMED = {"kind": "hints", "images": 1, "read": 1, "skipped": {}, "left": 0}
EXTENT = (15.0, 44.95, 15.02, 44.97)


def tiles() -> dict[int, bytes]:
    """The tiles of one white block, at all zooms."""
    of_block = tiles_of_block(BLOCK, np.full((1024, 1024, 4), 255, np.uint8))
    made, _ = above(0, [BLOCK], BLOCK_ZOOM, lambda tile: decoded(of_block[tile.id(BLOCK_ZOOM)]))
    return of_block | made


def verdicts(
    folder: Path,
    content: dict[int, bytes],
    *,
    tally: dict[str, object] = NAMED,
    snapshot: str = "5" * 64,
    extent: tuple[float, float, float, float] = EXTENT,
    zooms: tuple[int, int] = (0, FINEST),
    cut: bool = False,
    short: bool = False,
    unread: Unread | None = ALL_READ,
    says: str = "",
) -> set[str]:
    """The names of the checks that fail."""
    archive = folder / "imagery.pmtiles"
    metadata = {"snapshot": snapshot, "kind": says or tally["kind"]}
    write_tiles(archive, [], content, metadata, zooms=zooms, bounds=extent)
    if cut:
        whole = archive.read_bytes()
        archive.write_bytes(whole[: HEADER_LENGTH + (len(whole) - HEADER_LENGTH) // 2])
    if short:
        with_short_repeats(archive, archive)
    rows: Iterable[Footprint] = [Footprint(id="a", geometry=FOOTPRINT)]
    (folder / "sorting").mkdir()
    write_snapshot(
        rows,
        taken_at=datetime(2026, 1, 15, tzinfo=UTC),
        footprints=folder / "footprints.parquet",
        set_aside=folder / "aside.parquet",
        scratch=folder / "sorting",
    )
    found = examine_imagery(
        archive,
        folder / "footprints.parquet",
        snapshot="5" * 64,
        extent=EXTENT,
        tally=tally,
        unread=unread,
    )
    if not cut:
        assert [each.name for each in found] == [*IMAGERY_CHECKS]
    return {each.name for each in found if not each.passed}


def test_a_good_archive_passes(tmp_path: Path) -> None:
    assert verdicts(tmp_path, tiles()) == set()


def test_an_archive_of_no_tiles_passes_where_nothing_was_read(tmp_path: Path) -> None:
    tally = NAMED | {"read": 0, "skipped": {"missing": 1}}
    assert verdicts(tmp_path, {}, tally=tally) == set()


def test_an_archive_that_is_cut_short_fails(tmp_path: Path) -> None:
    assert verdicts(tmp_path, tiles(), cut=True) == {"archive_is_whole"}


def test_tiles_that_share_a_picture_but_not_all_of_it_fail(tmp_path: Path) -> None:
    assert verdicts(tmp_path, tiles(), short=True) == {"archive_is_whole"}


@pytest.mark.parametrize(
    "broken",
    [
        lambda tile: b"\x89PNG" + tile[4:],
        lambda tile: tile[:-4],
        lambda tile: tile[: len(tile) // 2] + bytes(len(tile) - len(tile) // 2),
    ],
    ids=["another format", "cut short", "overwritten"],
)
def test_a_broken_tile_fails(tmp_path: Path, broken: object) -> None:
    content = tiles()
    name = Tile(BLOCK.x * 4, BLOCK.y * 4).id(FINEST)
    content[name] = broken(content[name])  # type: ignore[operator]
    assert "archive_is_whole" in verdicts(tmp_path, content)


@pytest.mark.parametrize(
    "other",
    [
        {"snapshot": "6" * 64},
        {"extent": (14.0, 44.95, 15.02, 44.97)},
        {"zooms": (0, 13)},
        {"says": "imagery"},
    ],
    ids=["snapshot", "bounds", "zooms", "kind"],
)
def test_another_archive_than_was_asked_for_fails(tmp_path: Path, other: dict[str, object]) -> None:
    assert verdicts(tmp_path, tiles(), **other) == {"archive_is_as_asked"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tally", "passes"),
    [
        ({"read": 0}, False),
        ({"read": 0, "skipped": {"missing": 1}}, True),
        ({"read": 0, "left": 1}, True),
        ({"skipped": {"missing": 1}}, False),
    ],
)
def test_every_image_must_be_accounted_for(tmp_path: Path, tally: dict[str, object], *, passes: bool) -> None:
    assert ("every_image_is_accounted_for" not in verdicts(tmp_path, tiles(), tally=NAMED | tally)) == passes


@pytest.mark.parametrize("zoom", range(FINEST))
def test_a_tile_that_is_missing_between_others_fails(tmp_path: Path, zoom: int) -> None:
    content = tiles()
    shift = BLOCK_ZOOM - zoom
    at = BLOCK.above(shift) if shift >= 0 else Tile(BLOCK.x << -shift, BLOCK.y << -shift)
    del content[at.id(zoom)]
    assert verdicts(tmp_path, content) == {"images_lie_where_they_should"}


def test_a_tile_where_no_image_is_fails(tmp_path: Path) -> None:
    content = tiles()
    content[Tile(1, 1).id(BLOCK_ZOOM)] = content[BLOCK.id(BLOCK_ZOOM)]
    assert verdicts(tmp_path, content) == {"images_lie_where_they_should"}


def test_no_tile_at_all_fails_where_an_image_was_read(tmp_path: Path) -> None:
    assert verdicts(tmp_path, {}) == {"images_lie_where_they_should"}


def test_what_fades_towards_the_low_zooms_is_not_missing(tmp_path: Path) -> None:
    speck = np.zeros((1024, 1024, 4), np.uint8)
    speck[5, 5] = 255
    content = tiles_of_block(BLOCK, speck)
    assert set(content) == {
        Tile(BLOCK.x << zoom - 12, BLOCK.y << zoom - 12).id(zoom) for zoom in (12, 13, 14)
    }
    made, _ = above(0, [BLOCK], BLOCK_ZOOM, lambda tile: decoded(content[tile.id(BLOCK_ZOOM)]))
    assert len(made) < BLOCK_ZOOM
    assert verdicts(tmp_path, content | made) == set()


UNREAD = NAMED | {"read": 0, "skipped": {"missing": 1}}
HYBRID = NAMED | {"kind": "hybrid"}


def grey_above(folder: Path, footprint: Area = FOOTPRINT) -> dict[int, bytes]:
    """The tiles of a hybrid's upper zooms, drawn in grey."""
    drawn = covered([Footprint(id="a", geometry=footprint)], folder / "grey", GREY_PLAN)
    with open_archive(drawn.archive) as archive:
        return dict(contents(archive, laid_in(archive)))


def lower(content: dict[int, bytes]) -> dict[int, bytes]:
    return {each: tile for each, tile in content.items() if each >= first_tile_id(LAST_GREY + 1)}


PLACES = [Tile(*each) for each in blocks_of(np.array([FOOTPRINT], dtype=object))[1].tolist()]
LOST = Unread(failed=frozenset("a"), grey={each.id(BLOCK_ZOOM) for each in PLACES})


def test_an_image_that_is_not_read_and_not_grey_fails(tmp_path: Path) -> None:
    assert verdicts(tmp_path, {}, tally=UNREAD, unread=LOST) == {"no_image_is_a_hole"}


def test_without_its_report_nobody_knows_what_must_be_grey(tmp_path: Path) -> None:
    for folder in ("hints", "imagery"):
        (tmp_path / folder).mkdir()
    assert verdicts(tmp_path / "hints", tiles(), unread=None) == {"no_image_is_a_hole"}
    assert not verdicts(tmp_path / "imagery", tiles(), tally=NAMED | {"kind": "imagery"}, unread=None)


def test_an_image_that_was_read_elsewhere_need_not_be_grey_there(tmp_path: Path) -> None:
    somewhere = replace(LOST, grey={BLOCK.id(BLOCK_ZOOM)})
    assert len(PLACES) > 1
    assert not verdicts(tmp_path, tiles(), tally=UNREAD, unread=somewhere)


def test_an_image_whose_outline_crosses_itself_on_the_map_is_looked_for() -> None:
    corners = [(0, 60), (0.2, 60.2), (0.2, 60.3), (0.101, 60.3), (0.1, 60.1000001), (0.099, 60.3), (0, 60.3)]
    assert len(_surely_seen(shapely.Polygon(corners))) > 1


def a_frayed_square(teeth: int, length: float, side: float) -> shapely.Polygon:
    """An area whose northern edge is teeth, of this length in degrees, on the rest of a square."""
    x = np.repeat(np.linspace(0.0, side, 2 * teeth + 1), 2)[1:-1]
    y = np.resize([side - length, side, side, side - length], len(x))
    corners = np.column_stack([[*x, side, 0.0], [*y, 0.0, 0.0]])
    return shapely.Polygon(corners + np.array([15.0, 10.0]))


def test_an_outline_of_thousands_of_sides_is_looked_for_where_it_is_wide() -> None:
    teeth, side = 1_500, 0.04
    clock = time.process_time()
    assert len(_surely_seen(a_frayed_square(teeth, side / 100, side))) > 1
    assert not _surely_seen(a_frayed_square(teeth, side * 0.999, side))
    assert time.process_time() - clock < 2.0


def test_a_grey_image_passes_and_so_does_a_hole_that_was_asked_for(tmp_path: Path) -> None:
    for folder in ("grey", "hole"):
        (tmp_path / folder).mkdir()
    assert verdicts(tmp_path / "grey", tiles(), tally=UNREAD, unread=LOST) == {
        "no_image_is_a_hole"
    }  # only one of its blocks is there
    of_blocks = [tiles_of_block(each, np.zeros((1024, 1024, 4), np.uint8), [FOOTPRINT]) for each in PLACES]
    found = dict(each for tiles in of_blocks for each in tiles.items())
    made, _ = above(0, PLACES, BLOCK_ZOOM, lambda tile: decoded(found[tile.id(BLOCK_ZOOM)]))
    waits = Unread(waiting=frozenset("a"))
    (tmp_path / "finished").mkdir()
    assert not verdicts(tmp_path / "finished", {}, tally=UNREAD, unread=waits)
    unfinished = replace(waits, unfinished={PLACES[0].id(BLOCK_ZOOM)})
    (tmp_path / "unfinished").mkdir()
    assert verdicts(tmp_path / "unfinished", {}, tally=UNREAD, unread=unfinished) == {"no_image_is_a_hole"}
    assert not verdicts(tmp_path, found | made, tally=UNREAD, unread=LOST)
    assert not verdicts(tmp_path / "hole", {}, tally=UNREAD | {"kind": "imagery"}, unread=LOST)


def test_a_hybrid_passes_with_its_upper_zooms_in_grey(tmp_path: Path) -> None:
    assert verdicts(tmp_path, grey_above(tmp_path) | lower(tiles()), tally=HYBRID) == set()


@pytest.mark.parametrize("zoom", range(LAST_GREY + 1))
def test_a_hybrid_that_lacks_a_grey_tile_fails(tmp_path: Path, zoom: int) -> None:
    content = grey_above(tmp_path) | lower(tiles())
    del content[BLOCK.above(BLOCK_ZOOM - zoom).id(zoom)]
    assert "no_image_is_a_hole" in verdicts(tmp_path, content, tally=HYBRID)


def test_a_hybrid_with_grey_of_another_place_fails(tmp_path: Path) -> None:
    elsewhere = shapely.transform(FOOTPRINT, lambda place: place + np.array([0.004, 0.0]))
    content = grey_above(tmp_path, elsewhere) | lower(tiles())
    assert verdicts(tmp_path, content, tally=HYBRID) == {"no_image_is_a_hole"}


def test_a_hybrid_with_imagery_above_fails(tmp_path: Path) -> None:
    assert verdicts(tmp_path, tiles(), tally=HYBRID) == {"no_image_is_a_hole"}

"""A density grid that takes over what did not change is byte for byte the one made from scratch."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st

from oam_mosaic_assets.core import splice
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.density_audit import examine_density
from oam_mosaic_assets.core.density_changes import changed_sheets
from oam_mosaic_assets.core.density_recount import differences_between, placed_images
from oam_mosaic_assets.core.density_tables import DensityTables
from oam_mosaic_assets.core.density_tiles import DensityBefore, write_density_archive
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids, tiles_between
from oam_mosaic_assets.core.ground import SHEET_ZOOM, tile_frames
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.splice import Before, TooMuchChanged
from oam_mosaic_assets_tests.core.density_world import HARD, NOW, Grid, grid_of, item
from oam_mosaic_assets_tests.core.strategies import clean_areas, examples

PLATFORMS: Final = ("uav", "satellite", "kite")
LICENCES: Final = ("CC BY 4.0", "CC BY-NC 4.0", "CC BY-SA 4.0", "none")


@pytest.fixture(scope="module", autouse=True)
def _however_much_changed() -> Iterator[None]:
    """What changes in small catalogues is followed, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splice, "LARGEST_SHARE", 100.0)
        yield


@st.composite
def an_image(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """An image anywhere, of a date that may drop out of the last 7 or 30 days as the clock moves on.

    It has one part or two, which may lie far apart, on both sides of the antimeridian as well.
    """
    days = draw(st.sampled_from([0.5, 6.5, 7.5, 29.5, 30.5, 400.0]) | st.floats(0.01, 40.0))
    rings = draw(st.lists(clean_areas(), min_size=1, max_size=2))
    return item(
        name,
        geometry={"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]},
        datetime=(NOW - timedelta(days=days)).isoformat(),
        gsd=draw(st.sampled_from([0.1, 1.0, 5.0, 50.0])),
        license=draw(st.sampled_from(LICENCES)),
        **{"oam:platform_type": draw(st.sampled_from(PLATFORMS))},
    )


@st.composite
def two_catalogues(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A catalogue before and after: images were moved, redated, redescribed, removed and added."""
    before = [draw(an_image(f"image {each}")) for each in range(draw(st.integers(1, 6)))]
    now = []
    for each in before:
        became = draw(st.sampled_from(["the same", "the same", "another", "redescribed", "gone"]))
        if became == "another":
            now.append(draw(an_image(each["id"])))
        elif became == "redescribed":
            other = draw(an_image(each["id"]))
            now.append({**each, "properties": other["properties"]})
        elif became == "the same":
            now.append(each)
    now += [draw(an_image(f"new {each}")) for each in range(draw(st.integers(0 if now else 1, 2)))]
    return before, now


def assert_same(grid: Grid, anew: Grid) -> None:
    for one, other in zip(grid.tables.files, anew.tables.files, strict=True):
        assert pl.read_parquet(one).equals(pl.read_parquet(other)), one.name
    assert grid.counted == anew.counted
    assert grid.archive.read_bytes() == anew.archive.read_bytes()


def failures(first: Grid, second: Grid, archive: Path | None = None) -> dict[str, str]:
    """The text of each check that fails for a grid that took over from another."""
    return {each.name: each.text for each in examined(first, second, archive) if not each.passed}


def examined(first: Grid, second: Grid, archive: Path | None = None) -> list[Verdict]:
    """The verdicts on a grid that took over from another."""
    return examine_density(
        archive or second.archive,
        second.footprints,
        snapshot=second.snapshot.digest,
        taken_at=second.snapshot.taken_at.isoformat(),
        excluded=second.snapshot.set_aside,
        catalogued=second.snapshot.catalogued,
        before=Before(build="the public one", archive=first.archive, footprints=first.footprints),
    )


def followed(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], folder: Path, days: float = 0.0
) -> tuple[Grid, Grid]:
    """The grid of a catalogue and the one built on it some days later, checked against one from scratch."""
    first = grid_of(before, folder / "before")
    taken_at = NOW + timedelta(days=days)
    second = grid_of(now, folder / "now", taken_at=taken_at, before=first)
    assert_same(second, grid_of(now, folder / "anew", taken_at=taken_at))
    assert failures(first, second) == {}
    return first, second


CROSSING: Final = item("a", 179.5, 0.0, 180.5, 1.0)
WEST: Final = item("a", -179.9, 0.0, -179.5, 1.0)
FAR: Final = item("b", 20.0, 40.0, 20.1, 40.1)


def apart(west: float, east: float, latitude: float, **properties: Any) -> dict[str, Any]:
    """An image of two squares of one degree, which counts halfway between them, across the antimeridian."""
    squares = [item("", each, latitude, each + 1.0, latitude + 1.0) for each in (west, east)]
    parts = [each["geometry"]["coordinates"] for each in squares]
    return item("apart", geometry={"type": "MultiPolygon", "coordinates": parts}, **properties)


OCEAN_WIDE: Final = apart(144.0, -156.0, 13.0)
"""Counts at 174.5 degrees east."""

ISLANDS: Final = apart(172.0, -174.5, 52.0, datetime=(NOW - timedelta(days=6.9)).isoformat())
BETWEEN: Final = (item("old", 174.4, 13.4, 174.5, 13.5), item("new", 174.41, 13.41, 174.51, 13.51))


@given(catalogues=two_catalogues(), days=st.sampled_from([0.0, 0.2, 1.0, 3.0, 30.0]))
@example(catalogues=([CROSSING, FAR], [WEST, FAR]), days=0.0)
@example(catalogues=([WEST, FAR], [CROSSING, FAR]), days=1.0)
@example(catalogues=([CROSSING, FAR], [FAR]), days=0.0)
@example(catalogues=([CROSSING], [FAR]), days=0.0)
@example(catalogues=([OCEAN_WIDE, BETWEEN[0]], [OCEAN_WIDE, *BETWEEN]), days=0.0)
@example(catalogues=([ISLANDS, FAR], [ISLANDS, FAR]), days=1.0)
@examples(15)
def test_whatever_changed_the_bytes_are_those_of_a_build_from_nothing(
    catalogues: tuple[list[dict[str, Any]], list[dict[str, Any]]], days: float
) -> None:
    with TemporaryDirectory() as folder:
        followed(*catalogues, Path(folder), days)


def test_what_did_not_change_is_neither_counted_nor_drawn_again(tmp_path: Path) -> None:
    first, grid = followed(HARD, HARD, tmp_path)
    assert (grid.sheets, grid.made) == (0, 0)
    assert grid.reused > 0
    *_, truth = examined(first, grid)
    assert truth.text == "the cells of 14 zooms match a fresh count where something changed"


def test_one_image_makes_the_tiles_anew_that_it_counts_in(tmp_path: Path) -> None:
    _, grid = followed(HARD, [*HARD, item("new", 100.2, 50.2, 100.21, 50.21)], tmp_path)
    assert (grid.sheets, grid.made) == (1, 14), "one tile at each zoom"


def test_days_that_pass_make_only_tiles_anew_whose_images_left_the_last_days(tmp_path: Path) -> None:
    first, grid = followed(HARD, HARD, tmp_path, days=1.0)
    kinds = [pl.read_parquet(each.kinds).filter(zoom=0, kind=10)["count"].sum() for each in (first, grid)]
    assert kinds == [2, 1], "of the last week"
    assert 14 <= grid.made < first.made // 4


def test_if_most_changed_all_is_counted_without_reading_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "LARGEST_SHARE", 0.5)
    tables = [
        grid_of(each, tmp_path / name).footprints for name, each in (("a", HARD), ("b", [FAR, ISLANDS]))
    ]
    for each in tables:
        pl.read_parquet(each).with_columns(geometry=pl.lit(b"unread")).write_parquet(each)
    with pytest.raises(TooMuchChanged, match="24 images are new, gone or changed; 2 are drawn"):
        changed_sheets(*tables, then=NOW, taken_at=NOW)


# the audit, which reads only what changed


def test_a_change_with_a_large_frame_takes_little_memory(tmp_path: Path) -> None:
    ring = [[0.0, 0.0], [45.0, 39.5], [45.0, 40.0], [0.0, 0.0]]
    long = item("long", geometry={"type": "Polygon", "coordinates": [ring]})
    catalogues = {"before": [FAR], "now": [FAR, long]}
    tables = [grid_of(each, tmp_path / name).footprints for name, each in catalogues.items()]
    images = [placed_images(each, NOW, each.parent / "scratch") for each in tables]
    tracemalloc.start()
    try:
        found = differences_between(*tables, *images)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    for zoom in range(14):
        _, x, y = tiles_between(*tile_frames(np.array([shapely.Polygon(ring)]), zoom))
        assert np.array_equal(found.tiles.of_zoom(zoom), np.unique(tile_ids(zoom, x, y)))
    assert np.array_equal(
        np.flatnonzero(found.ground) + first_tile_id(SHEET_ZOOM), found.tiles.of_zoom(SHEET_ZOOM)
    )


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> tuple[Grid, Grid]:
    """A grid, and its successor one day later with one image added and one removed."""
    return followed(HARD, [*HARD[1:], NEW], tmp_path_factory.mktemp("grids"), days=1.0)


NEW: Final = item("new", 100.2, 50.2, 100.21, 50.21)


def spliced(grids: tuple[Grid, Grid], folder: Path, *, shift: int = 0, lost: bool = False) -> Path:
    """An archive as a faulty merge would leave it: one tile that was taken over is wrong.

    Args:
        shift: bytes by which the tile's offset is too large.
        lost: whether the tile is left out.
    """
    first, second = grids
    target = folder / "wrong.pmtiles"
    with open_archive(first.archive) as was, open_archive(second.archive) as now:
        whole, then = Source.of_archive(now), Source.of_archive(was)
        same = np.isin(whole.entries.tile_id, then.entries.tile_id)
        same &= whole.entries.length == then.entries.length[then.entries.at(whole.entries.tile_id)]
        # a tile at the last zoom in which nothing changed
        wrong = np.arange(len(same)) == np.flatnonzero(same)[-1]
        sources = [Source(whole.descriptor, whole.entries[~wrong])]
        if not lost:
            moved = whole.entries[wrong].shifted(shift)
            sources.append(Source(whole.descriptor, moved))
        place = Place(zoom_min=0, zoom_max=13, bounds=now.bounds)
        write_archive(target, sources, place, now.metadata)
    return target


def test_a_lost_tile_is_seen(grids: tuple[Grid, Grid], tmp_path: Path) -> None:
    said = failures(*grids, spliced(grids, tmp_path, lost=True))
    assert "1 tiles are lost, first 13/" in said["archive_is_whole"]


def test_a_shifted_range_of_bytes_is_seen(grids: tuple[Grid, Grid], tmp_path: Path) -> None:
    said = failures(*grids, spliced(grids, tmp_path, shift=-1))
    assert "1 tiles are different, first 13/" in said["archive_is_whole"]


def test_a_stale_tile_is_seen(grids: tuple[Grid, Grid]) -> None:
    """The archive published before is intact, but it is not the new one."""
    first, second = grids
    said = failures(first, second, first.archive)
    assert "cells differ from a fresh count" in said["cells_hold_what_lies_there"]
    assert {"archive_is_as_asked", "cells_hold_what_lies_there"} <= said.keys()


def stating(grids: tuple[Grid, Grid], covered: pl.Expr, folder: Path) -> Path:
    """An archive that takes over from the first grid, but draws the second with other covered shares."""
    first, second = grids
    wrong = DensityTables.within(folder)
    for one, other in zip(second.tables.files, wrong.files, strict=True):
        other.write_bytes(one.read_bytes())
    pl.read_parquet(second.cells).with_columns(covered.alias("covered")).write_parquet(wrong.cells)
    archive = folder / "wrong.pmtiles"
    with open_archive(second.archive) as right:
        metadata = right.metadata
    before = DensityBefore(first.archive, first.tables)
    write_density_archive(wrong, archive, metadata=metadata, scratch=folder, before=before)
    return archive


def test_a_share_that_changed_where_no_image_did_is_seen(grids: tuple[Grid, Grid], tmp_path: Path) -> None:
    """If only part of a tile changed, the rest is drawn from tables that were taken over."""
    changed = (pl.col("zoom") == 0) & (pl.col("west") == -60.0)  # half a country, which did not change
    assert pl.read_parquet(grids[1].cells).filter(changed).height == 1
    halved = pl.when(changed).then(pl.col("covered") / 2).otherwise(pl.col("covered"))
    said = failures(*grids, stating(grids, halved, tmp_path))
    assert "z0: 1 cells have another covered share" in said["cells_hold_what_lies_there"]


def test_a_wrong_share_where_an_image_changed_is_seen(grids: tuple[Grid, Grid], tmp_path: Path) -> None:
    new = (pl.col("zoom") == 13) & (pl.col("west") == NEW["geometry"]["coordinates"][0][0][0])
    assert pl.read_parquet(grids[1].cells).filter(new)["covered"].to_list() == [1.0]
    halved = pl.when(new).then(pl.col("covered") / 2).otherwise(pl.col("covered"))
    said = failures(*grids, stating(grids, halved, tmp_path))
    assert "z13: images cover 1.0000 of cell " in said["cells_hold_what_lies_there"]

"""The files of a snapshot: in drawing order, complete, and the same whatever order the rows came in."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import shapely

from oam_mosaic_assets.core.footprint import SetAside
from oam_mosaic_assets.core.grid import project
from oam_mosaic_assets.core.snapshot import BATCH, Names, as_drawn, frames_of, read_batches, write_geojson
from oam_mosaic_assets.settings import TEST_BOX
from oam_mosaic_assets_tests.core.scene import DIFFICULT, IMAGES, NOW, PLAN, UNIT, footprint, snapshot_of

ASIDE = SetAside("broken", "no_area", "{}")


def test_the_footprints_are_geoparquet(tmp_path: Path) -> None:
    found = snapshot_of([*IMAGES, ASIDE], tmp_path / "s")
    path = tmp_path / "s" / "footprints.parquet"
    geo = json.loads(pl.read_parquet_metadata(path)["geo"])
    column = geo["columns"][geo["primary_column"]]
    assert (geo["version"], column["encoding"], column["orientation"]) == ("1.1.0", "WKB", "counterclockwise")
    assert column["geometry_types"] == ["MultiPolygon", "Polygon"]
    assert "crs" not in column  # OGC:CRS84, longitude first
    table = pl.read_parquet(path)
    geometries = shapely.from_wkb(table["geometry"].to_numpy())
    assert column["bbox"] == list(found.bounds or ()) == shapely.total_bounds(geometries).tolist()
    covering = [[row[side] for side in ("xmin", "ymin", "xmax", "ymax")] for row in table["bbox"]]
    assert covering == shapely.bounds(geometries).tolist()
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]


def test_frames_are_those_of_what_is_drawn_to_the_last_bit(tmp_path: Path) -> None:
    """Low zooms count images by the middle of their frame, the audit by that of the projected footprint."""
    snapshot_of(IMAGES, tmp_path / "s")
    table = pl.read_parquet(tmp_path / "s" / "footprints.parquet")
    drawn = project(shapely.from_wkb(table["geometry"].to_numpy()), 0)
    assert frames_of(table["bbox"]).tolist() == shapely.bounds(drawn).tolist()


def test_the_counts_add_up(tmp_path: Path) -> None:
    twice = [*IMAGES, IMAGES[0], ASIDE]
    found = snapshot_of(twice, tmp_path / "s")
    assert found.drawable == len(IMAGES)
    assert found.set_aside == {"duplicate_id": 1, "no_area": 1}
    assert found.catalogued == len(twice)
    listed = pl.read_parquet(tmp_path / "s" / "set_aside.parquet").rows()
    assert sorted(listed) == sorted(
        [(IMAGES[0].id, "duplicate_id", IMAGES[0].id), ("broken", "no_area", "{}")]
    )


def test_the_oldest_come_first_and_the_order_is_total(tmp_path: Path) -> None:
    at = footprint("x", 0, 0, 1, 1)
    rows = [
        replace(at, id="new", acquired_to=NOW),
        replace(at, id="b", acquired_to=NOW - timedelta(days=1)),
        replace(at, id="a", acquired_to=NOW - timedelta(days=1)),
        replace(at, id="unknown"),
    ]
    snapshot_of(rows, tmp_path / "s")
    assert pl.read_parquet(tmp_path / "s" / "footprints.parquet")["id"].to_list() == [
        "unknown",
        "a",
        "b",
        "new",
    ]


def test_the_digest_knows_the_content_and_not_the_order(tmp_path: Path) -> None:
    one = snapshot_of([*IMAGES, ASIDE], tmp_path / "1").digest
    assert snapshot_of([ASIDE, *reversed(IMAGES)], tmp_path / "2").digest == one
    assert snapshot_of(IMAGES, tmp_path / "3").digest != one
    assert snapshot_of([*IMAGES[1:], replace(IMAGES[0], title="other"), ASIDE], tmp_path / "4").digest != one


def test_the_digest_does_not_know_in_which_row_an_item_without_an_id_was(tmp_path: Path) -> None:
    """A database without an order gives its rows in any, and not all of them if only some are read again."""
    nameless = [SetAside("row 7", "no_id", "null"), SetAside("row 12", "not_an_item", "[1]")]
    others = [SetAside("row 1", "not_an_item", "[1]"), SetAside("row 3", "no_id", "null")]
    one = snapshot_of([*IMAGES, *nameless], tmp_path / "1").digest
    assert snapshot_of([*others, *IMAGES], tmp_path / "2").digest == one
    assert snapshot_of([*others[1:], *IMAGES], tmp_path / "3").digest != one


def test_an_empty_catalogue_gives_empty_files(tmp_path: Path) -> None:
    found = snapshot_of([], tmp_path / "s")
    assert (found.drawable, found.bounds, found.newest) == (0, None, None)
    assert pl.read_parquet(tmp_path / "s" / "footprints.parquet").height == 0
    assert write_geojson(tmp_path / "s" / "footprints.parquet", tmp_path / "g", plan=PLAN) == 0


def test_only_what_touches_the_box_is_kept(tmp_path: Path) -> None:
    """The box of `TEST_MODE`: 20° W to 10° E, the equator to 30° N."""
    kept = {
        "in": (0, 0, 1, 1),
        "west": (-21, 5, -20, 6),
        "south": (0, -1, 1, 0),
        "east": (10, 5, 11, 6),
        "north": (0, 30, 1, 31),
    }
    left = {
        "beyond west": (-21, 5, -20.001, 6),
        "beyond south": (0, -1, 1, -0.001),
        "beyond east": (10.001, 5, 11, 6),
        "beyond north": (0, 30.001, 1, 31),
    }
    rows = [footprint(name, *sides) for name, sides in (kept | left).items()]
    found = snapshot_of(rows, tmp_path / "s", box=TEST_BOX)
    assert {*pl.read_parquet(tmp_path / "s" / "footprints.parquet")["id"]} == {*kept}
    assert (found.drawable, found.outside) == (5, 4)


def test_more_than_a_batch_is_read_back_in_order(tmp_path: Path) -> None:
    at = footprint("x", 0, 0, 1, 1)
    rows = [replace(at, id=f"{number:06}") for number in range(2 * BATCH + 3)]
    snapshot_of(reversed(rows), tmp_path / "s")
    batches = list(read_batches(tmp_path / "s" / "footprints.parquet", ("id",)))
    assert [batch.height for batch in batches] == [BATCH, BATCH, 3]
    assert [name for batch in batches for name in batch["id"]] == [row.id for row in rows]


@pytest.mark.parametrize("chosen", [[], [0], [2, 3, 5, 1500], [1023, 1024, 1025], range(2000)])
def test_some_images_have_the_lines_that_they_have_among_all(tmp_path: Path, chosen: list[int]) -> None:
    widths = UNIT * np.arange(1, 2001) / 9.0
    rows = [footprint(f"{each:04}", 10.0, 10.0, 10.0 + width, 10.1) for each, width in enumerate(widths)]
    snapshot_of(rows, tmp_path / "s")
    table = tmp_path / "s" / "footprints.parquet"
    whole, some = tmp_path / "all.geojsonl", tmp_path / "some.geojsonl"
    write_geojson(table, whole, plan=PLAN)
    write_geojson(table, some, plan=PLAN, images=np.array(chosen, np.int64))
    names = {*Names(table)[np.array(chosen, np.int64)]}
    lines = whole.read_text().splitlines()
    assert some.read_text().splitlines() == [
        line for line in lines if json.loads(line)["properties"]["id"] in names
    ]


@pytest.mark.parametrize(
    "name", ['a "quoted" id', "new\\nline", "ä 👩‍🚒", "</script>", "'; DROP TABLE items"]
)
def test_ids_are_data(name: str, tmp_path: Path) -> None:
    snapshot_of([footprint(name, 0, 0, 1, 1)], tmp_path / "s")
    write_geojson(tmp_path / "s" / "footprints.parquet", tmp_path / "g", plan=PLAN)
    (line,) = (tmp_path / "g").read_text().splitlines()
    feature: dict[str, Any] = json.loads(line)
    assert feature["properties"] == {"id": name}
    assert shapely.from_geojson(json.dumps(feature["geometry"])).equals(shapely.box(0, 0, 1, 1))


def test_what_rounding_would_wipe_out_is_widened_and_nothing_else_is_touched() -> None:
    geometries = np.array([each.geometry for each in IMAGES], dtype=object)
    drawn = as_drawn(geometries, PLAN.thinnest)
    names = {IMAGES[index].id for index in np.flatnonzero(drawn != geometries)}
    small = {each.id for each in DIFFICULT if "dot" in each.id or "thread" in each.id}
    assert names == small
    for before, after in zip(geometries, drawn, strict=True):
        assert after.buffer(UNIT / 1000).covers(before)
        assert not shapely.is_empty(shapely.buffer(after, -PLAN.thinnest / 2))

"""The statistics: what the landing page expects of them, and an audit that notices anything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from oam_mosaic_assets.core.density import totals_of
from oam_mosaic_assets.core.release import as_json
from oam_mosaic_assets.core.statistics import statistics_of
from oam_mosaic_assets.core.statistics_audit import examine_statistics
from oam_mosaic_assets_tests.core.density_world import HARD, NOW, Grid, grid_of, item

EXCLUDED = {"no_area": 1}
CATALOG = {"total_items": 50, "collections": 3}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return grid_of(HARD, tmp_path_factory.mktemp("grid"))


def stated(grid: Grid, items: int | None = 50, *, is_exact: bool = True) -> dict[str, Any]:
    newest = grid.snapshot.newest
    facts = {
        "snapshot": {
            "taken_at": NOW.isoformat(),
            "digest": grid.snapshot.digest,
            "newest": newest and newest.isoformat(),
        },
        "holdings": {"collections": 3, "items": items, "is_exact": is_exact},
        "images": grid.snapshot.drawable,
        "set_aside": grid.snapshot.set_aside,
        "outside_test_box": 0,
        "area_km2": grid.counted.area_km2,
        "covered_km2": grid.counted.covered_km2,
    }
    return statistics_of(
        facts, totals_of(pl.scan_parquet(grid.kinds)), build="a build", collection="openaerialmap"
    )


def failures(
    grid: Grid,
    document: bytes,
    folder: Path,
    excluded: Mapping[str, int] = EXCLUDED,
    sheets: Path | None = None,
    catalog: Mapping[str, int] = CATALOG,
) -> dict[str, str]:
    path = folder / "stats.json"
    path.write_bytes(document)
    found = examine_statistics(
        path,
        grid.footprints,
        sheets or grid.tables.sheets,
        taken_at=NOW.isoformat(),
        stated={
            "build": "a build",
            "watermark": grid.snapshot.digest,
            "collection": "openaerialmap",
            "catalog": catalog,
        },
        excluded=excluded,
    )
    return {each.name: each.text for each in found if not each.passed}


def test_they_are_what_the_landing_page_reads(grid: Grid, tmp_path: Path) -> None:
    said = json.loads(as_json(stated(grid)))
    assert said["generated_at"] == NOW.isoformat()
    assert said["collection"] == "openaerialmap"
    assert said["items"] == len(HARD) - 1
    assert said["catalog"] == {"total_items": 50, "collections": 3}
    assert said["latest_capture"] == grid.snapshot.newest.isoformat()  # type: ignore[union-attr]
    assert type(said["area_km2"]) is type(said["covered_km2"]) is float
    assert 0.0 < said["covered_km2"] < said["area_km2"]
    assert said["items"] + said["excluded"]["total"] == len(HARD)
    assert said["counts"]["count_last_7d"] == 2
    assert said["counts"]["count_last_30d"] == 4
    assert failures(grid, as_json(said), tmp_path) == {}


def test_a_source_that_does_not_tell_of_other_collections_holds_what_was_read(grid: Grid) -> None:
    assert stated(grid, items=None)["catalog"]["total_items"] == len(HARD)


def test_a_live_source_held_at_least_what_was_read(grid: Grid, tmp_path: Path) -> None:
    """It is counted after it is read; items deleted in between are in the mosaic, but not in the count."""
    fewer = len(HARD) - 2
    said = stated(grid, items=fewer, is_exact=False)
    assert said["catalog"]["total_items"] == len(HARD)
    assert failures(grid, as_json(said), tmp_path, catalog={**CATALOG, "total_items": len(HARD)}) == {}
    assert stated(grid, items=50, is_exact=False)["catalog"]["total_items"] == 50
    # at a single moment, fewer than were read is a mistake
    wrong = failures(grid, as_json(stated(grid, items=fewer)), tmp_path)
    assert "the catalogue holds 21 items, but 23 of them are here" in wrong["statistics_are_true"]


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(said: dict[str, Any]) -> None:
        *path, last = name.split(".")
        for each in path:
            said = said[each]
        said[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        (_set("items", "22"), "statistics_are_as_asked", "items must be a number"),
        (_set("items", bool("a truth")), "statistics_are_as_asked", "items must be a number"),
        (_set("catalog", {}), "statistics_are_as_asked", "catalog.collections must be a number"),
        (_set("area_km2", -1.0), "statistics_are_as_asked", "area_km2 must be a number of 0 or more"),
        (_set("area_km2", 10**400), "statistics_are_as_asked", "area_km2 must be a number"),
        (lambda said: said.pop("latest_capture"), "statistics_are_as_asked", "latest_capture is missing"),
        (_set("collection", None), "statistics_are_as_asked", "collection must be text"),
        (_set("latest_capture", 5), "statistics_are_as_asked", "latest_capture must be text"),
        (_set("counts", {"count_uav": 1.5}), "statistics_are_as_asked", "counts must hold only whole"),
        (_set("items", 21), "statistics_are_true", "items is 21, not 22"),
        (_set("latest_capture", "2020-01-01T00:00:00+00:00"), "statistics_are_true", "latest_capture is"),
        (_set("area_km2", 1.0), "statistics_are_true", "area_km2 is 1.0, not"),
        (_set("covered_km2", 1.0), "statistics_are_true", "not between one image's"),
        (_set("covered_km2", 1e9), "statistics_are_true", "not between one image's"),
        (
            lambda said: said.update(covered_km2=said["area_km2"]),
            "statistics_are_true",
            "but all sheets together",
        ),
        (_set("counts.count_uav", 5), "statistics_are_true", "counts is"),
        (_set("excluded.total", 0), "statistics_are_true", "excluded is"),
        (_set("watermark", "another"), "statistics_are_true", "watermark is"),
        (_set("build", "another"), "statistics_are_true", "build is 'another', not 'a build'"),
        (_set("collection", "another"), "statistics_are_true", "collection is"),
        (_set("generated_at", "2020-01-01T00:00:00+00:00"), "statistics_are_true", "generated_at is"),
        (_set("catalog.total_items", 51), "statistics_are_true", "catalog is"),
        (_set("catalog.collections", -0.0), "statistics_are_true", "catalog is"),
        (_set("items", 22.0), "statistics_are_true", "items is 22.0, not 22"),
        (
            _set("catalog.total_items", 5),
            "statistics_are_true",
            "the catalogue holds 5 items, but 23 of them",
        ),
    ],
)
def test_other_numbers_fail(
    grid: Grid, tmp_path: Path, change: Callable[[dict[str, Any]], None], check: str, said: str
) -> None:
    wrong = stated(grid)
    change(wrong)
    assert said in failures(grid, as_json(wrong), tmp_path)[check]


def test_the_covered_area_of_a_sheet_is_worked_out_again(grid: Grid, tmp_path: Path) -> None:
    """Else ten images of the same place might cover ten times as much."""
    same = [item(f"image {each}", 6.0, 6.0, 7.0, 7.0) for each in range(10)]
    grid = grid_of(same, tmp_path / "grid")
    once, wrong = stated(grid), tmp_path / "wrong.parquet"
    assert once["covered_km2"] * 10 == pytest.approx(once["area_km2"])
    assert failures(grid, as_json(once), tmp_path, {}) == {}
    rows = pl.read_parquet(grid.tables.sheets)
    rows.with_columns(covered_km2="area_km2").write_parquet(wrong)
    often = {**once, "covered_km2": once["area_km2"]}
    said = failures(grid, as_json(often), tmp_path, {}, wrong)["statistics_are_true"]
    assert f"images cover {once['covered_km2']:.3f} km² of sheet" in said
    rows.clear().write_parquet(wrong)
    none = {**once, "covered_km2": 0.0}
    assert ", not 0.0" in failures(grid, as_json(none), tmp_path, {}, wrong)["statistics_are_true"]


def test_what_is_no_json_fails(grid: Grid, tmp_path: Path) -> None:
    assert "it is not JSON" in failures(grid, b"{", tmp_path)["statistics_are_as_asked"]


@pytest.mark.parametrize(
    "outline",
    [
        [[1.0, 51.0], [9.0, 52.0], [4.0, 59.0], [1.0, 51.0]],
        [[16.925, 21.993], [19.9875, 24.201], [22.45, 27.009], [16.925, 21.993]],
    ],
    ids=["half a country", "from corner to corner of a tile"],
)
def test_one_image_with_long_sides_covers_what_it_is_large(
    outline: list[list[float]], tmp_path: Path
) -> None:
    """Its pieces, cut by tiles, add up to its area to a thousandth of a km²."""
    large = {**HARD[0], "geometry": {"type": "Polygon", "coordinates": [outline]}}
    grid = grid_of([large], tmp_path / "grid")
    assert grid.counted.covered_km2 == pytest.approx(grid.counted.area_km2, rel=0.0, abs=1e-3)
    assert failures(grid, as_json(stated(grid)), tmp_path, {}) == {}

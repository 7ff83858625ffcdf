"""The density grid takes over what the public build left behind, or says why not; runs the whole chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from oam_mosaic_assets.assets import taking_over
from oam_mosaic_assets.core.product import DENSITY, STATISTICS
from oam_mosaic_assets.core.release import TABLES
from oam_mosaic_assets_tests.chain import published_from, quick_folder, some_items

ITEMS = some_items(30)


def built(home: Path, instance: dg.DagsterInstance, items: list[Any], **environment: str) -> dict[str, Any]:
    """Build from these items, on a worker with an empty disk; returns the manifest with the statistics."""
    products = {"MOSAIC_PRODUCTS": "mosaic,density,statistics"}
    manifest, _ = published_from(items, home, instance, {"ZOOM_MAX": "8", **products, **environment})
    stated = json.loads((home / "store" / STATISTICS.name).read_bytes())
    return {**manifest, "statistics": stated, "counts": [stated["area_km2"], stated["covered_km2"]]}


def over(manifest: dict[str, Any]) -> dict[str, Any]:
    taken_over: dict[str, Any] = manifest["products"][DENSITY.name]["taken_over"]
    return taken_over


def kept(home: Path, manifest: dict[str, Any], table: str) -> Path:
    return home / f"store/mosaic/cache/{table}/{manifest['build']}.parquet"


def test_only_what_changed_is_counted_and_drawn_and_the_numbers_are_those_of_a_build_from_nothing(
    home: Path, instance: dg.DagsterInstance
) -> None:
    first = built(home, instance, ITEMS[:-1])
    second = built(home, instance, ITEMS)
    with quick_folder() as elsewhere:
        anew = built(elsewhere, instance, ITEMS)
        for table in TABLES[2:]:
            one, other = (pl.read_parquet(kept(*each, table)) for each in ((home, second), (elsewhere, anew)))
            assert one.equals(other), table

    assert over(first)["why_anew"] == "nothing is public yet"
    assert over(second)["from"] == first["build"]
    assert over(second)["images_changed"] == 1
    assert over(second)["tiles_made"] == 14
    assert over(second)["tiles_reused"] > 100
    assert second["counts"] == anew["counts"] != first["counts"]
    assert second["statistics"]["counts"] == anew["statistics"]["counts"]


def test_without_a_grid_the_statistics_count_only_what_changed(
    home: Path, instance: dg.DagsterInstance
) -> None:
    first = built(home, instance, ITEMS[:-1], MOSAIC_PRODUCTS="mosaic,statistics")
    second = built(home, instance, ITEMS, MOSAIC_PRODUCTS="mosaic,statistics")
    third = built(home, instance, ITEMS)

    assert kept(home, second, "density_sheets").exists()
    assert second["counts"] == third["counts"] != first["counts"]
    assert "was made by a different plan" in over(third)["why_anew"], (
        "there was no archive to take tiles from"
    )


def test_a_table_that_is_gone_or_not_what_it_was_is_not_taken_over(
    home: Path, instance: dg.DagsterInstance
) -> None:
    first = built(home, instance, ITEMS[:-1])
    sheets = kept(home, first, "density_sheets")
    pl.read_parquet(sheets).with_columns(pl.col("covered_km2") * 2).write_parquet(sheets)
    second = built(home, instance, ITEMS)
    kept(home, second, "density_kinds").unlink()
    third = built(home, instance, ITEMS[1:])

    assert "density_sheets" in over(second)["why_anew"]
    assert "is not what was stored there" in over(second)["why_anew"]
    assert "density_kinds" in over(third)["why_anew"]
    assert "is not in" in over(third)["why_anew"]


def test_if_most_images_changed_everything_is_counted_anew(home: Path, instance: dg.DagsterInstance) -> None:
    built(home, instance, ITEMS[:10])
    second = built(home, instance, ITEMS[10:])
    assert "images are new, gone or changed" in over(second)["why_anew"]
    assert over(second)["from"] is None


def test_another_recipe_makes_everything_anew(
    home: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(home, instance, ITEMS[:-1])
    monkeypatch.setattr(taking_over, "density_recipe", lambda: "another")
    assert "a different recipe" in over(built(home, instance, ITEMS))["why_anew"]


def test_tables_are_kept_as_long_as_their_build(home: Path, instance: dg.DagsterInstance) -> None:
    few = {"RETAIN_BUILDS": "1", "RETAIN_DAYS": "0"}
    builds = [built(home, instance, ITEMS[:count], **few) for count in (27, 28, 29)]
    for table in TABLES:
        assert [kept(home, each, table).exists() for each in builds] == [False, True, True], table

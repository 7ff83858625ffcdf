"""What the public build left behind is taken over, or the log says why not; runs the whole chain."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from oam_mosaic_assets.core.product import DETAILS, MOSAIC
from oam_mosaic_assets_tests.chain import published_from, quick_folder, some_items

ITEMS = some_items(30)

BOTH = {"MOSAIC_PRODUCTS": "mosaic,details"}


def built(home: Path, instance: dg.DagsterInstance, items: list[Any], **environment: str) -> dict[str, Any]:
    """Build from these items, on a worker with an empty disk; returns the manifest."""
    manifest, log = published_from(items, home, instance, {"ZOOM_MAX": "10", **environment})
    why = manifest["taken_over"]["why_anew"]
    assert why is None or f"all made from scratch: {why}" in log
    return manifest


def footprints_of(home: Path, manifest: dict[str, Any]) -> Path:
    return home / f"store/mosaic/cache/footprints/{manifest['build']}.parquet"


def forget_digests(home: Path, manifest: dict[str, Any]) -> None:
    """Leave the manifest that earlier versions wrote, which did not state the digests of tables."""
    path = home / f"store/mosaic/builds/{manifest['build']}/manifest.json"
    stated = json.loads(path.read_bytes())
    del stated["tables"]
    path.write_text(json.dumps(stated))


def test_only_what_changed_is_made_and_the_bytes_are_those_of_a_build_from_nothing(
    home: Path, instance: dg.DagsterInstance
) -> None:
    first = built(home, instance, ITEMS[:-1], **BOTH)
    second = built(home, instance, ITEMS, **BOTH)
    with quick_folder() as elsewhere:
        anew = built(elsewhere, instance, ITEMS, **BOTH)

    assert second["tiles_by_zoom"] == anew["tiles_by_zoom"]
    assert second["images_by_zoom"] == anew["images_by_zoom"]
    for product in (MOSAIC.name, DETAILS.name):
        was, now = (each["products"][product] for each in (first, second))
        assert was["taken_over"]["why_anew"] == "nothing is public yet"
        assert now["taken_over"]["from"] == first["build"]
        assert now["taken_over"]["images_changed"] == 1
        assert 0 < now["taken_over"]["tiles_reused"] < now["tiles"]
        assert now["sha256"] == anew["products"][product]["sha256"]
        assert "byte for byte" in now["audit"][0]["text"], "the audit knows what was taken over"


def test_another_title_makes_tiles_of_the_details_alone(home: Path, instance: dg.DagsterInstance) -> None:
    first = built(home, instance, ITEMS, **BOTH)
    entitled = ITEMS[0] | {"properties": ITEMS[0]["properties"] | {"title": "Another title"}}
    second = built(home, instance, [entitled, *ITEMS[1:]], **BOTH)
    made = {name: each["taken_over"]["tiles_made"] for name, each in second["products"].items()}

    assert made[MOSAIC.name] == 0
    assert 0 < made[DETAILS.name] < second["products"][DETAILS.name]["tiles"]
    assert second["archive"]["sha256"] != first["archive"]["sha256"], "it says which snapshot it shows"


def test_another_plan_makes_everything_anew(home: Path, instance: dg.DagsterInstance) -> None:
    built(home, instance, ITEMS)
    again = built(home, instance, ITEMS, ZOOM_MAX="9")

    assert "a different plan" in again["taken_over"]["why_anew"]
    assert again["taken_over"]["tiles_reused"] == 0


def test_what_is_gone_or_not_what_it_was_is_not_taken_over(home: Path, instance: dg.DagsterInstance) -> None:
    first = built(home, instance, ITEMS[:-1])
    kept = footprints_of(home, first)
    pl.read_parquet(kept).head(5).write_parquet(kept)
    second = built(home, instance, ITEMS)
    footprints_of(home, second).unlink()
    third = built(home, instance, ITEMS[1:])
    archive = home / "store" / third["archive"]["key"]
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    fourth = built(home, instance, ITEMS)

    assert "is not what was stored there" in second["taken_over"]["why_anew"]
    assert "is not in" in third["taken_over"]["why_anew"]
    assert "is not what was stored there" in fourth["taken_over"]["why_anew"]


def test_a_build_of_an_earlier_version_is_taken_over_if_its_rows_are_those_of_its_snapshot(
    home: Path, instance: dg.DagsterInstance
) -> None:
    first = built(home, instance, ITEMS[:-1])
    forget_digests(home, first)
    second = built(home, instance, ITEMS)
    forget_digests(home, second)
    kept = footprints_of(home, second)
    pl.read_parquet(kept).head(29).write_parquet(kept)
    third = built(home, instance, ITEMS[1:])
    forget_digests(home, third)
    spoil_schema(footprints_of(home, third))
    fourth = built(home, instance, ITEMS)

    assert second["taken_over"]["from"] == first["build"]
    assert "is not what was stored there" in third["taken_over"]["why_anew"]
    assert "is not what was stored there" in fourth["taken_over"]["why_anew"], "not even a table any more"


def spoil_schema(table: Path) -> None:
    """Damage a table so that reading it makes Polars panic, which is no `Exception`: a bad time zone does."""
    whole = table.read_bytes()
    schema = max(re.findall(rb"[A-Za-z0-9+/]+=*", whole), key=len)
    spoilt = base64.b64encode(base64.b64decode(schema).replace(b"UTC", b"UT!"))
    table.write_bytes(whole.replace(schema, spoilt))

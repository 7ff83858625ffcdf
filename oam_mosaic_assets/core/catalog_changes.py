"""Which images were added, changed and removed between two builds, so that clients need not read them all."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl
import shapely

from oam_mosaic_assets.core.density import middles_and_extents

LISTS: Final = ("added", "changed", "removed")

LISTED: Final = 50_000
"""The most images that are listed; with more changes, reading everything is no more work."""

DEGREE_DECIMALS: Final = 6


def changes_of(
    before: Path | None, now: Path, *, taken_down: Collection[str], stated: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of `changes.json`.

    A removed image that was taken down is not named: it is counted as `unnamed`, and `complete` is false.

    Args:
        before: the footprints of the build that was public before; None if there was none.
        now: the footprints of this build.
        taken_down: ids of the images that nothing may name.
        stated: what it says besides the changes: which builds it compares.
    """
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS}
    counts = dict.fromkeys((*LISTS, "unnamed"), 0)
    if before is not None:
        lists, counts = _compared(before, now, taken_down)
    complete = before is not None and not counts["unnamed"] and sum(counts.values()) <= LISTED
    if sum(counts.values()) > LISTED:
        lists = {name: [] for name in lists}
    return {**stated, "complete": complete, "counts": counts, **lists}


def named_in(document: Path) -> frozenset[str]:
    """The ids that a document names."""
    stated = json.loads(document.read_bytes())
    return frozenset(str(each["id"]) for name in LISTS for each in stated[name])


def _compared(
    before: Path, now: Path, taken_down: Collection[str]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    rows = {
        path: pl.scan_parquet(path, glob=False).select("id", "digest", "geometry") for path in (before, now)
    }
    same = ("id", "digest")
    gone = rows[before].join(rows[now], on=same, how="anti").sort("id").collect(engine="streaming")
    come = rows[now].join(rows[before], on=same, how="anti").sort("id").collect(engine="streaming")
    removed = gone.join(come, on="id", how="anti", maintain_order="left")
    is_named = ~pl.col("id").is_in(list(taken_down))
    named = removed.filter(is_named)
    was = dict(zip(gone["id"].to_list(), _boxes(gone), strict=True))
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS}
    for name, box in zip(come["id"].to_list(), _boxes(come), strict=True):
        if name in was:
            lists["changed"].append({"id": name, "bbox": box, "bbox_before": was[name]})
        else:
            lists["added"].append({"id": name, "bbox": box})
    lists["removed"] = [{"id": name, "bbox": was[name]} for name in named["id"].to_list()]
    counts = {name: len(each) for name, each in lists.items()}
    return lists, {**counts, "unnamed": len(removed) - len(named)}


def _boxes(rows: pl.DataFrame) -> list[list[float]]:
    """West, south, east, north, degrees; across the antimeridian west exceeds east, as in RFC 7946."""
    _, extent = middles_and_extents(shapely.from_wkb(rows["geometry"].to_numpy()))
    extent[:, 0] += (extent[:, 0] < -180.0) * 360.0  # noqa: PLR2004
    extent[:, 2] -= (extent[:, 2] > 180.0) * 360.0  # noqa: PLR2004
    boxes: list[list[float]] = extent.round(DEGREE_DECIMALS).tolist()
    return boxes

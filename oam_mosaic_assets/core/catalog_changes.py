"""Which images were added, changed and removed between two builds, so that clients need not read them all."""

from __future__ import annotations

import hashlib
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
    return {**stated, "complete": complete, "counts": counts, **lists}


def named_in(document: Path) -> frozenset[str]:
    """The ids that a document names."""
    stated = json.loads(document.read_bytes())
    return frozenset(str(each["id"]) for name in LISTS for each in stated[name])


def unnamed_digest(name: str) -> str:
    """What stands for the id of an image that nothing may name."""
    return hashlib.sha256(name.encode()).hexdigest()


def _compared(
    before: Path, now: Path, taken_down: Collection[str]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    same = ("id", "digest")
    was, has = (pl.scan_parquet(path, glob=False).select(*same) for path in (before, now))
    gone, come = (
        some.join(others, on=same, how="anti").select("id").collect(engine="streaming")
        for some, others in ((was, has), (has, was))
    )
    changed = come.join(gone, on="id", how="semi")
    removed = gone.join(come, on="id", how="anti")
    named = removed.filter(~pl.col("id").is_in(list(taken_down)))
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS}
    counts = {
        "added": len(come) - len(changed),
        "changed": len(changed),
        "removed": len(named),
        "unnamed": len(removed) - len(named),
    }
    if sum(counts.values()) > LISTED:  # nobody needs their extents
        return lists, counts
    lay = boxes_of(before, pl.concat([changed, named])["id"])
    for name, box in boxes_of(now, come["id"]).items():
        if name in lay:
            lists["changed"].append({"id": name, "bbox": box, "bbox_before": lay.pop(name)})
        else:
            lists["added"].append({"id": name, "bbox": box})
    lists["removed"] = [{"id": name, "bbox": box} for name, box in lay.items()]
    return lists, counts


def boxes_of(footprints: Path, images: pl.Series) -> dict[str, list[float]]:
    """The extents of images by id, sorted by it; west, south, east, north, degrees.

    Across the antimeridian west exceeds east, as in RFC 7946.

    Args:
        footprints: a table with `id` and `geometry`; images without a geometry are left out.
        images: ids.
    """
    some = pl.scan_parquet(footprints, glob=False).join(images.to_frame("id").lazy(), on="id", how="semi")
    rows = some.select("id", "geometry").drop_nulls().sort("id").collect(engine="streaming")
    _, extent = middles_and_extents(shapely.from_wkb(rows["geometry"].to_numpy()))
    extent[:, 0] += (extent[:, 0] < -180.0) * 360.0  # noqa: PLR2004
    extent[:, 2] -= (extent[:, 2] > 180.0) * 360.0  # noqa: PLR2004
    return dict(zip(rows["id"].to_list(), extent.round(DEGREE_DECIMALS).tolist(), strict=True))

"""The audit of the list of changes: applied to the images of one build, it must give those of the next."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from oam_mosaic_assets.core.audit import NAMED, Verdict, as_written
from oam_mosaic_assets.core.catalog_changes import LISTED, LISTS, boxes_of

CHANGES_CHECKS: Final[Mapping[str, str]] = {
    "changes_are_true": "Applied to images and extents of the build that they name, they give those of this.",
    "nobody_taken_down_is_named": "No image that was taken down is in the lists.",
}
"""Names of the judgements, in the order they are made, and what each says."""


def examine_changes(
    document: Path, before: Path, now: Path, *, taken_down: Collection[str], stated: Mapping[str, Any]
) -> list[Verdict]:
    """Judge the document.

    Args:
        before: `id` and `digest` of the previous build's images, both null for those that had been taken
            down, and the `geometry` of those that are named; a table without rows if there was none.
        now: the footprints of this build.
        taken_down: ids of the images that nothing may name.
        stated: what it must say besides the changes: which builds it compares.
    """
    try:
        said = json.loads(document.read_bytes())
        ids = {name: [str(each["id"]) for each in said[name]] for name in LISTS}
        counts, complete = said["counts"], said["complete"]
        unnamed, total = counts["unnamed"], sum(counts.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return [Verdict.failing("changes_are_true", f"it is not a list of changes: {error!r}")]
    named = sorted(set().union(*ids.values()) & set(taken_down))
    rows = pl.scan_parquet(before, glob=False).select(pl.len(), pl.col("id").null_count())
    images, nameless = rows.collect().row(0)
    is_first = images == 0
    expected = {name: [] for name in LISTS} if is_first else _expected(before, now)
    removed = [each for each in expected["removed"] if each not in taken_down]
    hidden = nameless + len(expected["removed"]) - len(removed)
    expected["removed"] = removed
    wrong = []
    if total <= LISTED:
        wrong = [
            f"it lists {len(ids[name])} {name}, not {len(expected[name])}"
            for name in LISTS
            if sorted(ids[name]) != expected[name]
        ]
    elif any(ids.values()):
        wrong = ["it lists changes although there are too many to list"]
    wrong += [f"it counts {counts[name]} {name}" for name in LISTS if counts[name] != len(expected[name])]
    if unnamed != hidden:
        wrong.append(f"it counts {unnamed} unnamed, not {hidden}")
    if complete != (not is_first and not hidden and total <= LISTED):
        wrong.append(f"it wrongly says complete: {complete}")
    wrong += [
        f"it says {name}: {said.get(name)}, not {value}"
        for name, value in stated.items()
        if as_written(said.get(name)) != as_written(value)
    ]
    if (said.get("since") is None) != is_first:
        wrong.append(f"it wrongly says since: {said.get('since')}")
    if not wrong and total <= LISTED:
        wrong = _misplaced(said, expected, before, now)
    text = (
        "there is no earlier build"
        if is_first
        else f"the listed changes ({total:,}) turn one build into the other"
    )
    return [
        Verdict.failing("changes_are_true", "; ".join(wrong[:NAMED]))
        if wrong
        else Verdict.passing("changes_are_true", text, **counts),
        Verdict.failing("nobody_taken_down_is_named", f"{len(named)} images that were taken down are named")
        if named
        else Verdict.passing("nobody_taken_down_is_named", "no image that was taken down is named"),
    ]


def _expected(before: Path, now: Path) -> dict[str, list[str]]:
    was, has = (pl.scan_parquet(path, glob=False).select("id", "digest") for path in (before, now))
    both = was.drop_nulls().join(has, on="id", how="full", coalesce=True, suffix="_now")
    which = {
        "added": pl.col("digest").is_null(),
        "removed": pl.col("digest_now").is_null(),
        "changed": pl.col("digest") != pl.col("digest_now"),
    }
    return {
        name: sorted(both.filter(is_it).select("id").collect(engine="streaming")["id"].to_list())
        for name, is_it in which.items()
    }


def _misplaced(
    said: Mapping[str, Any], expected: Mapping[str, list[str]], before: Path, now: Path
) -> list[str]:
    """What is wrong with entries that do not hold exactly an image's id and extents."""
    lay = boxes_of(before, pl.Series([*expected["changed"], *expected["removed"]], dtype=pl.String()))
    lie = boxes_of(now, pl.Series([*expected["added"], *expected["changed"]], dtype=pl.String()))
    boxes = {"added": {"bbox": lie}, "changed": {"bbox": lie, "bbox_before": lay}, "removed": {"bbox": lay}}
    return [
        f"{name}: {each} does not hold exactly the id and the extents of its image"
        for name in LISTS
        for each in said[name]
        if as_written(each)
        != as_written({"id": each["id"], **{of: found.get(each["id"]) for of, found in boxes[name].items()}})
    ]

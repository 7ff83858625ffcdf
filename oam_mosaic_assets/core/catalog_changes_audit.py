"""The audit of the list of changes: applied to the images of one build, it must give those of the next."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.catalog_changes import LISTED, LISTS

CHANGES_CHECKS: Final[Mapping[str, str]] = {
    "changes_are_true": "Applied to the images of the previous build, they give those of this one.",
    "nobody_taken_down_is_named": "No image that was taken down is in the lists.",
}
"""Names of the judgements, in the order they are made, and what each says."""


def examine_changes(document: Path, before: Path, now: Path, *, taken_down: Collection[str]) -> list[Verdict]:
    """Judge the document.

    Args:
        before: ids and digests of the previous build; a table without rows if there was none.
        now: the footprints of this build.
        taken_down: ids of the images that nothing may name.
    """
    try:
        stated = json.loads(document.read_bytes())
        ids = {name: [str(each["id"]) for each in stated[name]] for name in LISTS}
        boxes = [each[box] for name in LISTS for each in stated[name] for box in each.keys() - {"id"}]
        is_first, counts, complete = stated["since"] is None, stated["counts"], stated["complete"]
        unnamed, total = counts["unnamed"], sum(counts.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return [Verdict.failing("changes_are_true", f"it is not a list of changes: {error!r}")]
    named = sorted(set().union(*ids.values()) & set(taken_down))
    expected = {name: [] for name in LISTS} if is_first else _expected(before, now)
    removed = [each for each in expected["removed"] if each not in taken_down]
    hidden, expected["removed"] = len(expected["removed"]) - len(removed), removed
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
    if not all(map(_is_box, boxes)):
        wrong.append("an extent is not valid")
    said = "there is no earlier build" if is_first else f"{total:,} changes lead from one build to the other"
    return [
        Verdict.failing("changes_are_true", "; ".join(wrong))
        if wrong
        else Verdict.passing("changes_are_true", said, **counts),
        Verdict.failing("nobody_taken_down_is_named", f"{len(named)} images that were taken down are named")
        if named
        else Verdict.passing("nobody_taken_down_is_named", "no image that was taken down is named"),
    ]


def _expected(before: Path, now: Path) -> dict[str, list[str]]:
    was, has = (pl.scan_parquet(path, glob=False).select("id", "digest") for path in (before, now))
    both = was.join(has, on="id", how="full", coalesce=True, suffix="_now")
    which = {
        "added": pl.col("digest").is_null(),
        "removed": pl.col("digest_now").is_null(),
        "changed": pl.col("digest") != pl.col("digest_now"),
    }
    return {
        name: sorted(both.filter(is_it).select("id").collect(engine="streaming")["id"].to_list())
        for name, is_it in which.items()
    }


def _is_box(box: Any) -> bool:
    """Whether it is a list of west, south, east, north in degrees."""
    if not (isinstance(box, list) and [type(side) for side in box] == [float] * 4):
        return False
    west, south, east, north = box
    is_box: bool = abs(west) <= 180.0 and abs(east) <= 180.0 and -90.0 <= south <= north <= 90.0  # noqa: PLR2004
    return is_box

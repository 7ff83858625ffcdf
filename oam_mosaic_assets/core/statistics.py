"""The catalogue in numbers, for the landing page to show and for maintainers to plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from oam_mosaic_assets.core.density import kind_name

KM2_DECIMALS: Final = 3


def statistics_of(
    facts: Mapping[str, Any], kinds: Mapping[int, int], *, build: str, collection: str
) -> dict[str, Any]:
    """The content of `stats.json`. All of it describes one snapshot, and times are relative to it.

    Args:
        facts: facts about the counted footprints.
        kinds: number of images of each kind; see `core.density.kind_name`.
        build: the build's name.
        collection: the collection that is read.
    """
    snapshot, excluded = facts["snapshot"], excluded_of(facts)
    return {
        "generated_at": snapshot["taken_at"],
        "collection": collection,
        "items": facts["images"],
        "area_km2": round(facts["area_km2"], KM2_DECIMALS),
        "covered_km2": round(facts["covered_km2"], KM2_DECIMALS),
        "latest_capture": snapshot["newest"],
        "catalog": catalog_of(facts),
        "excluded": {"total": sum(excluded.values()), "by_reason": excluded},
        "counts": {kind_name(kind): count for kind, count in sorted(kinds.items())},
        "build": build,
        "watermark": snapshot["digest"],
    }


def catalog_of(facts: Mapping[str, Any]) -> dict[str, int]:
    """What the whole catalogue holds.

    Args:
        facts: facts about the footprints.
    """
    holdings = facts["holdings"]
    read = facts["images"] + sum(excluded_of(facts).values())
    total = read if holdings["items"] is None else holdings["items"]
    if not holdings["is_exact"]:  # counted after the items were read: some may have been deleted meanwhile
        total = max(total, read)
    return {"total_items": total, "collections": holdings["collections"]}


def excluded_of(facts: Mapping[str, Any]) -> dict[str, int]:
    """How many images of the catalogue are in no cell, by reason; all others are in one.

    Args:
        facts: facts about the footprints.
    """
    outside = facts["outside_test_box"]
    return {**facts["set_aside"], **({"outside_test_box": outside} if outside else {})}

"""Which images of the catalogue a build accounts for, and which it lacks, compared by id."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import polars as pl

from oam_mosaic_assets.core.footprint import NAMELESS, as_id
from oam_mosaic_assets.core.freshness import Comparison
from oam_mosaic_assets.core.geometry import TAKEN_DOWN


def known_ids(footprints: Path, set_aside: Path) -> set[str]:
    """The ids of all images that a build drew or set aside.

    Args:
        footprints: the build's GeoParquet.
        set_aside: its table of what could not be drawn.
    """
    drawn = pl.scan_parquet(footprints, glob=False).select("id").collect()["id"]
    has_id = ~pl.col("reason").is_in([*NAMELESS, TAKEN_DOWN])
    return {*drawn, *pl.read_parquet(set_aside, glob=False).filter(has_id)["id"]}


def compare_ids(
    catalogue: Iterable[object], known: set[str], *, taken_down: Collection[str] = ()
) -> Comparison:
    """Compare the catalogue with what a build accounts for.

    Args:
        catalogue: the id of each item, as it was read; an invalid one is only counted.
        known: see `known_ids`.
        taken_down: ids that no build shows; they are neither lacking nor departed.
    """
    catalogued = 0
    lacking: set[str] = set()
    departed = known.difference(taken_down)
    for value in catalogue:
        catalogued += 1
        name = as_id(value)
        if name is None:
            continue
        departed.discard(name)
        if name not in known and name not in taken_down:
            lacking.add(name)
    return Comparison(catalogued=catalogued, lacking=len(lacking), departed=len(departed))

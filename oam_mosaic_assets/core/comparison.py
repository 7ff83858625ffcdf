"""Which images of the catalogue a build answers for, and which it lacks: by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import polars as pl

from oam_mosaic_assets.core.footprint import as_id
from oam_mosaic_assets.core.freshness import Comparison

NAMELESS: Final = ("not_an_item", "no_id")
"""Reasons for being set aside whose rows have no id: they are named by where they stood."""


def known_ids(footprints: Path, set_aside: Path) -> set[str]:
    """The ids of all images that a build drew or set aside.

    Args:
        footprints: the build's GeoParquet.
        set_aside: its table of what could not be drawn.
    """
    drawn = pl.scan_parquet(footprints, glob=False).select("id").collect()["id"]
    aside = pl.read_parquet(set_aside, glob=False).filter(~pl.col("reason").is_in(NAMELESS))["id"]
    return {*drawn, *aside}


def compare_ids(catalogue: Iterable[object], known: set[str]) -> Comparison:
    """Hold the catalogue against what a build answers for.

    Args:
        catalogue: what stands as the id of each item; one that is no id is counted, and nothing else.
        known: see `known_ids`.
    """
    catalogued = 0
    lacking: set[str] = set()
    departed = set(known)
    for value in catalogue:
        catalogued += 1
        name = as_id(value)
        if name is None:
            continue
        departed.discard(name)
        if name not in known:
            lacking.add(name)
    return Comparison(catalogued=catalogued, lacking=len(lacking), departed=len(departed))

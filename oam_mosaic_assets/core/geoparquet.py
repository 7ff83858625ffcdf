"""A summary of a table of footprints, and the GeoParquet metadata made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from oam_mosaic_assets.core.drawing_order import SIDES

_KINDS: Final = {3: "Polygon", 6: "MultiPolygon"}
"""Geometry types by their number in WKB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A summary of a table of footprints.

    Attributes:
        images: how many there are.
        bounds: west, south, east, north, degrees; None if there are no images.
        newest: the latest acquisition, UTC.
        unknown: how many values could not be read, by name and reason.
        kinds: the geometry types, as GeoParquet names them.
    """

    images: int
    bounds: tuple[float, float, float, float] | None
    newest: datetime | None
    unknown: Mapping[str, int]
    kinds: Sequence[str]


def reach_of(rows: pl.LazyFrame) -> Reach:
    """Summarise a table of footprints, a batch at a time."""
    sides = [pl.col("bbox").struct.field(side) for side in SIDES]
    counted = pl.len().alias("images"), pl.col("acquired_to").max()
    extent = sides[0].min(), sides[1].min(), sides[2].max(), sides[3].max()
    # the head of the WKB: byte order and geometry type
    heads = pl.col("geometry").bin.head(5).unique().implode()
    found = rows.select(*counted, *extent, heads).collect(engine="streaming").row(0, named=True)
    flaws = rows.select(pl.col("unknown").explode(empty_as_null=False).value_counts(sort=True))
    by_flaw = flaws.unnest("unknown").collect(engine="streaming").rows()
    return Reach(
        images=found["images"],
        bounds=tuple(found[side] for side in SIDES) if found["images"] else None,
        newest=found["acquired_to"],
        unknown=dict(sorted(by_flaw)),
        kinds=sorted(_KINDS[head[1]] for head in found["geometry"]),
    )


def geo_metadata(reach: Reach) -> str:
    """GeoParquet 1.1 file metadata. Omitting `crs` means OGC:CRS84: EPSG:4326, longitude first."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": reach.kinds,
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {side: ["bbox", side] for side in SIDES}},
    }
    if reach.bounds is not None:
        column["bbox"] = reach.bounds
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}})

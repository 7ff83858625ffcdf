"""The audit of the statistics, against what the landing page expects and what the footprints say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import shapely

from oam_mosaic_assets.core.audit import NAMED, Verdict
from oam_mosaic_assets.core.density import COLUMNS, KIND_COLUMNS, kind_name, placed
from oam_mosaic_assets.core.ground import areas_km2
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.statistics import KM2_DECIMALS

STATISTICS_CHECKS: Final[Mapping[str, str]] = {
    "statistics_are_as_asked": "Every number that the contract names is there, and is a number.",
    "statistics_are_true": "Images, areas, kinds and the latest capture match the footprints.",
}
"""Names of the judgements, in the order they are made, and what each says."""

_NUMBERS: Final = (
    ("items",),
    ("area_km2",),
    ("covered_km2",),
    ("catalog", "total_items"),
    ("catalog", "collections"),
    ("excluded", "total"),
)
_TEXTS: Final = (("generated_at",), ("collection",), ("build",), ("watermark",))
_TOO_MUCH: Final = 2**63
_CLOSE: Final = 10.0**-KM2_DECIMALS
_NEARLY: Final = 1e-6
"""Relative tolerance of areas: the pieces of an area cut into tiles add up to it to some seven digits."""


def examine_statistics(
    document: Path, footprints: Path, *, taken_at: str, snapshot: str, excluded: Mapping[str, int]
) -> list[Verdict]:
    """Judge the document against the footprints that it describes.

    Args:
        taken_at: when the snapshot was taken, ISO 8601.
        snapshot: the digest of the snapshot.
        excluded: number of images of the catalogue without a footprint here, by reason.
    """
    try:
        stated = json.loads(document.read_bytes())
        flaws = [*_flaws(stated)]
    except (ValueError, RecursionError) as error:
        return [Verdict.failing("statistics_are_as_asked", f"it is not JSON: {error}")]
    if flaws:
        return [Verdict.failing("statistics_are_as_asked", "; ".join(flaws[:NAMED]))]
    expected = _expected(footprints, datetime.fromisoformat(taken_at))
    expected |= {"generated_at": taken_at, "watermark": snapshot}
    expected["excluded"] = {"total": sum(excluded.values()), "by_reason": dict(excluded)}
    largest, area = expected.pop("largest"), expected.pop("area_km2")
    wrong = [
        f"{name} is {stated[name]!r}, not {value!r}"
        for name, value in expected.items()
        if stated[name] != value
    ]
    if not math.isclose(stated["area_km2"], area, rel_tol=1e-9, abs_tol=_CLOSE):
        wrong.append(f"area_km2 is {stated['area_km2']}, not {area}")
    slack = _CLOSE + _NEARLY * area
    if not largest - slack <= stated["covered_km2"] <= area + slack:
        wrong.append(
            f"covered_km2 is {stated['covered_km2']}, not between one image's {largest} and all {area}"
        )
    read = stated["items"] + stated["excluded"]["total"]
    if stated["catalog"]["total_items"] < read:
        wrong.append(
            f"the catalogue holds {stated['catalog']['total_items']} items, but {read} of them are here"
        )
    return [
        Verdict.passing("statistics_are_as_asked", "every number is there, and is a number"),
        Verdict.failing("statistics_are_true", "; ".join(wrong[:NAMED]))
        if wrong
        else Verdict.passing("statistics_are_true", f"all numbers match the {stated['items']:,} footprints"),
    ]


def _flaws(stated: Any) -> list[str]:
    flaws = [
        f"{'.'.join(path)} must be a number of 0 or more"
        for path in _NUMBERS
        if isinstance(found := _at(stated, path), bool)
        or not isinstance(found, int | float)
        or not 0 <= found < _TOO_MUCH
    ]
    flaws += [f"{'.'.join(path)} must be text" for path in _TEXTS if not isinstance(_at(stated, path), str)]
    if not flaws and "latest_capture" not in stated:
        flaws.append("latest_capture is missing")
    latest = _at(stated, ("latest_capture",))
    if latest is not None and not isinstance(latest, str):
        flaws.append("latest_capture must be text")
    counts = _at(stated, ("counts",))
    if not isinstance(counts, dict) or not all(type(each) is int for each in counts.values()):
        flaws.append("counts must hold only whole numbers")
    return flaws


def _at(stated: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        stated = stated.get(name) if isinstance(stated, dict) else None
    return stated


def _expected(footprints: Path, taken_at: datetime) -> dict[str, Any]:
    items, area, largest = 0, 0.0, 0.0
    latest = pl.DataFrame(schema={"acquired_to": pl.Datetime("us", "UTC")})
    counts: dict[int, int] = {}
    for batch in read_batches(footprints, COLUMNS):
        areas = shapely.from_wkb(batch["geometry"].to_numpy())
        square = areas_km2(areas)
        items, area, largest = (
            items + len(batch),
            area + float(square.sum()),
            max(largest, float(square.max())),
        )
        latest = pl.concat([latest, batch.select(pl.max("acquired_to"))])
        images = placed(batch, areas, taken_at=taken_at)
        for column in KIND_COLUMNS:
            for kind, count in images[column].drop_nulls().value_counts().iter_rows():
                counts[kind] = counts.get(kind, 0) + count
    newest = latest["acquired_to"].max()
    return {
        "items": items,
        "area_km2": area,
        "largest": largest,
        "latest_capture": newest.isoformat() if isinstance(newest, datetime) else None,
        "counts": {kind_name(kind): counts[kind] for kind in sorted(counts)},
    }

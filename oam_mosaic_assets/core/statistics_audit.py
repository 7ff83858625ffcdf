"""The audit of the statistics, against what the landing page expects and what the footprints say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import shapely

from oam_mosaic_assets.core.audit import NAMED, Verdict, as_written
from oam_mosaic_assets.core.density import COLUMNS, KIND_COLUMNS, kind_name, placed
from oam_mosaic_assets.core.density_spool import BELOW
from oam_mosaic_assets.core.ground import SHEET_ZOOM, SHEETS, Numbers, areas_km2, cells_km2, sheets_near
from oam_mosaic_assets.core.ground_audit import FEW, covered_again
from oam_mosaic_assets.core.placement import chosen_by_digest
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.statistics import KM2_DECIMALS

STATISTICS_CHECKS: Final[Mapping[str, str]] = {
    "statistics_are_as_asked": "Every number that the contract names is there, and is a number.",
    "statistics_are_true": "All numbers match the footprints; the covered area, in a few places.",
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
"""Relative tolerance of areas: more than rounding costs where areas are cut into tiles and dissolved."""

LOOKED_AT: Final = 8
"""Sheets whose covered area is worked out again; chosen by digest."""


def examine_statistics(
    document: Path,
    footprints: Path,
    sheets: Path,
    *,
    taken_at: str,
    stated: Mapping[str, Any],
    excluded: Mapping[str, int],
) -> list[Verdict]:
    """Judge the document against the footprints that it describes.

    Args:
        document: the statistics.
        footprints: the GeoParquet.
        sheets: the table that the covered area is the sum of; see `density_tables.SHEETS_SCHEMA`.
        taken_at: when the snapshot was taken, ISO 8601.
        stated: what it must say besides that: `build`, `watermark`, `collection` and `catalog`.
        excluded: number of images of the catalogue without a footprint here, by reason.
    """
    try:
        said = json.loads(document.read_bytes())
        flaws = [*_flaws(said)]
    except (ValueError, RecursionError) as error:
        return [Verdict.failing("statistics_are_as_asked", f"it is not JSON: {error}")]
    if flaws:
        return [Verdict.failing("statistics_are_as_asked", "; ".join(flaws[:NAMED]))]
    expected = _expected(footprints, datetime.fromisoformat(taken_at))
    expected |= {"generated_at": taken_at, **stated}
    expected["excluded"] = {"total": sum(excluded.values()), "by_reason": dict(excluded)}
    largest, area, few = (expected.pop(name) for name in ("largest", "area_km2", "few"))
    wrong = [
        f"{name} is {said[name]!r}, not {value!r}"
        for name, value in expected.items()
        if as_written(said[name]) != as_written(value)
    ]
    if not math.isclose(said["area_km2"], area, rel_tol=1e-9, abs_tol=_CLOSE):
        wrong.append(f"area_km2 is {said['area_km2']}, not {area}")
    slack = _CLOSE + _NEARLY * area
    if not largest - slack <= said["covered_km2"] <= area + slack:
        wrong.append(
            f"covered_km2 is {said['covered_km2']}, not between one image's {largest} and all {area}"
        )
    wrong += _covered_otherwise(said["covered_km2"], sheets, footprints, _chosen(few, stated["watermark"]))
    total, read = said["catalog"]["total_items"], said["items"] + said["excluded"]["total"]
    if total < read:
        wrong.append(f"the catalogue holds {total} items, but {read} of them are here")
    return [
        Verdict.passing("statistics_are_as_asked", "every number is there, and is a number"),
        Verdict.failing("statistics_are_true", "; ".join(wrong[:NAMED]))
        if wrong
        else Verdict.passing("statistics_are_true", f"all numbers match the {said['items']:,} footprints"),
    ]


def _covered_otherwise(covered_km2: float, sheets: Path, footprints: Path, chosen: Numbers) -> Iterator[str]:
    """Whether the covered area is not the sum of that of all sheets, or that of these sheets is wrong."""
    table = pl.read_parquet(sheets, glob=False)
    total = math.fsum(table["covered_km2"])
    if not math.isclose(covered_km2, total, rel_tol=1e-9, abs_tol=_CLOSE):
        yield f"covered_km2 is {covered_km2}, but all sheets together have {total}"
    said = np.zeros(SHEETS)
    said[table["sheet"].to_numpy()] = table["covered_km2"].to_numpy()
    found = covered_again(footprints, np.full(len(chosen), SHEET_ZOOM), chosen)
    found *= cells_km2(chosen, SHEET_ZOOM)
    differs = np.abs(said[chosen] - found) > _CLOSE + _NEARLY * found
    for sheet, area in zip(chosen[differs].tolist(), found[differs].tolist(), strict=True):
        yield f"images cover {area:.{KM2_DECIMALS}f} km² of sheet {sheet}, not {said[sheet]}"


def _chosen(sheets: Numbers, snapshot: str) -> Numbers:
    some: Numbers = sheets[chosen_by_digest(map(str, sheets.tolist()), snapshot, LOOKED_AT)]
    return some


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
    reached, of_sheet = np.zeros(SHEETS, np.bool_), np.zeros(SHEETS, np.int64)
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
        reached[sheets_near(areas)] = True
        of_sheet += np.bincount(images["cell"].to_numpy() >> BELOW, minlength=SHEETS)
        for column in KIND_COLUMNS:
            for kind, count in images[column].drop_nulls().value_counts().iter_rows():
                counts[kind] = counts.get(kind, 0) + count
    newest = latest["acquired_to"].max()
    return {
        "items": items,
        "area_km2": area,
        "largest": largest,
        "few": np.flatnonzero(reached & (of_sheet <= FEW)),
        "latest_capture": newest.isoformat() if isinstance(newest, datetime) else None,
        "counts": {kind_name(kind): counts[kind] for kind in sorted(counts)},
    }

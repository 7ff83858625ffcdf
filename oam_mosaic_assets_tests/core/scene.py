"""A small world of footprints, and the mosaic that the real tippecanoe makes from it.

- `DIFFICULT`: areas at the edges of tiles and of the map, or smaller than a tile can show.
- `made_from`: makes a snapshot, GeoJSON and an archive from footprints, as the assets do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.footprint import Footprint, SetAside
from oam_mosaic_assets.core.geometry import drawable
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.snapshot import Snapshot, write_geojson, write_snapshot
from oam_mosaic_assets.core.splice import Before, Splice, splice_from
from oam_mosaic_assets.core.tiling import EXTENT, TilingPlan
from oam_mosaic_assets.gateways.mosaic_tiles import Footprints, Made, make_mosaic
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe

NOW: Final = datetime(2026, 1, 15, 3, tzinfo=UTC)

PLAN: Final = TilingPlan(zoom_max=10)

TILE: Final = 360.0 / 2**PLAN.zoom_max
"""Width of a tile at the last zoom in degrees of longitude; at the equator, also its height in degrees."""

UNIT: Final = TILE / EXTENT
"""One tile unit at the last zoom, in degrees of longitude."""


def footprint(name: str, west: float, south: float, east: float, north: float, **known: Any) -> Footprint:
    """A footprint that is a box; longitudes may exceed 180."""
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return Footprint(id=name, geometry=drawable({"type": "Polygon", "coordinates": [ring]}), **known)


PLAIN: Final = tuple(
    footprint(name, west, south, west + 0.4, south + 0.3, acquired_to=NOW - timedelta(days=age))
    for name, west, south, age in (
        ("a field", 10.0, 10.0, 1),
        ("a town", 10.2, 10.1, 2),
        ("a river", 10.1, 10.2, 3),
        ("a hill", 30.0, -20.0, 4),
        ("a lake", -60.0, 45.0, 5),
    )
)
"""Ordinary images; the first three overlap."""

DIFFICULT: Final = (
    footprint("across the antimeridian", 179.9, -17.0, 180.1, -16.8),
    footprint("up to the antimeridian", 179.9, 5.0, 180.0, 5.1),
    footprint("from the antimeridian on", -180.0, 7.0, -179.9, 7.1),
    footprint("a thread at the antimeridian", 180.0 - UNIT / 3, 12.0, 180.0, 12.1),
    footprint("a thread beyond the antimeridian", -180.0, 14.0, UNIT / 3 - 180.0, 14.1),
    footprint("a dot at the antimeridian", 180.0 - UNIT / 3, 30.0, 180.0, 30.0 + UNIT / 3),
    footprint("a dot across the antimeridian", 180.0 - UNIT / 3, 32.0, 180.0 + UNIT / 3, 32.0 + UNIT / 3),
    footprint("in the buffer at the antimeridian", 180.0 - TILE / 80, 35.0, 180.0 - TILE / 100, 35.02),
    footprint("over the northern edge", 20.0, 84.9, 20.2, 85.2),
    footprint("a thread at the northern edge", 22.0, 85.0511287, 22.2, 85.2),
    footprint("over the southern edge", 20.0, -85.2, 20.2, -84.9),
    footprint("a thread at the southern edge", 22.0, -85.2, 22.2, -85.0511287),
    footprint("in the corner of the map", 179.99, 85.04, 180.0, 86.0),
    footprint("a dot in the corner of the map", 180.0 - UNIT / 3, 85.05112, 180.0, 86.0),
    footprint("a dot", 1.23, 1.23, 1.23 + UNIT / 5, 1.23 + UNIT / 5),
    footprint("a thread from west to east", 3.0, 3.0, 4.0, 3.0 + UNIT / 7),
    footprint("a thread from south to north", 5.0, 3.0, 5.0 + UNIT / 7, 4.0),
    footprint("three tiles exactly", 2 * TILE, 0.0, 5 * TILE, TILE / 1.5),
    footprint("from the edge of a tile on", 10 * TILE, 40.0, 10.3 * TILE, 40.0 + TILE / 3),
    footprint("a dot on the corner of four tiles", 20 * TILE, 0.0, 20 * TILE + UNIT / 3, UNIT / 3),
    footprint("from the edge of a buffer on", 30 * TILE + TILE * 5 / 256, 0.3, 30.5 * TILE, 0.35),
    footprint("over the equator", 50.0, -0.1, 50.1, 0.1),
    footprint("over Greenwich", -0.05, 51.0, 0.05, 51.1),
)

SLANTED: Final = Footprint(
    id="a spike and a hole",
    geometry=drawable(
        {
            "type": "Polygon",
            "coordinates": [
                [[70, 10], [71, 10.2], [70.8, 11], [72.5, 12.5], [70.8, 11.0000001], [70.1, 10.9], [70, 10]],
                [[70.3, 10.3], [70.6, 10.3], [70.6, 10.6], [70.3, 10.6], [70.3, 10.3]],
            ],
        }
    ),
)

IMAGES: Final = (*PLAIN, *DIFFICULT, SLANTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A mosaic and what it was made from."""

    folder: Path
    plan: TilingPlan
    snapshot: Snapshot
    footprints: Path
    set_aside: Path
    geojson: Path
    archive: Path
    splice: Splice | str
    made: Made

    @property
    def changed(self) -> int | None:
        """How many images changed; None if everything was made from scratch."""
        return self.splice.changed if isinstance(self.splice, Splice) else None

    @property
    def before(self) -> Before:
        """The mosaic, for a later one to take tiles over from."""
        return Before(build="before", archive=self.archive, footprints=self.footprints)


def snapshot_of(rows: Iterable[Footprint | SetAside], folder: Path, **options: Any) -> Snapshot:
    """Write `footprints.parquet` and `set_aside.parquet` into a folder, created if missing."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    return write_snapshot(
        rows,
        taken_at=NOW,
        footprints=folder / "footprints.parquet",
        set_aside=folder / "set_aside.parquet",
        scratch=scratch,
        **options,
    )


def made_from(
    rows: Iterable[Footprint | SetAside],
    folder: Path,
    *,
    plan: TilingPlan = PLAN,
    before: Before | str = "a test wants it",
    metadata: Mapping[str, Any] | None = None,
    processes: int = 1,
) -> Scene:
    """Make a mosaic as the assets do.

    Args:
        folder: a new one.
        before: what to take over, or why nothing is.
        processes: how many of tippecanoe run at once.
        metadata: wrong values to put into the archive's metadata.
    """
    snapshot = snapshot_of(rows, folder)
    footprints, geojson = folder / "footprints.parquet", folder / "footprints.geojsonl"
    archive = folder / "mosaic.pmtiles"
    splice = splice_from(before, footprints, plan)
    some = splice if isinstance(splice, Splice) else None
    write_geojson(footprints, geojson, plan=plan, images=some.images if some else None)
    assert snapshot.bounds is not None
    shown = Footprints(table=footprints, geojson=geojson, snapshot=snapshot.digest, bounds=snapshot.bounds)
    taken = before.archive if isinstance(before, Before) and some else None
    made = make_mosaic(Tippecanoe(), plan, shown, archive, splice=some, before=taken, processes=processes)
    if metadata:
        _describe(archive, plan, snapshot, metadata)
    return Scene(
        folder=folder,
        plan=plan,
        snapshot=snapshot,
        footprints=footprints,
        set_aside=folder / "set_aside.parquet",
        geojson=geojson,
        archive=archive,
        splice=splice,
        made=made,
    )


def _describe(archive: Path, plan: TilingPlan, snapshot: Snapshot, metadata: Mapping[str, Any]) -> None:
    """Replace values in an archive's metadata."""
    right = archive.rename(archive.with_suffix(".right"))
    with open_archive(right) as opened:
        assert snapshot.bounds is not None
        place = Place(zoom_min=plan.zoom_min, zoom_max=plan.zoom_max, bounds=snapshot.bounds)
        write_archive(archive, [Source.of_archive(opened)], place, {**opened.metadata, **metadata})
    right.unlink()

"""Coverage archives as tests make and read them, and what other programs say they should contain.

- `covered`: makes a snapshot and an archive from footprints, as the assets do.
- `bits_of`: every tile of an archive, read by the library `pmtiles` and decoded by Pillow.
- `true_bits`: the pixels that areas overlap, each decided by GEOS.
- `gdal_bits`: the same pixels as GDAL burns them, projected by PROJ.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from pmtiles.reader import MmapSource, all_tiles
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform

from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.coverage_audit import examine_coverage
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.grid import project
from oam_mosaic_assets.core.snapshot import Snapshot
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.coverage import Drawn, Shown, make_coverage
from oam_mosaic_assets_tests.core.scene import snapshot_of

Bits = NDArray[np.bool_]
Tile = tuple[int, int, int]
"""Zoom, column, row."""

WORLD = 20037508.342789244
"""Half the side of the Web Mercator square, in metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """An archive and what it was made from."""

    plan: CoveragePlan
    snapshot: Snapshot
    footprints: Path
    archive: Path
    made: Drawn

    @property
    def before(self) -> Before:
        """The archive, for a later one to take tiles over from."""
        return Before(build="before", archive=self.archive, footprints=self.footprints)


def covered(
    rows: Iterable[Footprint],
    folder: Path,
    plan: CoveragePlan,
    *,
    before: Before | str = "a test wants it",
    **options: Any,
) -> Covered:
    """Make an archive in a new folder, as the assets do."""
    snapshot = snapshot_of(rows, folder)
    assert snapshot.bounds is not None
    footprints, archive = folder / "footprints.parquet", folder / "coverage.pmtiles"
    shown = Shown(table=footprints, snapshot=snapshot.digest, bounds=snapshot.bounds)
    made = make_coverage(plan, shown, archive, before=before, **options)
    return Covered(plan=plan, snapshot=snapshot, footprints=footprints, archive=archive, made=made)


def judged(
    made: Covered,
    archive: Path | None = None,
    *,
    before: Before | None = None,
    plan: CoveragePlan | None = None,
) -> list[Verdict]:
    """The verdicts of the audit; other arguments than its own for what is wrong on purpose."""
    assert made.snapshot.bounds is not None
    return examine_coverage(
        archive or made.archive,
        made.footprints,
        plan or made.plan,
        snapshot=made.snapshot.digest,
        extent=made.snapshot.bounds,
        before=before,
    )


def bits_of(archive: Path) -> dict[Tile, Bits]:
    """Which pixels each tile covers: rows from north to south."""
    found, pictures = {}, dict[bytes, Bits]()
    with archive.open("rb") as file:
        for tile, content in all_tiles(MmapSource(file)):  # type: ignore[no-untyped-call]  # pmtiles has none
            if content not in pictures:
                with Image.open(io.BytesIO(content)) as picture:
                    pictures[content] = np.asarray(picture.convert("RGBA"))[:, :, 3] > 0
            found[tile] = pictures[content]
    return found


def pixels_of(tiles: dict[Tile, Bits], zoom: int) -> set[tuple[int, int]]:
    """Column and row of every pixel that is covered at a zoom."""
    found: set[tuple[int, int]] = set()
    for (z, x, y), bits in tiles.items():
        if z == zoom:
            row, column = np.nonzero(bits)
            size = len(bits)
            found.update(zip((column + x * size).tolist(), (row + y * size).tolist(), strict=True))
    return found


def true_bits(areas: Sequence[shapely.Geometry], side: int) -> tuple[set[Any], set[Any]]:
    """The pixels that areas overlap by more than rounding error, and all that they touch within that error.

    Args:
        areas: in EPSG:4326.
        side: of the map, in pixels.
    """
    inside, near = set(), set()
    for area in project(np.array(areas, dtype=object), 0):
        for part in shapely.get_parts(shapely.transform(area, lambda points: points * side)):
            west, north, east, south = shapely.bounds(part)
            x, y = np.meshgrid(
                np.arange(max(0, int(west) - 1), min(side, int(east) + 2)),
                np.arange(max(0, int(north) - 1), min(side, int(south) + 2)),
            )
            x, y = x.ravel(), y.ravel()
            shapely.prepare(part)
            slack = side * 1e-14 + 1e-9
            for found, margin in ((inside, -slack), (near, slack)):
                boxes = shapely.box(x - margin, y - margin, x + 1 + margin, y + 1 + margin)
                hit = shapely.intersects(part, boxes)
                found.update(zip(x[hit].tolist(), y[hit].tolist(), strict=True))
    return inside, near


def gdal_bits(areas: Sequence[shapely.Geometry], zoom: int, pixels: int, window: tuple[int, ...]) -> Bits:
    """The pixels that GDAL burns for areas with `all_touched`, in a window of the map at a zoom.

    Args:
        areas: in EPSG:4326.
        zoom: of the map.
        pixels: along a tile's edge.
        window: west, north, east, south, in tiles.
    """
    west, north, east, south = window
    size = 2 * WORLD / (pixels << zoom)
    corner = Affine(size, 0, west * pixels * size - WORLD, 0, -size, WORLD - north * pixels * size)

    def in_metres(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transform("EPSG:4326", "EPSG:3857", *lonlat.T))

    shape = ((south - north) * pixels, (east - west) * pixels)
    burnt = rasterize(
        [shapely.transform(each, in_metres) for each in areas],
        out_shape=shape,
        transform=corner,
        all_touched=True,
        dtype="uint8",
    )
    return burnt.astype(np.bool_)

"""The density grid of a snapshot as two tables: its cells, and how many images of each kind they hold.

Both stand in the order of zooms, then of cells. What is held in memory is some 500 bytes an image and
what `core.ground` holds; the rest goes by way of files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import shapely

from oam_mosaic_assets.core.density import COLUMNS, DEEPEST, FINER, ZOOM_MAX, cells_by_zoom, no_images, placed
from oam_mosaic_assets.core.ground import (
    SHEET_ZOOM,
    Ground,
    Numbers,
    areas_km2,
    cells_km2,
    covered_km2,
    shares_below,
)
from oam_mosaic_assets.core.snapshot import read_batches

DECIMALS: Final = 4
"""Of a covered share."""

CELLS: Final = {
    "zoom": pl.UInt8(),
    "cell": pl.Int64(),
    "count": pl.UInt32(),
    "west": pl.Float64(),
    "south": pl.Float64(),
    "east": pl.Float64(),
    "north": pl.Float64(),
    "newest": pl.Datetime("us", "UTC"),
    "covered": pl.Float64(),
}
"""One row a cell: display zoom, place along the Hilbert curve, images, their extent in degrees (which reaches
beyond 180 where they cross the antimeridian), the newest acquisition, the share that images cover."""

KINDS: Final = {"zoom": pl.UInt8(), "cell": pl.Int64(), "kind": pl.UInt16(), "count": pl.UInt32()}
"""One row a cell and kind that it holds images of; see `core.density.kind_name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was counted.

    Attributes:
        images: all of them; at each zoom the cells' counts add up to it.
        cells: how many, at all zooms.
        area_km2: the images' areas, added up.
        covered_km2: what they cover, each place once.
    """

    images: int
    cells: int
    area_km2: float
    covered_km2: float


def write_density(
    footprints: Path, *, cells: Path, kinds: Path, taken_at: datetime, scratch: Path
) -> Counted:
    """Count the footprints of a snapshot.

    Args:
        footprints: the GeoParquet.
        cells: where the table of cells goes.
        kinds: where the table of kinds goes.
        taken_at: the moment of the snapshot, UTC.
        scratch: an empty folder.
    """
    area, images = 0.0, [no_images()]
    with Ground(scratch / "ground.sqlite") as ground:
        for batch in read_batches(footprints, COLUMNS):
            areas = shapely.from_wkb(batch["geometry"].to_numpy())
            images.append(placed(batch, areas, taken_at=taken_at))
            ground.add(areas)
            area += float(areas_km2(areas).sum())
        counted = pl.concat(images, rechunk=True)
        images.clear()
        total = 0
        for zoom, of_zoom, by_kind in cells_by_zoom(counted):
            of_zoom.write_parquet(scratch / f"cells-{zoom:02}.parquet")
            by_kind.write_parquet(scratch / f"kinds-{zoom:02}.parquet")
            np.save(_numbers(scratch, zoom), of_zoom["cell"].to_numpy())
            total += len(of_zoom)
        covered = _write_shares(ground, scratch)
    for zoom in range(ZOOM_MAX + 1):
        number = pl.lit(zoom).alias("zoom")
        share = np.load(_shares(scratch, zoom), mmap_mode="r")
        of_zoom = pl.read_parquet(scratch / f"cells-{zoom:02}.parquet", glob=False)
        whole = of_zoom.with_columns(number, pl.Series("covered", np.round(share, DECIMALS)))
        by_kind = pl.read_parquet(scratch / f"kinds-{zoom:02}.parquet", glob=False).with_columns(number)
        for name, table, schema in (("cells", whole, CELLS), ("kinds", by_kind, KINDS)):
            ordered = table.select(schema.keys()).cast(pl.Schema(schema))
            ordered.write_parquet(scratch / f"whole-{name}-{zoom:02}.parquet")
    for name, target in (("cells", cells), ("kinds", kinds)):
        parts = [scratch / f"whole-{name}-{zoom:02}.parquet" for zoom in range(ZOOM_MAX + 1)]
        pl.scan_parquet(parts, glob=False).sink_parquet(target, engine="streaming")
    return Counted(images=len(counted), cells=total, area_km2=area, covered_km2=covered)


def _write_shares(ground: Ground, scratch: Path) -> float:
    """Write the share of each cell that is covered, a file a zoom; returns the covered square kilometres."""
    cells = [np.load(_numbers(scratch, zoom), mmap_mode="r") for zoom in range(ZOOM_MAX + 1)]
    shares = [
        np.lib.format.open_memmap(_shares(scratch, zoom), mode="w+", dtype=np.float64, shape=each.shape)
        for zoom, each in enumerate(cells)
    ]

    def wanted(zoom: int, first: int, last: int) -> Numbers:
        found: Numbers = cells[zoom - FINER]
        start, stop = np.searchsorted(found, [first, last])
        return found[start:stop]

    covered: dict[int, float] = {}
    for sheets in ground.sheets():
        covered |= covered_km2(sheets)
        for zoom, some, share in shares_below(sheets, wanted, DEEPEST):
            start = int(np.searchsorted(cells[zoom - FINER], some[0])) if len(some) else 0
            shares[zoom - FINER][start : start + len(some)] = share
    sheet, area = np.array([*covered], np.int64), np.array([*covered.values()])
    for zoom in range(FINER, SHEET_ZOOM):  # cells that are larger than a sheet
        of_zoom = cells[zoom - FINER]
        held = np.searchsorted(of_zoom, sheet >> 2 * (SHEET_ZOOM - zoom))
        counted = held < len(of_zoom)
        counted[counted] = of_zoom[held[counted]] == sheet[counted] >> 2 * (SHEET_ZOOM - zoom)
        sums = np.bincount(held[counted], area[counted], minlength=len(of_zoom))
        shares[zoom - FINER][:] = np.minimum(sums / cells_km2(of_zoom, zoom), 1.0)
    return float(area.sum())


def _numbers(scratch: Path, zoom: int) -> Path:
    return scratch / f"cells-{zoom:02}.npy"


def _shares(scratch: Path, zoom: int) -> Path:
    return scratch / f"shares-{zoom:02}.npy"

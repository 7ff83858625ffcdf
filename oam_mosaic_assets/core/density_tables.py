"""The density grid of a snapshot as tables: cells, how many images of each kind they hold, and sheets.

Cells and kinds are ordered by zoom, then by cell. A cell no larger than a sheet of `core.ground` lies within
one, so sheets are counted one after another; larger cells are summed from the cells that are the sheets.
Memory holds one dense sheet, or a few sparse ones, at a time; the rest is spooled to files.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.density import (
    COLUMNS,
    DEEPEST,
    FINER,
    ZOOM_MAX,
    cells_above,
    cells_by_zoom,
    placed,
    smallest_cells,
)
from oam_mosaic_assets.core.density_spool import BELOW, PlacedImages
from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.ground import (
    SHEET_ZOOM,
    SHEETS,
    Ground,
    Numbers,
    Shares,
    are_near,
    areas_km2,
    cells_km2,
    covered_km2,
    shares_below,
)
from oam_mosaic_assets.core.snapshot import read_batches

DECIMALS: Final = 4
"""Decimals of a covered share."""

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
"""One row per cell: display zoom, position along the Hilbert curve, number of images, their extent in degrees
(beyond +-180 if they cross the antimeridian), the newest acquisition, the share that images cover."""

KINDS: Final = {"zoom": pl.UInt8(), "cell": pl.Int64(), "kind": pl.UInt16(), "count": pl.UInt32()}
"""One row per cell and kind of image in it; see `core.density.kind_name`."""


SHEETS_SCHEMA: Final = {"sheet": pl.Int64(), "area_km2": pl.Float64(), "covered_km2": pl.Float64()}
"""One row per sheet: the summed areas of the images that count in it, and how much of it is covered."""

_OF_SHEETS: Final = SHEET_ZOOM - FINER
"""The display zoom whose cells are the sheets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityTables:
    """The files with the tables of a snapshot.

    Attributes:
        cells: see `CELLS`.
        kinds: see `KINDS`.
        sheets: see `SHEETS_SCHEMA`.
    """

    cells: Path
    kinds: Path
    sheets: Path

    @classmethod
    def within(cls, folder: Path, before: str = "") -> Self:
        """The files in a folder.

        Args:
            before: prefix of their names.
        """
        return cls(**{each.name: folder / f"{before}density_{each.name}.parquet" for each in fields(cls)})

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """All three files."""
        return self.cells, self.kinds, self.sheets


@dataclass(frozen=True, slots=True, eq=False)
class TakenOver:
    """Earlier tables, whose unchanged sheets need not be counted again.

    Attributes:
        tables: of an earlier snapshot, made by the same recipe.
        changed: for each sheet, whether it changed since.
    """

    tables: DensityTables
    changed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The totals of a count.

    Attributes:
        images: number of images; the cells' counts add up to it at each zoom.
        cells: number of cells at all zooms together.
        area_km2: sum of the images' areas.
        covered_km2: the area that they cover, overlaps counted once.
    """

    images: int
    cells: int
    area_km2: float
    covered_km2: float


def write_density(
    footprints: Path,
    tables: DensityTables,
    *,
    taken_at: datetime,
    scratch: Path,
    taken_over: TakenOver | None = None,
) -> Counted:
    """Count the footprints of a snapshot. The tables are the same whether or not anything is taken over.

    Args:
        footprints: the GeoParquet.
        tables: the files to write.
        taken_at: the moment of the snapshot, UTC.
        scratch: an empty folder.
        taken_over: only its changed sheets are counted, the others are copied; None counts all.
    """
    wanted = np.ones(SHEETS, np.bool_) if taken_over is None else taken_over.changed
    made, images = _Tables(scratch), PlacedImages(scratch)
    area, covered = np.zeros((2, SHEETS))
    with Ground(scratch / "ground.sqlite") as ground:
        for rows, areas in _near(footprints, wanted):
            here = placed(rows, areas, taken_at=taken_at)
            sheet = here["cell"].to_numpy() >> BELOW
            images.add(here.filter(wanted[sheet]))
            ground.add(areas, wanted)
            # added one by one, so that sums do not depend on how batches are cut
            np.add.at(area, sheet[wanted[sheet]], areas_km2(areas[wanted[sheet]]))
        for first, last, some in images.by_sheets():
            counted = {zoom: found for zoom, *found in cells_by_zoom(some, _OF_SHEETS)}
            shares = _shares(ground, first, last, covered, {zoom: each[0] for zoom, each in counted.items()})
            for zoom, (of_zoom, by_kind) in counted.items():
                made.add(zoom, of_zoom.with_columns(covered=shares[zoom]), by_kind)
    if taken_over is not None:
        made.take_over(taken_over)
        _take_over_areas(taken_over, area, covered)
    made.add_up(covered)
    _write_sheets(tables.sheets, area, covered)
    made.write(tables)
    images_counted, cells = made.totals()
    return Counted(
        images=images_counted, cells=cells, area_km2=math.fsum(area), covered_km2=math.fsum(covered)
    )


def _near(footprints: Path, wanted: NDArray[np.bool_]) -> Iterator[tuple[pl.DataFrame, Geometries]]:
    """The footprints that may count in the wanted sheets or cover part of them, batch by batch."""
    for batch in read_batches(footprints, COLUMNS):
        areas = shapely.from_wkb(batch["geometry"].to_numpy())
        near = are_near(areas, wanted)
        # joined across the antimeridian, an image may count in the gap between its parts
        near[~near] = wanted[smallest_cells(areas[~near]) >> BELOW]
        if near.any():
            yield batch.filter(near), areas[near]


def _take_over_areas(taken_over: TakenOver, area: Shares, covered: Shares) -> None:
    kept = pl.read_parquet(taken_over.tables.sheets, glob=False)
    sheet = kept["sheet"].to_numpy()
    stays = ~taken_over.changed[sheet]
    for sums, column in ((area, "area_km2"), (covered, "covered_km2")):
        sums[sheet[stays]] = kept[column].to_numpy()[stays]


def _write_sheets(target: Path, area: Shares, covered: Shares) -> None:
    sheet = np.flatnonzero((area > 0.0) | (covered > 0.0))
    columns = {"sheet": sheet, "area_km2": area[sheet], "covered_km2": covered[sheet]}
    pl.DataFrame(columns, pl.Schema(SHEETS_SCHEMA)).write_parquet(target)


def _shares(
    ground: Ground, first: int, last: int, covered: Shares, cells: Mapping[int, pl.DataFrame]
) -> dict[int, Shares]:
    """The covered share of each cell, by display zoom.

    Args:
        ground: what is covered.
        first: the first sheet.
        last: the sheet after the last.
        covered: receives the covered square kilometres of each sheet.
        cells: the cells of those sheets, by display zoom.
    """
    numbers = {zoom: each["cell"].to_numpy() for zoom, each in cells.items()}
    shares = {zoom: np.zeros(len(each)) for zoom, each in numbers.items()}

    def wanted(zoom: int, begin: int, end: int) -> Numbers:
        found = numbers[zoom - FINER]
        start, stop = np.searchsorted(found, [begin, end])
        return found[start:stop]

    for sheets in ground.sheets(first, last):
        for sheet, area in covered_km2(sheets).items():
            covered[sheet] = area
        for zoom, some, share in shares_below(sheets, wanted, DEEPEST):
            start = int(np.searchsorted(numbers[zoom - FINER], some[0])) if len(some) else 0
            shares[zoom - FINER][start : start + len(some)] = share
    return shares


class _Tables:
    """Both tables in the making: scratch files for each zoom, one for each batch of sheets."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._parts: dict[tuple[str, int], list[Path]] = defaultdict(list)

    def add(self, zoom: int, cells: pl.DataFrame, kinds: pl.DataFrame) -> None:
        """Append the cells of a zoom that come next in cell order, and their kinds."""
        for name, table, schema in (("cells", cells, CELLS), ("kinds", kinds, KINDS)):
            parts = self._parts[name, zoom]
            parts.append(self._scratch / f"{name}-{zoom:02}-{len(parts):05}.parquet")
            whole = table.with_columns(pl.lit(zoom).alias("zoom"))
            if name == "cells":
                whole = whole.with_columns(pl.col("covered").round(DECIMALS))
            whole.select(schema.keys()).cast(pl.Schema(schema)).write_parquet(parts[-1])

    def take_over(self, taken_over: TakenOver) -> None:
        """Merge the rows of unchanged sheets with those that were added."""
        changed = pl.Series(np.flatnonzero(taken_over.changed), dtype=pl.Int64())
        for zoom in range(_OF_SHEETS, ZOOM_MAX + 1):
            is_fresh = (pl.col("cell") // 4 ** (zoom - _OF_SHEETS)).is_in(changed.implode())
            for name, table in (("cells", taken_over.tables.cells), ("kinds", taken_over.tables.kinds)):
                kept = pl.scan_parquet(table, glob=False).filter(pl.col("zoom") == zoom, ~is_fresh)
                fresh = pl.scan_parquet(self._parts[name, zoom], glob=False)
                whole = self._scratch / f"{name}-{zoom:02}.parquet"
                kept.merge_sorted(fresh, "cell").sink_parquet(whole, engine="streaming")
                self._parts[name, zoom] = [whole]

    def add_up(self, covered: Shares) -> None:
        """Derive the zooms whose cells are larger than sheets from the zoom whose cells are the sheets.

        Args:
            covered: covered square kilometres of each sheet.
        """
        cells, kinds = (
            pl.read_parquet(self._parts[name, _OF_SHEETS], glob=False) for name in ("cells", "kinds")
        )
        for zoom in range(_OF_SHEETS - 1, -1, -1):
            cells, kinds = cells_above(cells, kinds)
            of = cells["cell"].to_numpy()
            area = covered.reshape(-1, 4 ** (_OF_SHEETS - zoom)).sum(axis=1)[of]
            share = np.minimum(area / cells_km2(of, zoom + FINER), 1.0)
            self.add(zoom, cells.with_columns(covered=share), kinds)

    def write(self, tables: DensityTables) -> None:
        """Write the finished tables."""
        for name, target in (("cells", tables.cells), ("kinds", tables.kinds)):
            parts = [each for zoom in range(ZOOM_MAX + 1) for each in self._parts[name, zoom]]
            pl.scan_parquet(parts, glob=False).sink_parquet(target, engine="streaming")

    def totals(self) -> tuple[int, int]:
        """The number of images, and of cells at all zooms together."""
        parts = [each for zoom in range(ZOOM_MAX + 1) for each in self._parts["cells", zoom]]
        images = pl.scan_parquet(self._parts["cells", 0], glob=False).select(pl.sum("count"))
        cells = pl.scan_parquet(parts, glob=False).select(pl.len())
        return int(images.collect().item()), int(cells.collect().item())

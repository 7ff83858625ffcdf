"""The density grid of a snapshot as two tables: its cells, and how many images of each kind they hold.

Both stand in the order of zooms, then of cells. A cell that is no larger than a sheet of `core.ground` lies
in one, so sheets are counted one after another; larger ones are added up from them. What is held in memory is
what the densest sheet holds, or some sheets together where they hold little; the rest goes by way of files.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import shapely

from oam_mosaic_assets.core.density import (
    COLUMNS,
    DEEPEST,
    FINER,
    ZOOM_MAX,
    cells_above,
    cells_by_zoom,
    placed,
)
from oam_mosaic_assets.core.density_spool import BELOW, PlacedImages
from oam_mosaic_assets.core.ground import (
    SHEET_ZOOM,
    SHEETS,
    Ground,
    Numbers,
    Shares,
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


_OF_SHEETS: Final = SHEET_ZOOM - FINER
"""The display zoom whose cells are the sheets."""


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
    tables = _Tables(scratch)
    images, area, covered = PlacedImages(scratch), np.zeros(SHEETS), np.zeros(SHEETS)
    with Ground(scratch / "ground.sqlite") as ground:
        for batch in read_batches(footprints, COLUMNS):
            areas = shapely.from_wkb(batch["geometry"].to_numpy())
            here = placed(batch, areas, taken_at=taken_at)
            images.add(here)
            ground.add(areas)
            # one after another, so that a sum does not depend on the batches
            np.add.at(area, here["cell"].to_numpy() >> BELOW, areas_km2(areas))
        for first, last, some in images.by_sheets():
            counted = {zoom: found for zoom, *found in cells_by_zoom(some, _OF_SHEETS)}
            shares = _shares(ground, first, last, covered, {zoom: each[0] for zoom, each in counted.items()})
            for zoom, (of_zoom, by_kind) in counted.items():
                tables.add(zoom, of_zoom.with_columns(covered=shares[zoom]), by_kind)
    tables.add_up(covered)
    return Counted(
        images=images.images,
        cells=tables.write(cells, kinds),
        area_km2=math.fsum(area),
        covered_km2=math.fsum(covered),
    )


def _shares(
    ground: Ground, first: int, last: int, covered: Shares, cells: Mapping[int, pl.DataFrame]
) -> dict[int, Shares]:
    """The share of each cell that is covered, by display zoom.

    Args:
        ground: what is covered.
        first: the first sheet.
        last: the one after the last.
        covered: is told how many square kilometres of each sheet are covered.
        cells: of those sheets, by display zoom.
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
    """Both tables while they are made: in scratch, zoom by zoom, some sheets after others."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._parts: dict[tuple[str, int], list[Path]] = defaultdict(list)

    def add(self, zoom: int, cells: pl.DataFrame, kinds: pl.DataFrame) -> None:
        """Add what follows in the order of cells."""
        for name, table, schema in (("cells", cells, CELLS), ("kinds", kinds, KINDS)):
            parts = self._parts[name, zoom]
            parts.append(self._scratch / f"{name}-{zoom:02}-{len(parts):05}.parquet")
            whole = table.with_columns(pl.lit(zoom).alias("zoom"))
            if name == "cells":
                whole = whole.with_columns(pl.col("covered").round(DECIMALS))
            whole.select(schema.keys()).cast(pl.Schema(schema)).write_parquet(parts[-1])

    def add_up(self, covered: Shares) -> None:
        """Make the zooms whose cells are larger than sheets from that of the sheets.

        Args:
            covered: square kilometres of each sheet.
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

    def write(self, cells: Path, kinds: Path) -> int:
        """Write them whole; returns how many cells there are."""
        for name, target in (("cells", cells), ("kinds", kinds)):
            parts = [each for zoom in range(ZOOM_MAX + 1) for each in self._parts[name, zoom]]
            pl.scan_parquet(parts, glob=False).sink_parquet(target, engine="streaming")
        return int(pl.scan_parquet(cells, glob=False).select(pl.len()).collect().item())

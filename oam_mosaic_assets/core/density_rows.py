"""Reading the rows of density tables a few tiles at a time, and finding the tiles where two grids differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from oam_mosaic_assets.core.density import FINER, ZOOM_MAX
from oam_mosaic_assets.core.density_tables import DensityTables
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.stretches import Stretches

_AT_A_TIME: Final = 32_768
"""Rows held in memory, on average."""


class OrderedTable:
    """A table ordered by zoom, then by cell."""

    def __init__(self, path: Path) -> None:
        """Count the rows of each zoom.

        Args:
            path: of the table of cells or of kinds.
        """
        self._rows = pl.scan_parquet(path, glob=False)
        lengths = self._rows.group_by("zoom").len().collect()
        self._lengths = dict(zip(lengths["zoom"].to_list(), lengths["len"].to_list(), strict=True))

    def of_zoom(self, zoom: int) -> RowsOfZoom:
        """The rows of a display zoom."""
        start = sum(length for above, length in self._lengths.items() if above < zoom)
        rows = self._rows.slice(start, self._lengths.get(zoom, 0))
        return RowsOfZoom(rows, rows.select("cell").collect()["cell"].to_numpy() >> 2 * FINER)


@dataclass(frozen=True, slots=True)
class RowsOfZoom:
    """The rows of a zoom.

    Attributes:
        table: all of them.
        tiles: the tile of each row, as its position along the Hilbert curve of the zoom; ascending.
    """

    table: pl.LazyFrame
    tiles: Numbers

    def rows(self, first: int, last: int) -> pl.DataFrame:
        """The rows of the tiles from `first` to `last`, both included."""
        start, stop = np.searchsorted(self.tiles, [first, last + 1]).tolist()
        return self.table.slice(start, stop - start).collect()


def tile_spans(tiles: Numbers, rows: int) -> Iterator[tuple[int, int]]:
    """Split tiles into spans of `_AT_A_TIME` rows on average; yields the first and last tile of each.

    Args:
        tiles: ascending.
        rows: how many all of them have together.
    """
    step = max(1, _AT_A_TIME * len(tiles) // max(rows, 1))
    for start in range(0, len(tiles), step):
        some = tiles[start : start + step]
        yield int(some[0]), int(some[-1])


def changed_tiles(before: DensityTables, now: DensityTables) -> Stretches:
    """The tiles in which any cell differs, including those that only one of the grids has."""
    found = [np.zeros(0, np.int64)]
    for was, here in ((before.cells, now.cells), (before.kinds, now.kinds)):
        sides = OrderedTable(was), OrderedTable(here)
        for zoom in range(ZOOM_MAX + 1):
            one, other = (each.of_zoom(zoom) for each in sides)
            tiles = np.union1d(one.tiles, other.tiles)
            for first, last in tile_spans(tiles, len(one.tiles) + len(other.tiles)):
                rows, others = one.rows(first, last), other.rows(first, last)
                if rows.equals(others):
                    continue
                for these, those in ((rows, others), (others, rows)):
                    cells = these.join(those, on=these.columns, how="anti", nulls_equal=True)["cell"]
                    found.append(np.unique(cells.to_numpy() >> 2 * FINER) + first_tile_id(zoom))
    return Stretches.of(np.concatenate(found))

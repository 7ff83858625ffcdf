"""Placed images on disk, by the sheets that they count in: so many at a time as memory is to hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from oam_mosaic_assets.core.density import DEEPEST, no_images
from oam_mosaic_assets.core.ground import SHEET_ZOOM, SHEETS, Numbers

TOGETHER: Final = 65_536
"""Images that are counted together, but for a sheet that holds more: some 30 MB."""

BELOW: Final = 2 * (DEEPEST - SHEET_ZOOM)
"""A sheet's number is that of the smallest cells in it without this many bits."""


class PlacedImages:
    """Images put in as they come, taken out sheet by sheet."""

    def __init__(self, folder: Path) -> None:
        """Begin with none.

        Args:
            folder: an empty one, for files of sorted images.
        """
        self._folder = folder
        self._held = [no_images()]
        self._begins: list[Numbers] = []
        self.images = 0

    def add(self, images: pl.DataFrame) -> None:
        """Put some in, as `core.density.placed` gives them."""
        self._held.append(images)
        self.images += len(images)
        if sum(map(len, self._held)) >= TOGETHER:
            self._store()

    def by_sheets(self) -> Iterator[tuple[int, int, pl.DataFrame]]:
        """The images of some sheets, from a first one to before a last one; in the order of sheets.

        Together they are all sheets there are, so some have no images.
        """
        self._store()
        before = np.array(self._begins).sum(axis=0)  # images in sheets before each
        first = 0
        while first < SHEETS:
            last = int(np.searchsorted(before, before[first] + TOGETHER, side="right")) - 1
            last = max(last, first + 1)
            yield first, last, self.of_sheets(first, last)
            first = last

    def of_sheets(self, first: int, last: int) -> pl.DataFrame:
        """The images of sheets from a first one to before a last one."""
        self._store()
        parts = [
            pl.scan_ipc(self._path(run), glob=False).slice(start, stop - start)
            for run, begins in enumerate(self._begins)
            for start, stop in [begins[[first, last]].tolist()]
            if stop > start
        ]
        return pl.concat([no_images(), *pl.collect_all(parts)])

    def years(self) -> list[int]:
        """The years that some image was taken in."""
        self._store()
        runs = [pl.scan_ipc(self._path(run), glob=False) for run in range(len(self._begins))]
        found = pl.concat(runs).select(pl.col("year").drop_nulls().unique().sort()).collect()
        return found["year"].to_list()

    def _store(self) -> None:
        if len(self._held) == 1 and self._begins:
            return
        images = pl.concat(self._held).sort("cell")
        self._held = [no_images()]
        sheet = images["cell"].to_numpy() >> BELOW
        images.write_ipc(self._path(len(self._begins)))
        self._begins.append(np.searchsorted(sheet, np.arange(SHEETS + 1)))

    def _path(self, run: int) -> Path:
        return self._folder / f"placed-{run:05}.arrow"

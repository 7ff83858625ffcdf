"""Placed images spooled to disk and read back by the sheets they count in, a few sheets at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from oam_mosaic_assets.core.density import DEEPEST, no_images
from oam_mosaic_assets.core.ground import SHEET_ZOOM, SHEETS, Numbers

TOGETHER: Final = 65_536
"""Images counted together, some 30 MB; only a single sheet may hold more."""

BELOW: Final = 2 * (DEEPEST - SHEET_ZOOM)
"""The number of a smallest cell, shifted right by this many bits, is the number of its sheet."""


class PlacedImages:
    """Images added in any order and read back sheet by sheet."""

    def __init__(self, folder: Path) -> None:
        """Start empty.

        Args:
            folder: an empty folder for files of sorted images.
        """
        self._folder = folder
        self._held = [no_images()]
        self._begins: list[Numbers] = []
        self.images = 0

    def add(self, images: pl.DataFrame) -> None:
        """Add images, as returned by `core.density.placed`."""
        self._held.append(images)
        self.images += len(images)
        if sum(map(len, self._held)) >= TOGETHER:
            self._store()

    def by_sheets(self) -> Iterator[tuple[int, int, pl.DataFrame]]:
        """Ranges of sheets, each as its first sheet, the one after its last, and their images; in order.

        The ranges cover all sheets, so some have no images.
        """
        self._store()
        before = np.array(self._begins).sum(axis=0)  # images in all sheets before each one
        first = 0
        while first < SHEETS:
            last = int(np.searchsorted(before, before[first] + TOGETHER, side="right")) - 1
            last = max(last, first + 1)
            yield first, last, self.of_sheets(first, last)
            first = last

    def of_sheets(self, first: int, last: int) -> pl.DataFrame:
        """The images of the sheets from `first` up to, but not including, `last`."""
        self._store()
        parts = [
            pl.scan_ipc(self._path(run), glob=False).slice(start, stop - start)
            for run, begins in enumerate(self._begins)
            for start, stop in [begins[[first, last]].tolist()]
            if stop > start
        ]
        return pl.concat([no_images(), *pl.collect_all(parts)])

    def sheets(self) -> Numbers:
        """The sheets in which images count, ascending."""
        self._store()
        return np.flatnonzero(np.diff(np.array(self._begins).sum(axis=0)))

    def years(self) -> list[int]:
        """The years in which images were acquired."""
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

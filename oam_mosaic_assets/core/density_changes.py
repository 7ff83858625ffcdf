"""Which sheets of the density grid changed between two snapshots.

A sheet depends on the images that count in it and on those that cover it. So it changes where an image that
was added, removed or altered counts or lies, before or after; and where one counts that entered or left the
moving windows before the snapshot.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.changes import changes_between
from oam_mosaic_assets.core.density import COLUMNS, DAYS, is_within, smallest_cells
from oam_mosaic_assets.core.density_spool import BELOW
from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.ground import SHEETS, tiles_near


def changed_sheets(
    before: Path, now: Path, *, then: datetime, taken_at: datetime
) -> tuple[int, NDArray[np.bool_]]:
    """Find the sheets that changed.

    Args:
        before: the footprints of the earlier snapshot.
        now: those of the later one.
        then: the moment of the earlier one, UTC.
        taken_at: that of the later one.

    Returns:
        How many images were added, removed or altered; and for each sheet, whether it changed.
    """
    changes = changes_between(before, now, COLUMNS)
    changed = np.zeros(SHEETS, np.bool_)
    changed[tiles_near(changes.areas)] = True
    for areas in (changes.areas, _passed_by(now, then, taken_at)):
        changed[smallest_cells(areas) >> BELOW] = True
    return changes.images, changed


def _passed_by(footprints: Path, then: datetime, taken_at: datetime) -> Geometries:
    """The areas of images that fall in different windows at the two moments."""
    moved = pl.any_horizontal(is_within(days, then) != is_within(days, taken_at) for days in DAYS.values())
    rows = pl.scan_parquet(footprints, glob=False).filter(moved).select("geometry")
    return np.asarray(shapely.from_wkb(rows.collect()["geometry"].to_numpy()), dtype=object)

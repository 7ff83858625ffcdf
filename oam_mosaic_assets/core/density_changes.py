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
from numpy.typing import NDArray

from oam_mosaic_assets.core.density import COLUMNS, DAYS, is_within, smallest_cells
from oam_mosaic_assets.core.density_spool import BELOW
from oam_mosaic_assets.core.ground import SHEETS, Numbers, sheets_near
from oam_mosaic_assets.core.snapshot import areas_of
from oam_mosaic_assets.core.splice import few_changes_between


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

    Raises:
        TooMuchChanged: too many images changed.
    """
    changes = few_changes_between(before, now, COLUMNS)
    changed = np.zeros(SHEETS, np.bool_)
    for areas in changes.batches():
        changed[sheets_near(areas)] = True
        changed[smallest_cells(areas) >> BELOW] = True
    for _, areas in areas_of(now, _passed_by(now, then, taken_at)):
        changed[smallest_cells(areas) >> BELOW] = True
    return changes.images, changed


def _passed_by(footprints: Path, then: datetime, taken_at: datetime) -> Numbers:
    """Indices of the images that fall in different windows at the two moments."""
    moved = pl.any_horizontal(is_within(days, then) != is_within(days, taken_at) for days in DAYS.values())
    rows = pl.scan_parquet(footprints, glob=False, row_index_name="row").filter(moved).select("row")
    return rows.collect()["row"].to_numpy().astype(np.int64)

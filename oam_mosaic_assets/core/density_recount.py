"""A recount, for the audit, of what a density grid's cells should hold, and where two snapshots differ in it.

Each image is counted directly in its cell at each zoom; nothing is summed from zoom to zoom. Cells whose
counts changed are found by comparing all images of both snapshots, with everything they count for, rather
than derived from what happened to the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.changes import changes_between
from oam_mosaic_assets.core.density import COLUMNS, DEEPEST, KIND_COLUMNS, SIDES, ZOOM_MAX, kind_name, placed
from oam_mosaic_assets.core.density_reading import Span
from oam_mosaic_assets.core.density_spool import BELOW, PlacedImages
from oam_mosaic_assets.core.density_tiles import DEGREE_DECIMALS, MOMENT
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.ground import SHEET_ZOOM, SHEETS, tiles_near
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.stretches import Stretches


def placed_images(footprints: Path, taken_at: datetime, folder: Path) -> PlacedImages:
    """The images of a snapshot, each with everything it counts for.

    Args:
        footprints: the GeoParquet.
        taken_at: the moment of the snapshot, UTC.
        folder: an empty folder.
    """
    images = PlacedImages(folder)
    for batch in read_batches(footprints, COLUMNS):
        images.add(placed(batch, shapely.from_wkb(batch["geometry"].to_numpy()), taken_at=taken_at))
    return images


def recounted(images: PlacedImages, span: Span, only: Stretches | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The expected cells of a span, and the number of images of each kind in them; both in cell order.

    Args:
        images: of the snapshot.
        span: the range of tiles.
        only: the tiles to count in; None means all.
    """
    shift = 2 * (DEEPEST - span.zoom)
    begin, end = (each - first_tile_id(span.zoom) << shift for each in (span.first, span.end))
    here = images.of_sheets(begin >> BELOW, (end - 1 >> BELOW) + 1)
    here = here.filter(pl.col("cell") >= begin, pl.col("cell") < end)
    if only is not None:
        here = here.filter(only.hold((here["cell"].to_numpy() >> shift) + first_tile_id(span.zoom)))
    here = here.with_columns(pl.col("cell") // 4 ** (ZOOM_MAX - span.zoom))
    cells = here.group_by("cell").agg(
        pl.len().cast(pl.Int64).alias("count"),
        *(pl.min(side).round(DEGREE_DECIMALS) for side in SIDES[:2]),
        *(pl.max(side).round(DEGREE_DECIMALS) for side in SIDES[2:]),
        pl.max("newest").dt.strftime(MOMENT),
    )
    kinds = pl.concat(
        here.filter(pl.col(kind).is_not_null())
        .group_by("cell", pl.col(kind).alias("kind"))
        .agg(pl.len().cast(pl.Int64).alias("count"))
        for kind in KIND_COLUMNS
    )
    number = kinds["kind"].unique()
    name = pl.Series("name", map(kind_name, number.to_list()), dtype=pl.String())
    named = kinds.join(pl.DataFrame([number, name]), on="kind").select("cell", "count", kind="name")
    return cells.sort("cell"), named.sort("cell", "kind")


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Where two snapshots differ.

    Attributes:
        tiles: tiles that may differ, and all their ancestors.
        rounded: tiles within sheets whose covered ground may differ somewhere: elsewhere in such a sheet,
            shares may be rounded differently.
        ground: for each sheet, whether its covered ground may differ.
    """

    tiles: Stretches
    rounded: Stretches
    ground: NDArray[np.bool_]


def differences_between(
    before: Path, now: Path, images_before: PlacedImages, images: PlacedImages
) -> Differences:
    """Find where two snapshots differ.

    Args:
        before: footprints of the earlier snapshot.
        now: footprints of the later one.
        images_before: images of the earlier one.
        images: images of the later one.
    """
    areas = changes_between(before, now).areas
    counting = _differing_cells(images_before, images) >> 2 * (DEEPEST - ZOOM_MAX)
    deepest = np.union1d(counting, tiles_near(areas, ZOOM_MAX))
    tiles = [
        Stretches.of((deepest >> 2 * (ZOOM_MAX - zoom)) + first_tile_id(zoom)) for zoom in range(ZOOM_MAX + 1)
    ]
    sheets = tiles_near(areas)
    ground = np.zeros(SHEETS, np.bool_)
    ground[sheets] = True
    rounded = [
        Stretches(
            (sheets << 2 * (zoom - SHEET_ZOOM)) + first_tile_id(zoom),
            (sheets + 1 << 2 * (zoom - SHEET_ZOOM)) + first_tile_id(zoom),
        )
        for zoom in range(SHEET_ZOOM, ZOOM_MAX + 1)
    ]
    return Differences(Stretches.union(tiles), Stretches.union(rounded), ground)


def _differing_cells(before: PlacedImages, now: PlacedImages) -> Numbers:
    """The smallest cells in which the images, or what they count for, differ."""
    found = [np.zeros(0, np.int64)]
    for first, last, here in now.by_sheets():
        sides = [here.with_columns(sign=1), before.of_sheets(first, last).with_columns(sign=-1)]
        differing = pl.concat(sides).group_by(here.columns).agg(pl.sum("sign")).filter(pl.col("sign") != 0)
        found.append(differing["cell"].to_numpy())
    return np.unique(np.concatenate(found))

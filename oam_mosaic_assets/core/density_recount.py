"""A recount, for the audit, of what a density grid's cells should hold, and where two snapshots differ in it.

Each image is counted directly in its cell at each zoom; nothing is summed from zoom to zoom. Cells whose
counts changed are found by comparing all images of both snapshots, with everything they count for, rather
than derived from what happened to the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.changes import changes_between
from oam_mosaic_assets.core.density import (
    COLUMNS,
    DEEPEST,
    FINER,
    KIND_COLUMNS,
    ZOOM_MAX,
    kind_name,
    placed,
)
from oam_mosaic_assets.core.density_reading import Span
from oam_mosaic_assets.core.density_spool import BELOW, PlacedImages
from oam_mosaic_assets.core.density_tiles import MOMENT, outward
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import Geometries, first_tile_id, tile_ids, tiles_between
from oam_mosaic_assets.core.ground import SHEET_ZOOM, SHEETS, bounds_of, sheets_near, tile_frames
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.stretches import Stretches

_TOGETHER: Final = 64
"""Sets of tiles that are collected before they are joined."""

_EDGES: Final = 2**16
"""Tiles along the frames that are followed together: some 25 MB of the tiles around their edges."""


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


def bounds_of_cells(images: PlacedImages) -> tuple[float, float, float, float]:
    """West, south, east, north, degrees, of the cells of display zoom 0 in which images count."""
    return bounds_of(images.sheets() >> 2 * (SHEET_ZOOM - FINER), FINER)


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
        pl.min("west", "south"),
        pl.max("east", "north"),
        pl.max("newest").dt.strftime(MOMENT),
    )
    cells = cells.with_columns(outward(cells))
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
    counting = _differing_cells(images_before, images) >> 2 * (DEEPEST - ZOOM_MAX)
    found = [Stretches.of(counting + first_tile_id(ZOOM_MAX))]
    ground = np.zeros(SHEETS, np.bool_)
    for areas in changes_between(before, now).batches():
        found.append(_reached(areas))
        if len(found) >= _TOGETHER:
            found = [Stretches.union(found)]
        ground[sheets_near(areas)] = True
    deepest = Stretches.union(found)
    tiles = [deepest.above(zoom, ZOOM_MAX) for zoom in range(ZOOM_MAX + 1)]
    rounded = [_below(np.flatnonzero(ground), SHEET_ZOOM, zoom) for zoom in range(SHEET_ZOOM, ZOOM_MAX + 1)]
    return Differences(Stretches.union(tiles), Stretches.union(rounded), ground)


def _reached(areas: Geometries) -> Stretches:
    """The tiles of the last zoom that the bounding boxes of the parts of areas (EPSG:4326) reach."""
    frames = np.stack(tile_frames(shapely.get_parts(areas), ZOOM_MAX))
    share = np.cumsum(np.maximum(*(frames[2:] - frames[:2]))) // _EDGES
    some = np.split(frames, np.flatnonzero(np.diff(share)) + 1, axis=1)
    return Stretches.union([_tiles_of(each) for each in some])


def _tiles_of(frames: Numbers) -> Stretches:
    """The tiles of the last zoom in frames: first column and row, and the column and row after the last.

    Tiles above them that lie in a frame are not followed further: a large image reaches millions of the last.
    """
    # where a frame is as wide as a tile or two
    begins = ZOOM_MAX - np.ceil(np.log2(np.maximum(*(frames[2:] - frames[:2])))).astype(np.int64)
    found = []
    pairs = np.zeros((3, 0), np.int64)
    for zoom in range(ZOOM_MAX + 1):
        finer, fresh = ZOOM_MAX - zoom, np.flatnonzero(begins == zoom)
        first, last = frames[:2, fresh] >> finer, frames[2:, fresh] - 1 >> finer
        which, x, y = tiles_between(*first, *(last + 1))
        frame, x, y = np.concatenate([pairs, [fresh[which], x, y]], axis=1)
        west, north, east, south = frames[:, frame]
        left, top, right, bottom = np.stack([x, y, x + 1, y + 1]) << finer
        is_within = (west <= left) & (north <= top) & (right <= east) & (bottom <= south)
        cells = tile_ids(zoom, x[is_within], y[is_within]) - first_tile_id(zoom)
        found.append(_below(cells, zoom, ZOOM_MAX))
        partly = (west < right) & (left < east) & (north < bottom) & (top < south) & ~is_within
        pairs = np.stack([frame, x, y])[:, partly].repeat(4, axis=1)
        pairs[1:] = 2 * pairs[1:] + np.tile([[0, 1, 0, 1], [0, 0, 1, 1]], int(partly.sum()))
    return Stretches.union(found)


def _below(cells: Numbers, zoom: int, deeper: int) -> Stretches:
    """The tiles of a deeper zoom in cells, positions along the Hilbert curve of a zoom."""
    shift, first = 2 * (deeper - zoom), first_tile_id(deeper)
    return Stretches.union([Stretches((cells << shift) + first, (cells + 1 << shift) + first)])


def _differing_cells(before: PlacedImages, now: PlacedImages) -> Numbers:
    """The smallest cells in which the images, or what they count for, differ."""
    found = [np.zeros(0, np.int64)]
    for first, last, here in now.by_sheets():
        sides = [here.with_columns(sign=1), before.of_sheets(first, last).with_columns(sign=-1)]
        differing = pl.concat(sides).group_by(here.columns).agg(pl.sum("sign")).filter(pl.col("sign") != 0)
        found.append(differing["cell"].to_numpy())
    return np.unique(np.concatenate(found))

"""What changed between two snapshots, and which tiles are affected.

A tile depends on the images that reach it, buffer included: on their areas, their order and their properties.
The order is by acquisition end, then id, so two images that did not change never change places. No image is
left out at any zoom, so nothing else matters.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import (
    Geometries,
    on_both_sides,
    project_mended,
    tile_ids,
)
from oam_mosaic_assets.core.placement import UNIT
from oam_mosaic_assets.core.snapshot import Names, areas_of, as_drawn
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import BUFFER, TilingPlan

WIDENED: Final = 32 * UNIT
"""In tiles: two pixels. Rounding, simplifying and widening move an outline no farther at any zoom, and the
middle of its frame, whose pixel it is counted in, lies no farther from it."""

REACH: Final = BUFFER + WIDENED
"""In tiles: how far beyond a tile's edge an image may lie and still affect the tile."""

TOGETHER: Final = 2**16
"""The most pairs of area and tile that are examined together: some 30 MB of boxes."""

PLACED: Final = ("id", "geometry", "acquired_to")
"""The columns that decide where and in which order images are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How a snapshot differs from the one before, as far as tiles show it.

    Attributes:
        added: images that were not drawn before.
        removed: images that are no longer drawn.
        altered: images whose area, place in the order or properties changed.
        of: all images of the new snapshot.
        names: ids of those that were added or altered.
        places: the footprints before and now, each with the indices of those that changed, ascending.
    """

    added: int
    removed: int
    altered: int
    of: int
    names: frozenset[str]
    places: tuple[tuple[Path, Numbers], tuple[Path, Numbers]]

    @property
    def images(self) -> int:
        """How many images changed."""
        return self.added + self.removed + self.altered

    @property
    def gone(self) -> frozenset[str]:
        """Ids of those that were removed or altered; read whenever it is asked for."""
        return frozenset(Names(*self.places[0]))

    @property
    def areas(self) -> Geometries:
        """Where the images that changed lie now and lay before, EPSG:4326; read whenever it is asked for."""
        return np.concatenate([np.zeros(0, dtype=object), *self.batches()])

    def batches(self) -> Iterator[Geometries]:
        """The same areas, about as many at a time as a batch has rows."""
        for footprints, images in self.places:
            yield from (areas for _, areas in areas_of(footprints, images))


def changes_between(before: Path, now: Path, columns: Sequence[str] = ()) -> Changes:
    """Compare two snapshots.

    Args:
        before: the footprints of the snapshot that is already drawn.
        now: the footprints of the snapshot to be drawn.
        columns: those that become properties in tiles, besides those that place images.
    """
    drawn = list(dict.fromkeys([*PLACED, *columns]))
    rows = [pl.scan_parquet(path, glob=False, row_index_name="row") for path in (before, now)]
    # most rows have not changed at all; of the others, only a hash is held until it is known which are drawn
    # differently, as may be none of them although all digests changed
    seed = secrets.randbits(63)  # if two rows by chance had the same hash, they would not in the audit
    gone, come = (
        _hashes(some.join(others, on=("id", "digest"), how="anti"), drawn, seed)
        for some, others in (rows, reversed(rows))
    )
    lay = gone.join(come, on=("id", "hash"), how="anti").sort("row")
    lies = come.join(gone, on=("id", "hash"), how="anti").sort("row")
    altered = len(lay.join(lies, on="id", how="semi"))
    was, has = (some["row"].to_numpy().astype(np.int64) for some in (lay, lies))
    return Changes(
        added=len(lies) - altered,
        removed=len(lay) - altered,
        altered=altered,
        of=int(rows[1].select(pl.len()).collect().item()),
        names=frozenset(lies["id"]),
        places=((before, was), (now, has)),
    )


def _hashes(rows: pl.LazyFrame, columns: Sequence[str], seed: int) -> pl.DataFrame:
    """Indices and ids of rows, with a hash of 64 bits of what is in these columns."""
    return rows.select("row", "id", hash=pl.struct(columns).hash(seed)).collect(engine="streaming")


def reached_tiles(areas: Geometries, plan: TilingPlan) -> Stretches:
    """The tiles that may show something of these areas, and a few around them.

    Args:
        areas: as footprints have them, EPSG:4326.
        plan: how they are drawn.
    """
    parts, _ = on_the_map(areas, plan)
    found = [ids for zoom, ids in _reached(parts, plan.zoom_max) if zoom >= plan.zoom_min]
    return Stretches.of(np.concatenate([np.zeros(0, np.int64), *found]))


def _reached(parts: Geometries, last: int) -> Iterator[tuple[int, Numbers]]:
    """Ids of tiles of one zoom, up to the last one, that polygons in tile coordinates of zoom 0 reach."""
    shapely.prepare(parts)
    bounds = shapely.bounds(parts)
    # the index of an area, column and row of a tile
    waiting = [(0, np.stack([np.arange(len(parts)), *np.zeros((2, len(parts)), np.int64)]))]
    while waiting:  # always one of the deepest zoom, so that few wait
        zoom, pairs = waiting.pop()
        if pairs.shape[1] > TOGETHER:
            batches = np.split(pairs, range(TOGETHER, pairs.shape[1], TOGETHER), axis=1)
            waiting += [(zoom, each) for each in batches]
            continue
        pairs = pairs[:, _are_near(bounds, pairs, zoom)]
        pairs = pairs[:, _meet(parts, bounds, pairs, zoom)]
        if pairs.size:
            yield zoom, np.unique(tile_ids(zoom, *pairs[1:]))
            if zoom < last:
                waiting.append((zoom + 1, _below(pairs)))


def _are_near(bounds: NDArray[np.float64], pairs: Numbers, zoom: int) -> NDArray[np.bool_]:
    """Whether the frame of the area reaches the tile, for each pair."""
    part, x, y = pairs
    west, north, east, south = bounds[part].T * 2.0**zoom
    near: NDArray[np.bool_] = (
        (west < x + 1 + REACH) & (east > x - REACH) & (north < y + 1 + REACH) & (south > y - REACH)
    )
    return near


def _meet(parts: Geometries, bounds: NDArray[np.float64], pairs: Numbers, zoom: int) -> NDArray[np.bool_]:
    """Whether the area reaches the tile, for each pair whose frame does."""
    part, x, y = pairs
    west, north, east, south = bounds[part].T * 2.0**zoom
    is_within = (
        (west >= x - REACH) & (east <= x + 1 + REACH) & (north >= y - REACH) & (south <= y + 1 + REACH)
    )
    meets: NDArray[np.bool_] = is_within
    rest = np.flatnonzero(~is_within)
    # for most tiles testing the middle is enough, at a tenth of the cost of making a box
    middle = (np.stack([x[rest], y[rest]]) + 0.5) / 2.0**zoom
    meets[rest] = shapely.intersects_xy(parts[part[rest]], *middle)
    rest = rest[~meets[rest]]
    meets[rest] = shapely.intersects(parts[part[rest]], _boxes(x[rest], y[rest], zoom))
    return meets


def _below(pairs: Numbers) -> Numbers:
    """The same areas, each with the four tiles below its tile."""
    part, x, y = np.repeat(pairs, 4, axis=1)
    corner = np.tile(np.arange(4), pairs.shape[1])
    return np.stack([part, 2 * x + corner % 2, 2 * y + corner // 2])


def on_the_map(areas: Geometries, plan: TilingPlan) -> tuple[Geometries, Numbers]:
    """Polygons in tile coordinates of zoom 0, and the area that each is a part of.

    Narrow areas are widened as at `whole_from`, where they are widest. What comes near the antimeridian is
    there twice, once on each side of the map.
    """
    projected = project_mended(as_drawn(areas, plan.thinnest_at(plan.whole_from)), 0)
    parts, of = shapely.get_parts(projected, return_index=True)
    return on_both_sides(parts, of, REACH)


def _boxes(x: Numbers, y: Numbers, zoom: int) -> Geometries:
    """The area that each tile draws, and a little more, in tile coordinates of zoom 0."""
    sides = np.array([x - REACH, y - REACH, x + 1 + REACH, y + 1 + REACH]) / 2.0**zoom
    return np.asarray(shapely.box(*sides), dtype=object)

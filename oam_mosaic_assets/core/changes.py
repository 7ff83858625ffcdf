"""What changed between two snapshots, which tiles are affected, and which images those tiles draw.

A tile depends on the images that reach it, buffer included: on their areas, their order and their properties.
The order is by acquisition end, then id, so two images that did not change never change places. No image is
left out at any zoom, so nothing else matters.
"""

from __future__ import annotations

import math
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
from oam_mosaic_assets.core.geometry import MERCATOR_LATITUDE
from oam_mosaic_assets.core.grid import (
    Geometries,
    on_both_sides,
    project_mended,
    tile_ids,
    tile_positions,
)
from oam_mosaic_assets.core.placement import UNIT
from oam_mosaic_assets.core.snapshot import as_drawn, frames_of, read_batches
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import BUFFER, MITRE, TilingPlan

WIDENED: Final = 32 * UNIT
"""In tiles: two pixels. Rounding, simplifying and widening move an outline no farther at any zoom, and the
middle of its frame, whose pixel it is counted in, lies no farther from it."""

REACH: Final = BUFFER + WIDENED
"""In tiles: how far beyond a tile's edge an image may lie and still affect the tile."""

_TIPS: Final = MITRE * 2 * UNIT / math.cos(math.radians(MERCATOR_LATITUDE))
"""In tiles: how far the tips of a thin image may reach when it is widened. The widening is in degrees, which
the map stretches towards the poles; hence the cosine."""

TOGETHER: Final = 2**16
"""The most pairs of area and tile that are examined together: some 30 MB of boxes."""

_SEED: Final = secrets.randbits(63)
"""Of hashes: if two rows by chance had the same one, they would not in the process that audits."""

_PLACED: Final = ("id", "geometry", "acquired_to")
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
        areas: where the images that changed lie now and lay before, EPSG:4326.
    """

    added: int
    removed: int
    altered: int
    of: int
    names: frozenset[str]
    areas: Geometries

    @property
    def images(self) -> int:
        """How many images changed."""
        return self.added + self.removed + self.altered


def changes_between(before: Path, now: Path, columns: Sequence[str] = ()) -> Changes:
    """Compare two snapshots.

    Args:
        before: the footprints of the snapshot that is already drawn.
        now: the footprints of the snapshot to be drawn.
        columns: those that become properties in tiles, besides those that place images.
    """
    drawn = list(dict.fromkeys([*_PLACED, *columns]))
    rows = [pl.scan_parquet(path, glob=False) for path in (before, now)]
    # most rows have not changed at all; of the others, only a hash is held until it is known which are drawn
    # differently, as may be none of them although all digests changed
    gone, come = (
        _hashes(some.join(others, on=("id", "digest"), how="anti"), drawn)
        for some, others in (rows, reversed(rows))
    )
    lay = gone.join(come, on=gone.columns, how="anti").select("id")
    lies = come.join(gone, on=gone.columns, how="anti").select("id")
    altered = len(lay.join(lies, on="id", how="semi"))
    areas = [_geometries(some, which) for some, which in zip(rows, (lay, lies), strict=True)]
    return Changes(
        added=len(lies) - altered,
        removed=len(lay) - altered,
        altered=altered,
        of=int(rows[1].select(pl.len()).collect().item()),
        names=frozenset(lies["id"]),
        areas=shapely.from_wkb(pl.concat(areas).to_numpy()),
    )


def _hashes(rows: pl.LazyFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Ids of rows, with a hash of 64 bits of what is in these columns."""
    return rows.select("id", hash=pl.struct(columns).hash(_SEED)).collect(engine="streaming")


def _geometries(rows: pl.LazyFrame, images: pl.DataFrame) -> pl.Series:
    """The outlines of these images, WKB, in any order."""
    found = rows.join(images.lazy(), on="id", how="semi").select("geometry")
    return found.collect(engine="streaming")["geometry"]


def reached_tiles(areas: Geometries, plan: TilingPlan) -> Stretches:
    """The tiles that may show something of these areas, and a few around them.

    Args:
        areas: as footprints have them, EPSG:4326.
        plan: how they are drawn.
    """
    parts, _ = on_the_map(areas, plan)
    shapely.prepare(parts)
    bounds = shapely.bounds(parts)
    found = [np.zeros(0, np.int64)]
    waiting = [(0, np.stack([np.arange(len(parts)), *np.zeros((2, len(parts)), np.int64)]))]
    while waiting:  # always one of the deepest zoom, so that few wait
        zoom, pairs = waiting.pop()
        if pairs.shape[1] > TOGETHER:
            batches = np.split(pairs, range(TOGETHER, pairs.shape[1], TOGETHER), axis=1)
            waiting += [(zoom, each) for each in batches]
            continue
        pairs = _meeting(parts, bounds, pairs, zoom)
        if zoom >= plan.zoom_min:
            found.append(np.unique(tile_ids(zoom, *pairs[1:])))
        if zoom < plan.zoom_max and pairs.size:
            waiting.append((zoom + 1, _below(pairs)))
    return Stretches.of(np.concatenate(found))


def _meeting(parts: Geometries, bounds: NDArray[np.float64], pairs: Numbers, zoom: int) -> Numbers:
    """The pairs (shape (3, n): area, column, row) whose area reaches their tile.

    Args:
        parts: the areas, in tile coordinates of zoom 0.
        bounds: of each area.
    """
    part, x, y = pairs
    west, north, east, south = bounds[part].T * 2.0**zoom
    near = (west < x + 1 + REACH) & (east > x - REACH) & (north < y + 1 + REACH) & (south > y - REACH)
    part, x, y = pairs = pairs[:, near]
    met: Numbers = pairs[:, shapely.intersects(parts[part], _boxes(x, y, zoom))]
    return met


def _below(pairs: Numbers) -> Numbers:
    """The same areas, each with the four tiles below its tile."""
    part, x, y = np.repeat(pairs, 4, axis=1)
    corner = np.tile(np.arange(4), pairs.shape[1])
    return np.stack([part, 2 * x + corner % 2, 2 * y + corner // 2])


def deepest_zooms(footprints: Path, tiles: Stretches, plan: TilingPlan, first: int = 0) -> NDArray[np.int8]:
    """The last zoom at which each image may be drawn in one of these tiles; -1 where there is none.

    An image that reaches a tile also reaches the tile above it, so all zooms before are implied. An outline
    is only examined where its frame comes near such a tile; for the zooms before the plan's `whole_from` the
    frame alone decides.

    Args:
        footprints: of all images, in drawing order.
        tiles: of any zooms.
        plan: how they are drawn.
        first: the first zoom whose tiles matter.
    """
    trees = {}
    for zoom in range(max(first, plan.zoom_min), plan.zoom_max + 1):
        if len(ids := tiles.of_zoom(zoom)):
            trees[zoom] = shapely.STRtree(_boxes(*tile_positions(ids, zoom), zoom))
    return np.concatenate([np.zeros(0, np.int8), *_deepest(footprints, trees, plan)])


def _deepest(
    footprints: Path, trees: dict[int, shapely.STRtree], plan: TilingPlan
) -> Iterator[NDArray[np.int8]]:
    low = [zoom for zoom in trees if zoom < plan.whole_from]
    rest = [zoom for zoom in trees if zoom >= plan.whole_from]
    for batch in read_batches(footprints, ("bbox", "geometry")):
        deepest = np.full(len(batch), -1, np.int8)
        frames, is_anywhere = _frames(batch, plan)
        near = np.arange(len(batch))
        for zoom in [*low, *rest[:1]]:
            touches = is_anywhere[near]
            touches[trees[zoom].query(frames[near])[0]] = True
            near = near[touches]
            if zoom in low:  # there the frame decides
                deepest[near] = zoom
        if rest:
            parts, of = on_the_map(shapely.from_wkb(batch["geometry"].to_numpy()[near]), plan)
            image = near[of]
            for zoom in rest:
                which = np.unique(trees[zoom].query(parts, predicate="intersects")[0])
                parts, image = parts[which], image[which]
                deepest[image] = zoom
        yield deepest


def _frames(batch: pl.DataFrame, plan: TilingPlan) -> tuple[Geometries, NDArray[np.bool_]]:
    """Boxes round images, in tile coordinates of zoom 0; and which images may be on both sides of the map."""
    farther = (WIDENED + _TIPS) / 2.0**plan.whole_from
    left, top, right, bottom = frames_of(batch["bbox"]).T + farther * np.array([[-1], [-1], [1], [1]])
    boxes = np.asarray(shapely.box(left, top, right, bottom), dtype=object)
    return boxes, (left <= REACH) | (right >= 1.0 - REACH)


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

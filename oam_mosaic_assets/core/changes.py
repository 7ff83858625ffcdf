"""What changed between two snapshots, which tiles that makes others, and which images those tiles draw.

A tile depends on the images that reach it, buffer included: on their areas, their order and what is said of
them. The order is by acquisition end, then id; so two images that did not change never change places. No
image is left out at any zoom, so nothing else matters.
"""

from __future__ import annotations

import math
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
"""In tiles: two pixels. Rounding, simplifying and widening carry an image no farther at any zoom, and the
middle of its frame, where it is counted by its pixel, lies no farther aside of it."""

REACH: Final = BUFFER + WIDENED
"""In tiles: how far beyond a tile's edge an image may lie and yet change it."""

_TIPS: Final = MITRE * 2 * UNIT / math.cos(math.radians(MERCATOR_LATITUDE))
"""In tiles: how far what is thin may be widened, which is told in degrees: by the poles, so much farther."""

_PLACED: Final = ("id", "geometry", "acquired_to")
"""The columns that decide where and in which order images are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How a snapshot differs from the one before, as far as tiles show it.

    Attributes:
        added: images that were not drawn before.
        removed: images that are drawn no longer.
        altered: images with another area, another place in the order, or of which something else is said.
        of: all images of the new snapshot.
        names: ids of those that were added or altered.
        areas: where each of them lies and lay, EPSG:4326.
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
        before: the footprints of the one that is drawn.
        now: the footprints of the one to be drawn.
        columns: what tiles say of images, besides where they lie.
    """
    drawn = list(dict.fromkeys([*_PLACED, *columns]))
    rows = {path: pl.scan_parquet(path, glob=False).select(*drawn, "digest") for path in (before, now)}
    # most rows have not changed at all; only the others are held in memory
    gone = rows[before].join(rows[now], on=("id", "digest"), how="anti").collect(engine="streaming")
    come = rows[now].join(rows[before], on=("id", "digest"), how="anti").collect(engine="streaming")
    lay = gone.join(come, on=drawn, how="anti", nulls_equal=True)
    lies = come.join(gone, on=drawn, how="anti", nulls_equal=True)
    altered = len(lay.join(lies, on="id", how="semi"))
    return Changes(
        added=len(lies) - altered,
        removed=len(lay) - altered,
        altered=altered,
        of=int(rows[now].select(pl.len()).collect().item()),
        names=frozenset(lies["id"]),
        areas=shapely.from_wkb(pl.concat([lay["geometry"], lies["geometry"]]).to_numpy()),
    )


def reached_tiles(areas: Geometries, plan: TilingPlan) -> Stretches:
    """The tiles that may show something of these areas, and a few around them.

    Args:
        areas: as footprints have them, EPSG:4326.
        plan: how they are drawn.
    """
    parts, _ = on_the_map(areas, plan)
    shapely.prepare(parts)
    bounds = shapely.bounds(parts)
    part, x, y = np.arange(len(parts)), *np.zeros((2, len(parts)), np.int64)
    found = []
    for zoom in range(plan.zoom_max + 1):
        if zoom:  # the four below each that was reached
            corner = np.tile(np.arange(4), len(part))
            part, x, y = (np.repeat(each, 4) for each in (part, 2 * x, 2 * y))
            x, y = x + corner % 2, y + corner // 2
        west, north, east, south = bounds[part].T * 2.0**zoom
        near = (west < x + 1 + REACH) & (east > x - REACH) & (north < y + 1 + REACH) & (south > y - REACH)
        part, x, y = part[near], x[near], y[near]
        meets = shapely.intersects(parts[part], _boxes(x, y, zoom))
        part, x, y = part[meets], x[meets], y[meets]
        if zoom >= plan.zoom_min:
            found.append(np.unique(tile_ids(zoom, x, y)))
    return Stretches.of(np.concatenate([np.zeros(0, np.int64), *found]))


def deepest_zooms(footprints: Path, tiles: Stretches, plan: TilingPlan, first: int = 0) -> NDArray[np.int8]:
    """The last zoom at which each image may be drawn in one of these tiles; -1 where there is none.

    What reaches a tile reaches the tile above it as well, so all zooms before are meant too. Images that by
    their frames lie elsewhere are not looked at any closer; and for the zooms before the plan's `whole_from`
    none is.

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
            if zoom in low:  # there a frame says enough
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
    """Boxes round images, in tile coordinates of zoom 0; and which are drawn on both sides of the map."""
    farther = (WIDENED + _TIPS) / 2.0**plan.whole_from
    left, top, right, bottom = frames_of(batch["bbox"]).T + farther * np.array([[-1], [-1], [1], [1]])
    boxes = np.asarray(shapely.box(left, top, right, bottom), dtype=object)
    return boxes, (left <= REACH) | (right >= 1.0 - REACH)


def on_the_map(areas: Geometries, plan: TilingPlan) -> tuple[Geometries, Numbers]:
    """Polygons in tile coordinates of zoom 0, and the area that each is a part of.

    What is narrow is as wide as at the first zoom, where it is the widest. What comes near the antimeridian
    is drawn on both its sides.
    """
    projected = project_mended(as_drawn(areas, plan.thinnest_at(plan.whole_from)), 0)
    parts, of = shapely.get_parts(projected, return_index=True)
    return on_both_sides(parts, of, REACH)


def _boxes(x: Numbers, y: Numbers, zoom: int) -> Geometries:
    """What tiles draw, and a little more, in tile coordinates of zoom 0."""
    sides = np.array([x - REACH, y - REACH, x + 1 + REACH, y + 1 + REACH]) / 2.0**zoom
    return np.asarray(shapely.box(*sides), dtype=object)

"""Cutting the map into parts that are tiled independently, so that several processes can make one archive.

A part is a stretch of the Hilbert curve at the first zoom that shows all images, and all tiles below it.
Given all images that reach a tile, buffer included, tippecanoe makes the same tile whatever else it is given;
the tiles it makes beyond a part are discarded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.changes import REACH, on_the_map
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids, tiles_between
from oam_mosaic_assets.core.snapshot import Names, read_batches
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the map.

    Attributes:
        tiles: the tiles that it consists of.
        images: for each image, whether it may be drawn there.
        weight: how much work it is, relative to the other parts.
    """

    tiles: Stretches
    images: NDArray[np.bool_]
    weight: float


def parts_of(footprints: Path, plan: TilingPlan, count: int) -> list[Part]:
    """Cut the map into parts of about equal work, the largest first.

    Args:
        footprints: the GeoParquet of all images, in drawing order.
        plan: how they are drawn.
        count: number of parts; there are fewer if the images lie in fewer tiles.
    """
    image, cell, work = (np.concatenate(each) for each in zip(*_reached(footprints, plan), strict=True))
    order = np.argsort(cell, kind="stable")
    done = np.cumsum(work[order])
    wanted = done[-1] * np.arange(1, count) / count
    first, after = first_tile_id(plan.whole_from), first_tile_id(plan.whole_from + 1)
    cuts = np.unique(cell[order][np.searchsorted(done, wanted)])
    bounds = [first, *cuts[cuts > first].tolist(), after]
    images = int(image.max()) + 1
    parts = []
    for begin, end in pairwise(bounds):
        within = (cell >= begin) & (cell < end)
        reaches = np.zeros(images, np.bool_)
        reaches[image[within]] = True
        tiles = _below(begin, end, plan)
        parts.append(Part(tiles=tiles, images=reaches, weight=float(work[within].sum())))
    return sorted(parts, key=lambda each: -each.weight)


def share_out(
    lines: Path, footprints: Path, plan: TilingPlan, parts: Sequence[Part], targets: Sequence[Path]
) -> None:
    """Write a file for each part with the lines of its images, in the original order.

    Args:
        lines: what `write_geojson` wrote.
        footprints: the GeoParquet of all images, in drawing order.
        plan: how they are drawn.
        parts: the result of `parts_of`.
        targets: one file for each part.
    """
    key, *_ = plan.properties
    images = enumerate(Names(footprints))
    image, name = -1, None
    with ExitStack() as opened, lines.open(encoding="utf-8") as all_lines:
        files = [opened.enter_context(each.open("w", encoding="utf-8")) for each in targets]
        for line in all_lines:
            drawn = json.loads(line)["properties"][key]
            while name != drawn:  # an image may have several lines, or none
                image, name = next(images, (-1, None))
                if name is None:
                    raise ValueError(f"{drawn!r} is no footprint, or its line is not in drawing order")
            for part, file in zip(parts, files, strict=True):
                if part.images[image]:
                    file.write(line)


def _below(begin: int, end: int, plan: TilingPlan) -> Stretches:
    """The tiles of `whole_from` from one id up to but excluding another, and all tiles below them."""
    zooms = range(plan.whole_from, plan.zoom_max + 1)
    top = first_tile_id(plan.whole_from)
    sides = np.array(
        [
            [first_tile_id(zoom) + (side - top) * 4 ** (zoom - plan.whole_from) for side in (begin, end)]
            for zoom in zooms
        ],
        np.int64,
    )
    return Stretches(sides[:, 0], sides[:, 1])


def _reached(footprints: Path, plan: TilingPlan) -> Iterator[tuple[Numbers, Numbers, NDArray[np.float64]]]:
    """Image, id of a `whole_from` tile that its wider box reaches, and its share of the box's deep tiles."""
    zoom, start = plan.whole_from, 0
    for batch in read_batches(footprints, ("geometry",)):
        parts, of = on_the_map(shapely.from_wkb(batch["geometry"].to_numpy()), plan)
        frames = shapely.bounds(parts) * 2.0**zoom + np.array([-REACH, -REACH, REACH, REACH])
        west, north, east, south = np.clip(np.floor(frames), 0, 2**zoom - 1).astype(np.int64).T
        which, x, y = tiles_between(west, north, east + 1, south + 1)
        across, down = (frames[:, 2:] - frames[:, :2]).T * 2.0 ** (plan.zoom_max - zoom)
        work = (across + 1.0) * (down + 1.0) / ((east + 1 - west) * (south + 1 - north))
        yield of[which] + start, tile_ids(zoom, x, y), work[which]
        start += len(batch)

"""Whether the low zooms tell the truth: what they draw, compared with where the images lie, pixel by pixel.

A pixel is 1/256 of a tile's edge. Wherever an image touches a pixel, something must be drawn there or in one
of the eight around it, and vice versa. Every image must be drawn as itself or counted, exactly once.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from pmtiles.tile import tileid_to_zxy

from oam_mosaic_assets.core.archive import Archive, BrokenArchive
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import first_tile_id, project, tile_ids, tile_name, tile_positions, zoom_of
from oam_mosaic_assets.core.image_ids import ImageIds
from oam_mosaic_assets.core.low_zooms import is_shown
from oam_mosaic_assets.core.pixels import Pixels, Points, pixels_touched, touched
from oam_mosaic_assets.core.reach import gather
from oam_mosaic_assets.core.snapshot import Names, read_batches
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import EXTENT, PIXEL, PIXELS, TilingPlan
from oam_mosaic_assets.core.vector_tile import BrokenTile, Layer, polygon_rings, read_feature, read_layers

_CORNERS: Final = 4
"""Points of a square's ring."""

_MOST: Final = 2**32
"""More images than there are; a larger count is as wrong, but might overflow."""

_ON_EDGE: Final = 2.0**-16
"""In pixels; a middle so near a pixel's edge may be found on either side of it."""

Pixel = tuple[int, int]
"""Column and row on the grid of a zoom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowZoom:
    """What was found at one low zoom, in the tiles that were read.

    Attributes:
        needless: ids of images drawn as themselves that are too small for it, and so are counted as well.
        to_draw: number of images that should be, in all tiles.
        counted: number of images that squares stand for.
        to_count: number of images that squares should stand for in the tiles that were read.
        miscounted: pixels whose square stands for another number of images than have their middle there.
        undrawn: ids of images that should be drawn as themselves but are not.
        bare: where images lie but nothing is drawn near: the first pixel of each run.
        astray: where something is drawn but no image lies near, likewise.
        faults: broken tiles, as `z/x/y: error`.
        largest: size of the largest tile, bytes as stored.
    """

    zoom: int
    needless: Sequence[str]
    to_draw: int
    counted: int
    to_count: int
    miscounted: list[Pixel]
    undrawn: Sequence[str]
    bare: list[Pixel]
    astray: list[Pixel]
    faults: list[str]
    largest: int


def examine_low_zooms(
    archive: Archive, footprints: Path, plan: TilingPlan, changed: Changed | None = None
) -> list[LowZoom]:
    """Compare the zooms above the plan's `whole_from` with the footprints.

    Args:
        archive: the archive to examine.
        footprints: the GeoParquet that it shows.
        plan: what was asked for.
        changed: what to examine; None for everything.

    Raises:
        BrokenArchive: a directory is broken.
    """
    name, *_ = plan.properties
    zooms = range(plan.zoom_min, plan.whole_from)
    if not zooms:
        return []
    ids = ImageIds(Names(footprints))
    readings = {zoom: _Reading(zoom, name, ids) for zoom in zooms}
    wanted = Stretches.of_zooms(zooms[0], zooms[-1])
    low, _ = wanted.cut(archive.entries(before=first_tile_id(plan.whole_from)))
    if changed is not None:
        low, _ = changed.tiles.cut(low)
    columns = (low.tile_id, low.run_length, low.offset, low.length)
    for tile_id, run_length, offset, length in zip(*(each.tolist() for each in columns), strict=True):
        readings[zoom_of(tile_id)].add(archive, tile_id, run_length, offset, length)
    images = _Images.read(footprints, zooms[-1], None if changed is None else ids.find([*changed.names]))
    lies, found = images.pixels, []
    for zoom, reading in sorted(readings.items(), reverse=True):
        while lies.side > PIXELS << zoom:
            lies = lies.halved()
        found.append(reading.against(images, lies, changed))
    return found[::-1]


class Changed(NamedTuple):
    """The tiles in which something may have changed, and ids of the images that were added or altered."""

    tiles: Stretches
    names: Collection[str]


@dataclass(frozen=True, slots=True)
class _Images:
    """All images, as far as low zooms show them.

    Attributes:
        footprints: the GeoParquet.
        extent: the longer side of each one's bounding box, where the map is the unit square.
        middle: the middle of each one's bounding box.
        pixels: the pixels of the last low zoom that any of them touches.
        changed: indices of those that were added or altered; None if all are examined.
    """

    footprints: Path
    extent: Points
    middle: Points
    pixels: Pixels
    changed: Numbers | None

    @classmethod
    def read(cls, footprints: Path, zoom: int, changed: Numbers | None) -> Self:
        side = PIXELS << zoom
        frames, found = [np.zeros((0, 4))], [Pixels.union(side, [])]
        for batch in read_batches(footprints, ("geometry",)):
            projected = project(shapely.from_wkb(batch["geometry"].to_numpy()), 0)
            frames.append(shapely.bounds(projected))
            gather(found, pixels_touched(shapely.get_parts(projected), side, scale=float(side)))
        west, north, east, south = np.concatenate(frames).T
        extent = np.maximum(east - west, south - north)
        middle = np.column_stack([west + east, north + south]) / 2.0
        return cls(footprints, extent, middle, Pixels.union(side, found), changed)

    def to_count(self, zoom: int, changed: Changed | None) -> tuple[Numbers, Numbers]:
        """The pixels that hold the middles of images too small to be drawn, in the tiles that were read.

        Returns:
            The number of each such image's pixel, row after row; and the numbers of all pixels that touch a
            middle which lies on their edge, so that rounding decides which of them holds it.
        """
        side = PIXELS << zoom
        small = self.middle[~is_shown(self.extent, zoom)] * float(side)
        around = [
            _pixels_at(small + np.array(each), side)
            for each in itertools.product((-_ON_EDGE, _ON_EDGE), repeat=2)
        ]
        numbers = _pixels_at(small, side)
        on_edge = np.logical_or.reduce([each != numbers for each in around])
        open_ = np.concatenate([each[on_edge] for each in around])
        if changed is not None:
            x, y = numbers % side // PIXELS, numbers // side // PIXELS
            numbers = numbers[changed.tiles.hold(tile_ids(zoom, x, y))]
        return numbers, open_

    def undrawn(self, zoom: int, drawn: NDArray[np.bool_]) -> Names:
        """Which images, of all or of those that changed, are large enough but not drawn."""
        missing = np.flatnonzero(is_shown(self.extent, zoom) & ~drawn)
        if self.changed is not None:
            missing = np.intersect1d(missing, self.changed)
        return Names(self.footprints, missing)


class _Reading:
    """The state of one pass over the tiles of a zoom."""

    def __init__(self, zoom: int, name: str, ids: ImageIds) -> None:
        self.zoom = zoom
        self.name = name
        self.ids = ids
        self.side = PIXELS << zoom
        self.drawn: list[Pixels] = []
        self.seen = np.zeros(len(ids), np.bool_)
        self.squares = [np.zeros((0, 2), np.int64)]  # each one's pixel, and how many images it stands for
        self.faults: list[str] = []
        self.largest = 0

    def add(self, archive: Archive, tile_id: int, run_length: int, offset: int, length: int) -> None:
        self.largest = max(self.largest, length)
        try:
            for layer in read_layers(archive.tile(tile_id, offset, length)):
                self._add(layer, range(tile_id, tile_id + run_length))
        except (BrokenArchive, BrokenTile) as error:
            self.faults.append(f"{tile_name(tile_id)}: {error}")

    def _add(self, layer: Layer, tiles: range) -> None:
        points, sizes, of = polygon_rings(layer.features)
        names, counts = list[str](), np.zeros(len(layer.features), np.int64)
        for number, message in enumerate(layer.features):
            match (said := read_feature(layer, message).properties).get(self.name), said.get("count"):
                case str(name), None:
                    names.append(name)
                case None, int(count) if len(said) == 1:
                    if names:
                        raise BrokenTile(f"a count, {count}, lies above an image")
                    counts[number] = min(count, _MOST)
                case _:
                    raise BrokenTile(f"a feature has neither an id nor a count: {said}")
        corner, counted = _squares(points, sizes, counts[of])
        known = self.ids.find(names)
        known = known[known >= 0]
        if (np.diff(known) <= 0).any():
            raise BrokenTile("an image is drawn twice, or an older one over a newer one")
        self.seen[known] = True
        row, west, east = touched(points * (PIXELS / EXTENT), sizes, of)
        # what is drawn in a tile's buffer is not shown
        is_inside = (row >= 0) & (row < PIXELS)
        row, west, east = row[is_inside], *np.clip((west[is_inside], east[is_inside]), 0, PIXELS)
        for tile in tiles:
            _, x, y = tileid_to_zxy(tile)
            pixel = (corner[:, 1] + PIXELS * y) * self.side + corner[:, 0] + PIXELS * x
            self.squares.append(np.column_stack([pixel, counted]))
            shown = Pixels.of_runs(self.side, row + PIXELS * y, west + PIXELS * x, east + PIXELS * x)
            gather(self.drawn, shown)

    def against(self, images: _Images, lies: Pixels, changed: Changed | None) -> LowZoom:
        drawn = Pixels.union(self.side, self.drawn)
        near, there = drawn, lies
        if changed is not None:
            looked_at = _pixels_of(changed.tiles, self.zoom)
            there = lies.held_by(looked_at)
            # tiles beyond them were not read; what they draw may be what a pixel at the edge needs
            near = Pixels.union(self.side, [drawn, looked_at.grown().without(looked_at)])
        to_draw = is_shown(images.extent, self.zoom)
        pixel, count = np.concatenate(self.squares).T
        to_count, open_ = images.to_count(self.zoom, changed)
        return LowZoom(
            zoom=self.zoom,
            needless=Names(images.footprints, np.flatnonzero(self.seen & ~to_draw)),
            to_draw=int(to_draw.sum()),
            counted=int(count.sum()),
            to_count=len(to_count),
            miscounted=_differing(pixel, count, to_count, open_, self.side),
            undrawn=images.undrawn(self.zoom, self.seen),
            bare=there.outside(near.grown()),
            astray=drawn.outside(lies.grown()),
            faults=self.faults,
            largest=self.largest,
        )


def _squares(points: Points, sizes: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """The pixels of a tile that are drawn with a count: column and row of each, and its count.

    Args:
        points: of all rings, in tile units.
        sizes: number of points of each ring.
        counts: how many images each ring stands for; 0 for those of images.
    """
    is_square = counts > 0
    if not is_square.any():
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    starts = np.cumsum(sizes) - sizes
    least, most = (
        np.minimum.reduceat(points, starts)[is_square],
        np.maximum.reduceat(points, starts)[is_square],
    )
    if (least % PIXEL).any() or (most - least != PIXEL).any() or (sizes[is_square] != _CORNERS).any():
        raise BrokenTile("a count is drawn otherwise than in squares of a pixel")
    return (least // PIXEL).astype(np.int64), counts[is_square]


def _pixels_at(points: Points, side: int) -> Numbers:
    """The number of the pixel that holds each point, row after row."""
    x, y = np.clip(np.floor(points).astype(np.int64), 0, side - 1).T
    return np.asarray(y * side + x, np.int64)


def _differing(pixel: Numbers, count: Numbers, to_count: Numbers, open_: Numbers, side: int) -> list[Pixel]:
    """Pixels that are counted otherwise than they hold middles, but for those that rounding decides."""
    numbers, of = np.unique(np.concatenate([pixel, to_count]), return_inverse=True)
    sums = np.bincount(of, np.concatenate([count, np.full(len(to_count), -1)]), len(numbers))
    wrong = numbers[(sums != 0) & ~np.isin(numbers, open_)]
    return [divmod(each, side)[::-1] for each in wrong.tolist()]


def _pixels_of(tiles: Stretches, zoom: int) -> Pixels:
    x, y = tile_positions(tiles.of_zoom(zoom), zoom)
    row = (PIXELS * y[:, None] + np.arange(PIXELS)).ravel()
    west = np.repeat(PIXELS * x, PIXELS)
    return Pixels.of_runs(PIXELS << zoom, row, west, west + PIXELS)

"""Whether the low zooms tell the truth: what they draw, pixel by pixel, against where the images lie.

A pixel is 1/256 of a tile. Wherever an image touches one, something is drawn there or in one of the eight
round it; and the other way round. Every image is drawn as itself or counted, and once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import shapely
from pmtiles.tile import tileid_to_zxy

from oam_mosaic_assets.core.archive import Archive, BrokenArchive
from oam_mosaic_assets.core.grid import first_tile_id, project, zoom_of
from oam_mosaic_assets.core.pixels import Pixels, touched
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.tiling import EXTENT, PIXELS, TilingPlan
from oam_mosaic_assets.core.vector_tile import BrokenTile, Layer, polygon_rings, read_feature, read_layers

_TOGETHER: Final = 64
"""Sets of pixels that are held before they are joined."""

Pixel = tuple[int, int]
"""Column and row on the grid of a zoom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowZoom:
    """What was found at one low zoom.

    Attributes:
        images: drawn as themselves.
        counted: images that squares stand for.
        bare: where images lie and nothing is drawn near: the first pixel of each run.
        astray: where something is drawn and no image lies near.
        faults: what tiles hold that they should not, with their names.
        largest: bytes of the largest tile, as stored.
    """

    zoom: int
    images: int
    counted: int
    bare: list[Pixel]
    astray: list[Pixel]
    faults: list[str]
    largest: int


def examine_low_zooms(archive: Archive, footprints: Path, plan: TilingPlan) -> list[LowZoom]:
    """Compare the zooms above the plan's `whole_from` with the footprints.

    Args:
        archive: what is judged.
        footprints: the GeoParquet that it shows.
        plan: what was asked for.

    Raises:
        BrokenArchive: a directory is broken.
    """
    name, *_ = plan.properties
    readings = {zoom: _Reading(zoom, name) for zoom in range(plan.zoom_min, plan.whole_from)}
    if not readings:
        return []
    for tile_id, run_length, offset, length in _entries(archive, plan.whole_from):
        if zoom_of(tile_id) in readings:
            readings[zoom_of(tile_id)].add(archive, tile_id, run_length, offset, length)
    lies, found = _where_images_lie(footprints, plan.whole_from - 1), []
    for zoom, reading in sorted(readings.items(), reverse=True):
        while lies.side > PIXELS << zoom:
            lies = lies.halved()
        found.append(reading.against(lies))
    return found[::-1]


class _Reading:
    """The state of one pass over the tiles of a zoom."""

    def __init__(self, zoom: int, name: str) -> None:
        self.zoom = zoom
        self.name = name
        self.side = PIXELS << zoom
        self.drawn: list[Pixels] = []
        self.ids: set[str] = set()
        self.counted = 0
        self.faults: list[str] = []
        self.largest = 0

    def add(self, archive: Archive, tile_id: int, run_length: int, offset: int, length: int) -> None:
        self.largest = max(self.largest, length)
        try:
            for layer in read_layers(archive.tile(tile_id, offset, length)):
                self._add(layer, range(tile_id, tile_id + run_length))
        except (BrokenArchive, BrokenTile) as error:
            zoom, x, y = tileid_to_zxy(tile_id)
            self.faults.append(f"{zoom}/{x}/{y}: {error}")

    def _add(self, layer: Layer, tiles: range) -> None:
        points, sizes, of = polygon_rings(layer.features)
        squares = np.bincount(of, minlength=len(layer.features)).tolist()
        for message, rings in zip(layer.features, squares, strict=True):
            match (said := read_feature(layer, message).properties).get(self.name), said.get("count"):
                case str(name), None:
                    self.ids.add(name)
                case None, int(count) if len(said) == 1:
                    self.counted += count * rings * len(tiles)
                case _:
                    raise BrokenTile(f"a feature has neither an id nor a count: {said}")
        row, west, east = touched(points * (PIXELS / EXTENT), sizes, of)
        # what is drawn beyond a tile's edge is not shown
        is_inside = (row >= 0) & (row < PIXELS)
        row, west, east = row[is_inside], *np.clip((west[is_inside], east[is_inside]), 0, PIXELS)
        for tile in tiles:
            _, x, y = tileid_to_zxy(tile)
            shown = Pixels.of_runs(self.side, row + PIXELS * y, west + PIXELS * x, east + PIXELS * x)
            _gather(self.drawn, shown)

    def against(self, lies: Pixels) -> LowZoom:
        drawn = Pixels.union(self.side, self.drawn)
        return LowZoom(
            zoom=self.zoom,
            images=len(self.ids),
            counted=self.counted,
            bare=lies.outside(drawn.grown()),
            astray=drawn.outside(lies.grown()),
            faults=self.faults,
            largest=self.largest,
        )


def _where_images_lie(footprints: Path, zoom: int) -> Pixels:
    side, found = PIXELS << zoom, [Pixels.union(PIXELS << zoom, [])]
    for batch in read_batches(footprints, ("geometry",)):
        parts = shapely.get_parts(project(shapely.from_wkb(batch["geometry"].to_numpy()), 0))
        rings, of = shapely.get_rings(parts, return_index=True)
        sizes = shapely.get_num_coordinates(rings).astype(np.int64)
        # a ring's last point is its first
        points = np.delete(shapely.get_coordinates(rings), np.cumsum(sizes) - 1, axis=0) * float(side)
        row, west, east = touched(points, sizes - 1, of)
        is_inside = (row >= 0) & (row < side)
        _gather(found, Pixels.of_runs(side, row[is_inside], *np.clip((west, east), 0, side)[:, is_inside]))
    return Pixels.union(side, found)


def _gather(sets: list[Pixels], more: Pixels) -> None:
    sets.append(more)
    if len(sets) >= _TOGETHER:
        sets[:] = [Pixels.union(more.side, sets)]


def _entries(archive: Archive, whole_from: int) -> Iterator[tuple[int, int, int, int]]:
    """Of the directories, about the tiles of the zooms above; they stand in the order of zooms."""
    for directory in archive.directories():
        low = directory[directory.tile_id < first_tile_id(whole_from)]
        columns = (low.tile_id, low.run_length, low.offset, low.length)
        yield from zip(*(column.tolist() for column in columns), strict=True)
        if len(low) < len(directory):
            break

"""How the world is divided for imagery: partitions, blocks, and the pixel grid onto which images are warped.

A pixel's side is 1/256 of a tile's at zoom `FINEST`; x counts east and y south from the map's north-west
corner. A block is a tile at `BLOCK_ZOOM`, a partition one at `PARTITION_ZOOM`. What is drawn at a pixel
depends only on its position, not on the block it is drawn for, so blocks join without seams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from pmtiles.tile import zxy_to_tileid

from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.grid import Geometries, mended, project
from oam_mosaic_assets.core.imagery.pixels import TILE

FINEST: Final = 14
"""The zoom of full detail, about 10 m per pixel at the equator."""

BLOCK_ZOOM: Final = 12
PARTITION_ZOOM: Final = 6

BLOCK: Final = TILE << (FINEST - BLOCK_ZOOM)
"""A block's side in pixels: 1024."""

STEP: Final = 64
"""Pixels between points that are projected exactly; images are read in windows aligned to it."""

WORLD: Final = TILE << FINEST
"""The map's side in pixels."""

_SPECK: Final = 2.0**-20
"""Side in pixels of what stands for a footprint that is thinner than floats can tell apart."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A tile; its zoom follows from the context.

    Attributes:
        x: column, 0 in the west.
        y: row, 0 in the north.
    """

    x: int
    y: int

    def above(self, zooms: int) -> Tile:
        """The tile that contains this one, `zooms` zooms up."""
        return Tile(self.x >> zooms, self.y >> zooms)

    @classmethod
    def named(cls, name: str) -> Tile:
        """The partition with this name. Raises ValueError if the name is not a partition's."""
        zoom, x, y = map(int, name.split("-"))
        if zoom != PARTITION_ZOOM or not (0 <= x < 1 << zoom and 0 <= y < 1 << zoom):
            raise ValueError(f"{name} is not a partition")
        return cls(x, y)

    @property
    def partition(self) -> str:
        """Its name as a partition."""
        return f"{PARTITION_ZOOM}-{self.x}-{self.y}"

    def id(self, zoom: int) -> int:
        """Its PMTiles tile id at a zoom."""
        return zxy_to_tileid(zoom, self.x, self.y)


@dataclass(frozen=True, slots=True)
class Window:
    """The pixels with `x0` <= x < `x1` and `y0` <= y < `y1`."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def of_block(cls, block: Tile) -> Window:
        """All pixels of a block."""
        x, y = block.x * BLOCK, block.y * BLOCK
        return cls(x, y, x + BLOCK, y + BLOCK)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return max(0, self.y1 - self.y0), max(0, self.x1 - self.x0)

    @property
    def is_empty(self) -> bool:
        """Whether it contains no pixels."""
        return 0 in self.shape

    def __and__(self, other: Window) -> Window:
        """The pixels that are in both."""
        return Window(
            max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1)
        )

    def within(self, whole: Window) -> tuple[slice, slice]:
        """Rows and columns of this window in the pixels of one that contains it."""
        return (
            slice(self.y0 - whole.y0, self.y1 - whole.y0),
            slice(self.x0 - whole.x0, self.x1 - whole.x0),
        )

    def widened(self, pixels: int) -> Window:
        """This window, extended by `pixels` on each side."""
        return Window(self.x0 - pixels, self.y0 - pixels, self.x1 + pixels, self.y1 + pixels)

    def grown_to_steps(self) -> Window:
        """The smallest window around it whose edges are on multiples of `STEP`."""
        after = (-(-each // STEP) * STEP for each in (self.x1, self.y1))
        return Window(self.x0 // STEP * STEP, self.y0 // STEP * STEP, *after)


def in_pixels(footprint: Area) -> Area:
    """A footprint (EPSG:4326) in pixel coordinates, made valid there; a speck if that would leave nothing."""
    tiles = project(np.array([footprint], dtype=object), FINEST)
    area: Area = shapely.transform(mended(tiles), lambda places: places * TILE)[0]
    if shapely.is_empty(area):
        x, y = (shapely.get_coordinates(tiles)[0] * TILE).tolist()
        area = shapely.box(x, y, x + _SPECK, y + _SPECK)
    return area


def window_of(area: Area) -> Window:
    """The window around an area in pixel coordinates, even one without extent; grown to `STEP`."""
    west, north, east, south = shapely.bounds(area).tolist()
    whole = Window(0, 0, WORLD, WORLD)
    around = Window(int(west // 1), int(north // 1), int(east // 1) + 1, int(south // 1) + 1)
    return (around & whole).grown_to_steps()


def blocks_of(footprints: Geometries) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which blocks each footprint touches.

    Args:
        footprints: EPSG:4326.

    Returns:
        One entry for each footprint and block: the footprint's index, and the block's x and y, shape (n, 2);
        in the order of footprints.
    """
    tiles = project(footprints, BLOCK_ZOOM)
    last = (1 << BLOCK_ZOOM) - 1
    which: list[NDArray[np.int64]] = []
    places: list[NDArray[np.int64]] = []
    # a footprint that crosses the antimeridian has several parts, each with its own box
    parts, owner = shapely.get_parts(tiles, return_index=True)
    for part, image in zip(parts, owner.tolist(), strict=True):
        west, north, east, south = np.clip(np.floor(shapely.bounds(part)), 0, last).astype(np.int64).tolist()
        columns, rows = np.meshgrid(np.arange(west, east + 1), np.arange(north, south + 1))
        x, y = columns.ravel(), rows.ravel()
        if len(x) > 2:  # noqa: PLR2004  # one or two are all touched, or nearly so
            shapely.prepare(part)
            touched = shapely.intersects(part, shapely.box(x, y, x + 1, y + 1))
            x, y = x[touched], y[touched]
        which.append(np.full(len(x), image, np.int64))
        places.append(np.column_stack([x, y]))
    if not which:
        return np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
    pairs = np.unique(np.column_stack([np.concatenate(which), np.concatenate(places)]), axis=0)
    return pairs[:, 0], pairs[:, 1:]

"""Where imagery exists, as pictures: what the two archives are, and how a block of tiles is drawn.

*Exact* shows the pixels that footprints overlap, *whole* shows all pixels of each tile that they overlap. A
block is a tile of a middle zoom with everything below it. It depends on the parts of footprints that reach it
and on nothing else, so a block in which nothing changed has the same bytes in every build.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import shapely
from PIL import features
from shapely.errors import GEOSException

from oam_mosaic_assets.core.bitmaps import Tiles
from oam_mosaic_assets.core.grid import Geometries, first_tile_id
from oam_mosaic_assets.core.palette import Colour, Palette
from oam_mosaic_assets.core.palette_png import PalettePng
from oam_mosaic_assets.core.palette_webp import PaletteWebp
from oam_mosaic_assets.core.pixels import Numbers, Pixels, pixels_touched
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import ATTRIBUTION

RECIPE: Final = 3
"""Incremented whenever the same footprints give different bytes for a reason that the plan does not show."""

BLOCK: Final = 8192
"""Pixels along a block's edge at the last zoom."""

GREY: Final[Colour] = (128, 128, 128)

OPACITY: Final = 0.4

_PURPOSE: Final = {
    "exact": "the pixels that the footprints of images have something in",
    "whole": "every tile that the footprint of an image has something in",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveragePlan:
    """What a coverage archive is to hold.

    Attributes:
        way: *exact* or *whole*; see above.
        zoom_min: first zoom.
        zoom_max: last zoom.
        pixels: along a tile's edge, 256 or 512.
        colour: of what is covered.
        opacity: of what is covered, 0 to 1.
        format: of tiles.
        attribution: HTML that a map shows in its corner.
    """

    way: Literal["exact", "whole"]
    zoom_min: int = 0
    zoom_max: int = 15
    pixels: int = 256
    colour: Colour = GREY
    opacity: float = OPACITY
    format: Literal["png", "webp"] = "png"
    attribution: str = ATTRIBUTION

    @property
    def picture(self) -> Palette:
        """How tiles are encoded."""
        kind = PalettePng if self.format == "png" else PaletteWebp
        return kind(pixels=self.pixels, colour=self.colour, opacity=self.opacity)

    @property
    def block_zoom(self) -> int:
        """The zoom whose tiles are blocks."""
        return max(0, self.zoom_max - (BLOCK // self.pixels).bit_length() + 1)

    def digest(self) -> str:
        """Digest of plan and libraries that affect bytes, 12 hex digits; another means other tiles."""
        packer = zlib.ZLIB_RUNTIME_VERSION if self.format == "png" else features.version("webp")
        recipe = [RECIPE, asdict(self), shapely.geos_version_string, packer]
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]

    def metadata(self, snapshot: str) -> dict[str, Any]:
        """The archive's metadata.

        Args:
            snapshot: the digest of the snapshot that was drawn.
        """
        return {
            "name": f"OpenAerialMap coverage, {self.way}",
            "description": f"Where OpenAerialMap holds openly licensed imagery: {_PURPOSE[self.way]}.",
            "attribution": self.attribution,
            "type": "overlay",
            "format": self.format,
            "version": "1",
            "snapshot": snapshot,
        }


def tiles_below(blocks: Numbers, plan: CoveragePlan) -> Stretches:
    """Blocks, given by id, and all tiles below them; in each zoom those of a block are consecutive."""
    ordinal, found = blocks - first_tile_id(plan.block_zoom), []
    for zoom in range(max(plan.block_zoom, plan.zoom_min), plan.zoom_max + 1):
        deeper = 2 * (zoom - plan.block_zoom)
        begin = (ordinal << deeper) + first_tile_id(zoom)
        found.append(Stretches(begin, begin + (1 << deeper)))
    return Stretches.union(found)


def tiles_above(blocks: Numbers, zoom: int, plan: CoveragePlan) -> Numbers:
    """Ids of the tiles of a zoom that lie above blocks, given by id; ascending."""
    ordinal = blocks - first_tile_id(plan.block_zoom)
    return np.unique(ordinal >> 2 * (plan.block_zoom - zoom)) + first_tile_id(zoom)


def is_covered(parts: Geometries, column: int, row: int, plan: CoveragePlan) -> bool:
    """Whether a single one of these polygons covers the whole block; see `block_drawn`."""
    scale = float(1 << plan.block_zoom)
    box = shapely.box(column / scale, row / scale, (column + 1) / scale, (row + 1) / scale)
    return bool(shapely.covers(parts, box).any())


def block_drawn(parts: Geometries, column: int, row: int, plan: CoveragePlan) -> Iterator[tuple[int, Tiles]]:
    """Draw a block: yields zoom and tiles, from the last zoom up.

    Args:
        parts: polygons that may reach the block, valid, in tile coordinates of zoom 0.
        column: of the block among the tiles of its zoom.
        row: of the block.
        plan: what is drawn.
    """
    zoom = plan.block_zoom
    tiles = Tiles.of_runs(plan.pixels, _pixels_of_block(parts, column, row, plan))
    for deeper in range(plan.zoom_max, max(zoom, plan.zoom_min) - 1, -1):
        if not len(tiles):
            return
        shift = deeper - zoom
        yield deeper, tiles.moved(column << shift, row << shift)
        tiles = tiles.halved()


def _pixels_of_block(parts: Geometries, column: int, row: int, plan: CoveragePlan) -> Pixels:
    """The covered pixels at the last zoom, counted from the block's north-western corner."""
    side = plan.pixels << (plan.zoom_max - plan.block_zoom)
    scale = float(1 << plan.block_zoom)
    # to join polygons, GEOS may have to move corners by 1e-12 of the largest coordinate. Counted from the
    # map's corner, not the block's, that would take a side that lies along a pixel's across it.
    corner = np.array([column, row]) / scale
    parts = shapely.transform(parts, lambda points: points - corner)
    box = shapely.box(0.0, 0.0, 1.0 / scale, 1.0 / scale)
    shapely.prepare(box)
    inside = shapely.contains_properly(box, parts)
    parts = _dissolved([*parts[inside], *shapely.intersection(parts[~inside], box)])
    return pixels_touched(parts, side, scale=scale * side)


def _dissolved(parts: Sequence[shapely.Geometry]) -> Geometries:
    """The union of these polygons: fewer edges to follow, the same pixels."""
    whole = np.array(parts, dtype=object)
    with suppress(GEOSException):  # polygons that cannot be joined are followed one by one
        whole = np.array([shapely.disjoint_subset_union_all(whole)])
    polygons = shapely.get_parts(whole)
    found: Geometries = polygons[shapely.area(polygons) > 0.0]
    return found

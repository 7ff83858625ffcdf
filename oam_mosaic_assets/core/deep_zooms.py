"""The tiles of the last zooms, where outlines are not simplified: cut here, not by tippecanoe.

They are nine tenths of all tiles, with few corners each. Outlines are cut zoom by zoom, thousands of pieces
together, each from the piece in the tile above; a piece that covers its tile is not cut again below it. A
tile depends on the images that reach it and on nothing else. Source: the Vector Tile Specification 2.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product, repeat
from pathlib import Path
from typing import Final, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import Geometries, tile_ids, tile_positions
from oam_mosaic_assets.core.line_blocks import BLOCK, LineBlocks, blocks_of, parts_of
from oam_mosaic_assets.core.pieces import (
    DRAWN,
    MARGIN,
    cut_to_tile,
    moved,
    on_the_grid,
    polygons_of,
    united,
)
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tile_writing import (
    Features,
    Said,
    Tile,
    head_of_layer,
    packed,
    said_of_image,
    shapes,
    tile_of_layer,
)
from oam_mosaic_assets.core.tiling import EXTENT, TilingPlan

_TOGETHER: Final = 2**13
"""Pieces that are processed together."""

_WHOLE: Final = shapes(np.array([DRAWN]), np.zeros(1, np.int64))[0]
"""The shape of an image that covers the whole tile, encoded."""

_LARGE: Final = 1_000
"""An outline with more corners is cut down to its blocks zoom by zoom, not from the whole for each block."""


def deep_zoom_tiles(
    lines: Path,
    plan: TilingPlan,
    wanted: Stretches,
    *,
    share: int = 0,
    of: int = 1,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Iterator[Tile]:
    """Draw the zooms of a plan that tippecanoe does not.

    Holds three numbers for each pair of an image and a block that it reaches, and the images of some blocks.

    Args:
        lines: GeoJSON as tippecanoe reads it, in drawing order; see `write_geojson`.
        plan: which zooms, and what the layer is called.
        wanted: the tiles to draw.
        share: which share of them to draw, from 0 on.
        of: how many shares there are.
        on_progress: called with the part of the share that is done, 0 to 1.

    Returns:
        The tiles in no particular order; the same lines give the same bytes.
    """
    if not plan.deep_zooms:
        return
    wanted = wanted.common(Stretches.of_zooms(plan.deep_zooms[0], plan.zoom_max))
    blocks = LineBlocks.of(lines, wanted.above(BLOCK, plan.zoom_max), plan.deep_zooms[0])
    drawing, groups = _Drawing.planned(plan, wanted), -(-(len(blocks) - share) // of)
    with lines.open("rb") as content:
        for number, (ids, places) in enumerate(blocks.groups(share, of), start=1):
            images = _Images.read([blocks.read(content.fileno(), place) for place in places], plan)
            for tiles in drawing.below(images, ids):
                yield from tiles
            on_progress(number / groups)


@dataclass(frozen=True, slots=True, eq=False)
class _Images:
    """Images by number, in drawing order.

    Attributes:
        parts: the polygons of all images, in tile coordinates of zoom 0.
        image: the image of each polygon.
        zooms: the first and last zoom that each image is drawn at; shape (n, 2).
        said: the properties of each image.
    """

    parts: Geometries
    image: Numbers
    zooms: Numbers
    said: list[Said]

    @classmethod
    def read(cls, lines: list[bytes], plan: TilingPlan) -> Self:
        parts, image = parts_of(lines)
        stated = [json.loads(line) for line in lines]
        limits = (each.get("tippecanoe", {}) for each in stated)
        always = plan.whole_from, plan.zoom_max
        zooms = [(each["minzoom"], each["maxzoom"]) if each else always for each in limits]
        said = [said_of_image(each["properties"], plan.properties) for each in stated]
        return cls(parts, image, np.array(zooms), said)


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Pieces of images, as tiles of one zoom draw them, in tile units.

    Attributes:
        x: column of the tile.
        y: row of the tile.
        image: the image it is a piece of.
        polygon: the piece.
        whole: whether it covers the whole tile, buffer included.
    """

    x: Numbers
    y: Numbers
    image: Numbers
    polygon: Geometries
    whole: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, which: slice | Numbers | NDArray[np.bool_]) -> _Pieces:
        return _Pieces(
            self.x[which], self.y[which], self.image[which], self.polygon[which], self.whole[which]
        )

    @staticmethod
    def joined(some: Sequence[_Pieces]) -> _Pieces:
        """All these pieces, as one set."""
        return _Pieces(
            np.concatenate([each.x for each in some]),
            np.concatenate([each.y for each in some]),
            np.concatenate([each.image for each in some]),
            np.concatenate([each.polygon for each in some]),
            np.concatenate([each.whole for each in some]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """How tiles are drawn.

    Attributes:
        plan: which zooms, and which properties.
        wanted: the tiles to be drawn.
        above: the wanted tiles and those above them, by zoom.
        head: the layer without its features.
    """

    plan: TilingPlan
    wanted: Stretches
    above: dict[int, Stretches]
    head: bytes

    @classmethod
    def planned(cls, plan: TilingPlan, wanted: Stretches) -> Self:
        if plan.deep_zooms[0] < BLOCK:
            raise ValueError(f"outlines can be exact from z{BLOCK} on, not from z{plan.deep_zooms[0]}")
        above = {zoom: wanted.above(zoom, plan.zoom_max) for zoom in range(BLOCK, plan.zoom_max + 1)}
        return cls(plan, wanted, above, head_of_layer(plan.layer, plan.properties))

    def below(self, images: _Images, blocks: Numbers) -> Iterator[list[Tile]]:
        """The tiles below some blocks, in batches."""
        yield from self._below(_in_blocks(images, blocks), BLOCK, images)

    def _below(self, pieces: _Pieces, zoom: int, images: _Images) -> Iterator[list[Tile]]:
        """Draw the tiles that pieces, not yet cut to them, lie in, and all tiles below those."""
        ids = tile_ids(zoom, pieces.x, pieces.y)
        needed = self.above[zoom].hold(ids) & (images.zooms[pieces.image, 1] >= zoom)
        pieces, ids = pieces[needed], ids[needed]
        order = np.lexsort([pieces.image, ids])
        pieces, ids = pieces[order], ids[order]
        for some in _together(ids):
            cut, of = _cut(pieces[some])
            if zoom in self.plan.deep_zooms:
                yield self._drawn(cut, ids[some][of], zoom, images)
            if zoom < self.plan.zoom_max:
                yield from self._below(_quartered(cut), zoom + 1, images)

    def _drawn(self, pieces: _Pieces, ids: Numbers, zoom: int, images: _Images) -> list[Tile]:
        shown = self.wanted.hold(ids) & (images.zooms[pieces.image, 0] <= zoom)
        pieces = pieces[shown]
        tile, image, shape = _encoded(pieces, ids[shown])
        firsts = np.flatnonzero(np.diff(tile, prepend=-1))
        x, y = (each.tolist() for each in tile_positions(tile[firsts], zoom))
        image_of, alike, contents = image.tolist(), dict[tuple[int, ...], bytes](), []
        for start, stop in pairwise([*firsts.tolist(), len(tile)]):
            these, drawn = image_of[start:stop], shape[start:stop]
            # neighbouring tiles that the same images cover entirely are identical
            in_midst = tuple(these) if drawn.count(_WHOLE) == len(drawn) else ()
            content = alike.get(in_midst) or packed(self._tile(these, drawn, images))
            if in_midst:
                alike[in_midst] = content
            contents.append(content)
        return list(map(Tile, repeat(zoom), x, y, contents))

    def _tile(self, image: list[int], shape: list[bytes], images: _Images) -> bytes:
        features = Features()
        for each, drawn in zip(image, shape, strict=True):
            features.add(images.said[each], drawn)
        return tile_of_layer([self.head, features.fields])


def _in_blocks(images: _Images, blocks: Numbers) -> _Pieces:
    """The parts of images that reach blocks, in the blocks' units; those of very many corners cut down."""
    is_large, of_blocks = shapely.get_num_coordinates(images.parts) > _LARGE, Stretches.of(blocks)
    part, block = blocks_of(images.parts[~is_large], np.flatnonzero(~is_large))
    part, block = (each[of_blocks.hold(block)] for each in (part, block))
    x, y = tile_positions(block, BLOCK)
    local = moved(images.parts[part], -EXTENT * np.column_stack([x, y]), float(EXTENT << BLOCK))
    found = [_Pieces(x, y, images.image[part], local, np.zeros(len(part), np.bool_))]
    if is_large.any():
        zeros = np.zeros(int(is_large.sum()), np.int64)
        world = shapely.transform(images.parts[is_large], lambda points: points * float(EXTENT))
        pieces = _Pieces(zeros, zeros, images.image[is_large], world, zeros.astype(np.bool_))
        for zoom in range(1, BLOCK + 1):
            pieces = _quartered(_cut(pieces)[0])
            pieces = pieces[of_blocks.above(zoom, BLOCK).hold(tile_ids(zoom, pieces.x, pieces.y))]
        found.append(pieces)
    return _Pieces.joined(found)


def _together(ids: Numbers) -> Iterator[slice]:
    """Slices of not too many pieces each, none of which ends within a tile."""
    firsts = np.append(np.flatnonzero(np.diff(ids, prepend=-1)), len(ids))
    start = 0
    while start < len(ids):
        stop = int(firsts[np.searchsorted(firsts, start + _TOGETHER, side="right") - 1])
        stop = stop if stop > start else int(firsts[np.searchsorted(firsts, start, side="right")])
        yield slice(start, stop)
        start = stop


def _cut(pieces: _Pieces) -> tuple[_Pieces, Numbers]:
    """What tiles draw of pieces, and the index of the piece that each came from; some leave nothing."""
    polygon = pieces.polygon.copy()
    polygon[~pieces.whole] = cut_to_tile(polygon[~pieces.whole])
    polygon, of = polygons_of(polygon)
    whole = shapely.area(polygon) == DRAWN.area
    polygon[whole] = DRAWN
    return _Pieces(pieces.x[of], pieces.y[of], pieces.image[of], polygon, whole), of


def _quartered(pieces: _Pieces) -> _Pieces:
    """Each piece, once for each of the four tiles of the next zoom that its frame reaches, in its units."""
    west, north, east, south = shapely.bounds(pieces.polygon).T * 2.0
    found = []
    for right, below in product((0, 1), repeat=2):
        left, top = right * EXTENT, below * EXTENT
        there = (west < left + EXTENT + MARGIN) & (east > left - MARGIN)
        there &= (north < top + EXTENT + MARGIN) & (south > top - MARGIN)
        some, corner = pieces[there], np.tile([-left, -top], (int(there.sum()), 1))
        polygon, edge = some.polygon, ~some.whole  # what covers the tile above covers this one
        polygon[edge] = moved(polygon[edge], corner[edge], 2.0)
        found.append(_Pieces(2 * some.x + right, 2 * some.y + below, some.image, polygon, some.whole))
    return _Pieces.joined(found)


def _encoded(pieces: _Pieces, ids: Numbers) -> tuple[Numbers, Numbers, list[bytes]]:
    """Tile, image and shape of each feature.

    Args:
        pieces: sorted by tile, then in drawing order.
        ids: the tile of each piece.
    """
    firsts = np.flatnonzero((np.diff(ids, prepend=-1) != 0) | (np.diff(pieces.image, prepend=-1) != 0))
    sizes = np.diff(firsts, append=len(ids))
    feature = np.repeat(np.arange(len(firsts)), sizes)
    found: list[bytes | None] = [None] * len(firsts)
    covers = pieces.whole & (sizes[feature] == 1)
    for each in feature[covers].tolist():
        found[each] = _WHOLE
    polygon, of = on_the_grid(pieces.polygon[~covers])
    polygon, of = united(polygon, feature[~covers][of])
    begins = np.flatnonzero(np.diff(of, prepend=-1))
    for each, shape in zip(of[begins].tolist(), shapes(polygon, begins), strict=True):
        found[each] = shape
    # some pieces vanish in rounding
    drawn = firsts[[each is not None for each in found]]
    return ids[drawn], pieces.image[drawn], [each for each in found if each is not None]

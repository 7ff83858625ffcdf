"""The tiles of the low zooms, where most images are smaller than a pixel: made here, not by tippecanoe.

A pixel is 1/256 of a tile's edge. An image at least a pixel wide or tall is drawn as its footprint, with its
properties; smaller ones are counted in the pixel that holds their middle, and that pixel is drawn with the
`count`. So at each zoom every image is drawn once or counted once. Source: the Vector Tile Specification 2.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.grid import Geometries, project, tile_ids, tiles_between
from oam_mosaic_assets.core.pieces import MARGIN, cut_to_tile, moved, on_the_grid
from oam_mosaic_assets.core.snapshot import frames_of, read_batches, rows_in
from oam_mosaic_assets.core.splice import Splice
from oam_mosaic_assets.core.tile_writing import (
    Counted,
    Features,
    Said,
    Tile,
    count_of_layer,
    packed,
    said_of_image,
    shapes,
    shapes_of_rings,
    tile_of_images,
)
from oam_mosaic_assets.core.tiling import EXTENT, PIXEL, PIXELS, TilingPlan

Numbers = NDArray[np.int64]

_ROUNDING: Final = 2.0**-20
"""In pixels; errors of rounding are far smaller."""

_SIMPLIFIED: Final = 1.0
"""Tolerance of simplification, tile units; the same as tippecanoe's."""

_CORNERS_TOGETHER: Final = 2**16
"""Corners of all outlines that are cut in one batch: some tens of megabytes."""

_SQUARE: Final = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * PIXEL
"""Corners of a pixel, clockwise on the screen."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """The pieces of images that tiles draw: polygons in tile units.

    Attributes:
        tile: the piece's tile, row and column packed into one number; ascending.
        image: index of the image it is a piece of; ascending within a tile.
        polygon: the piece, with integer coordinates.
    """

    tile: Numbers
    image: Numbers
    polygon: Geometries


def low_zoom_tiles(footprints: Path, plan: TilingPlan, only: Splice | None = None) -> Iterator[Tile]:
    """Draw the low zooms of a plan: those before `whole_from`, from which all images are drawn as themselves.

    Holds the middle and extent of each image and the tiles of all these zooms in memory, but only one batch
    of footprints at a time.

    Args:
        footprints: the GeoParquet, in drawing order.
        plan: which zooms to draw, and which properties images have.
        only: the tiles to draw, and the images whose outlines are; squares stand for all small images
            nevertheless. None draws all.

    Returns:
        The tiles in the order of their PMTiles ids; the same footprints give the same bytes.
    """
    zooms = range(plan.zoom_min, plan.whole_from)
    sheets: dict[int, defaultdict[int, Features]] = {zoom: defaultdict(Features) for zoom in zooms}
    middles, extents, start = [], [], 0
    for batch in read_batches(footprints, (*plan.columns, "bbox", "geometry")) if zooms else ():
        west, north, east, south = frames_of(batch["bbox"]).T
        extent = np.maximum(east - west, south - north)
        middles.append(np.column_stack([west + east, north + south]) / 2.0)
        extents.append(extent)
        wanted = np.arange(len(batch)) if only is None else rows_in(only.images, start, batch)
        start += len(batch)
        wanted = wanted[is_shown(extent[wanted], zooms[-1])]
        areas = project(shapely.from_wkb(batch["geometry"].to_numpy()[wanted]), 0)
        parts, of = shapely.get_parts(areas, return_index=True)
        image = wanted[of]
        said = _said(batch, image, plan)
        for zoom in reversed(zooms):  # an outline simplified for one zoom is less work at the next
            shown = is_shown(extent[image], zoom)
            if not shown.any():
                break
            parts, image = shapely.simplify(parts[shown], _SIMPLIFIED / (EXTENT << zoom)), image[shown]
            _add_outlines(sheets[zoom], _wanted(_pieces(parts, image, zoom), zoom, only), said)
    for zoom in zooms:
        counted = [middle[~is_shown(extent, zoom)] for middle, extent in zip(middles, extents, strict=True)]
        squares = _squares(np.concatenate(counted), zoom)
        if only is not None:
            held = _held(np.array(list(squares), np.int64), zoom, only)
            squares = dict(each for each, is_held in zip(squares.items(), held, strict=True) if is_held)
        yield from _finished(sheets.pop(zoom), squares, plan, zoom)


def _wanted(pieces: _Pieces, zoom: int, only: Splice | None) -> _Pieces:
    if only is None:
        return pieces
    held = _held(pieces.tile, zoom, only)
    return _Pieces(pieces.tile[held], pieces.image[held], pieces.polygon[held])


def _held(tile: Numbers, zoom: int, only: Splice) -> NDArray[np.bool_]:
    """Which of these tiles, row and column packed into one number, are wanted."""
    return only.tiles.hold(tile_ids(zoom, tile & (1 << zoom) - 1, tile >> zoom))


def is_shown(extent: NDArray[np.float64], zoom: int) -> NDArray[np.bool_]:
    """Which images are drawn as themselves at a low zoom: those at least one pixel wide or tall.

    Args:
        extent: the longer side of each image's bounding box, where the map is the unit square.
        zoom: below the plan's `whole_from`.
    """
    # many images are as large as a pixel of a web map; whether one is shown must not depend on the last bit
    # of its extent, which differs from processor to processor
    shown: NDArray[np.bool_] = extent * float(PIXELS << zoom) >= 1.0 - _ROUNDING
    return shown


def _pieces(parts: Geometries, image: Numbers, zoom: int) -> _Pieces:
    """Cut images at the edges of tiles and round the pieces to the tile grid.

    Args:
        parts: polygons, where the map is the unit square.
        image: index of the image that each is a part of.
        zoom: the tiles' zoom.
    """
    parts = shapely.transform(parts, lambda points: points * float(EXTENT << zoom))
    bounds = shapely.bounds(parts) + np.array([-1, -1, 1, 1]) * MARGIN
    west, north, east, south = np.clip(np.floor(bounds / EXTENT).astype(np.int64), 0, (1 << zoom) - 1).T
    which, x, y = tiles_between(west, north, east + 1, south + 1)
    shapely.prepare(parts)
    near = shapely.intersects(parts[which], _drawn_by(x, y))
    which, x, y = which[near], x[near], y[near]
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, object))]
    # in batches, as an outline is copied for each tile: a few large ones would fill the memory
    for some in _split(shapely.get_num_coordinates(parts)[which].astype(np.int64)):
        offset = -EXTENT * np.column_stack([x[some], y[some]])
        # a spike thinner than a tile unit may still be longer than a pixel
        polygon, of = on_the_grid(cut_to_tile(moved(parts[which[some]], offset)), spikes=True)
        found.append(((y[some][of] << zoom) + x[some][of], image[which[some][of]], polygon))
    tile, image, polygon = map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort([image, tile])
    return _Pieces(tile[order], image[order], polygon[order])


def _drawn_by(x: Numbers, y: Numbers) -> Geometries:
    """The areas that tiles draw, buffer included, in tile units from the map's north-western corner."""
    west, north = EXTENT * x - MARGIN, EXTENT * y - MARGIN
    side = EXTENT + 2 * MARGIN
    return np.asarray(shapely.box(west, north, west + side, north + side), dtype=object)


def _split(corners: Numbers) -> Iterator[slice]:
    """Slices of outlines with a limited number of corners in total, except where a single one has more."""
    group = np.cumsum(corners) // _CORNERS_TOGETHER
    bounds = [*np.flatnonzero(np.diff(group, prepend=-1)).tolist(), len(corners)]
    return (slice(start, stop) for start, stop in pairwise(bounds))


def _said(batch: pl.DataFrame, images: Numbers, plan: TilingPlan) -> dict[int, Said]:
    """The encoded properties of some images of a batch, by index."""
    images = np.unique(images)
    stated = map(plan.properties_of, batch.select(plan.columns)[images].iter_rows(named=True))
    return {
        image: said_of_image(each, plan.properties)
        for image, each in zip(images.tolist(), stated, strict=True)
    }


def _add_outlines(sheets: defaultdict[int, Features], pieces: _Pieces, said: Mapping[int, Said]) -> None:
    if not len(pieces.tile):
        return
    begins = np.flatnonzero(np.diff((pieces.tile << 32) + pieces.image, prepend=-1))
    of_feature = zip(
        pieces.tile[begins].tolist(),
        pieces.image[begins].tolist(),
        shapes(pieces.polygon, begins),
        strict=True,
    )
    for tile, image, shape in of_feature:
        sheets[tile].add(said[image], shape)


def _squares(middles: NDArray[np.float64], zoom: int) -> dict[int, tuple[Numbers, Numbers]]:
    """By tile: north-western corners of the pixels that hold images, in pixels, and how many each holds."""
    side = PIXELS << zoom
    x, y = np.clip(np.floor(middles * side).astype(np.int64), 0, side - 1).T
    tile = ((y // PIXELS) << zoom) + x // PIXELS
    code, count = np.unique((tile * PIXELS + y % PIXELS) * PIXELS + x % PIXELS, return_counts=True)
    tile, corner = code // PIXELS**2, np.column_stack([code % PIXELS, code // PIXELS % PIXELS])
    bounds = [*np.flatnonzero(np.diff(tile, prepend=-1)).tolist(), len(tile)]
    return {int(tile[start]): (corner[start:stop], count[start:stop]) for start, stop in pairwise(bounds)}


def _finished(
    sheets: defaultdict[int, Features],
    squares: dict[int, tuple[Numbers, Numbers]],
    plan: TilingPlan,
    zoom: int,
) -> Iterator[Tile]:
    tile = np.array(sorted({*sheets, *squares}), dtype=np.int64)
    x, y = tile & (1 << zoom) - 1, tile >> zoom
    for each in np.argsort(tile_ids(zoom, x, y)).tolist():
        images, counted = sheets[int(tile[each])], squares.get(int(tile[each]))
        content = tile_of_images(
            plan.layer, [*plan.properties], images, _counted(*counted) if counted else ()
        )
        yield Tile(zoom, int(x[each]), int(y[each]), packed(content))


def _counted(corner: Numbers, count: Numbers) -> list[Counted]:
    """The squares of each distinct count.

    Args:
        corner: north-western corners of the pixels, in pixels.
        count: number of images in each pixel.
    """
    order = np.argsort(count, kind="stable")
    corner, count = corner[order], count[order]
    points = (corner[:, None, :] * PIXEL + _SQUARE).reshape(-1, 2)
    begins = np.flatnonzero(np.diff(count, prepend=0))
    drawn = shapes_of_rings(points, np.full(len(corner), len(_SQUARE)), begins)
    counts = map(count_of_layer, count[begins].tolist())
    return list(map(Counted, counts, drawn))

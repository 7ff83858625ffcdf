"""The tiles of the low zooms, where most images are smaller than a pixel: made here, not by tippecanoe.

A pixel is 1/256 of a tile. An image that reaches a pixel from west to east or from north to south is drawn as
its footprint, with its properties; the others are counted by the pixel that their middle lies in, and the
pixel is drawn with the `count`. So at each zoom every image is drawn once, or counted once. Source: the
Vector Tile Specification 2.1.
"""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.grid import Geometries, project, tile_ids, tiles_between
from oam_mosaic_assets.core.snapshot import MITRE, read_batches
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT, PIXELS, TilingPlan
from oam_mosaic_assets.core.vector_tile import POLYGON, add_value, new_layer, polygon_commands, tile_of

Numbers = NDArray[np.int64]

Said = list[tuple[int, str | float]]
"""What is said of an image: properties, by their number in the plan, and their values; first its name."""

_MARGIN: Final = round(BUFFER * EXTENT)
"""Tile units that are drawn beyond a tile's edge."""

_PIXEL: Final = EXTENT // PIXELS
"""Tile units."""

_WIDENED: Final = 2.0
"""Tile units by which an outline is moved out where rounding would leave nothing of a part of it."""

_SIMPLIFIED: Final = 1.0
"""Tile units by which an outline may stray; tippecanoe's as well."""

_SQUARE: Final = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * _PIXEL
"""Corners of a pixel, clockwise on the screen."""


class Reached(NamedTuple):
    """Tiles, and the last zoom at which each image reaches one of them; -1 for none."""

    tiles: Stretches
    deepest: NDArray[np.int8]


class Tile(NamedTuple):
    """A tile's place, and what it holds, gzipped."""

    zoom: int
    x: int
    y: int
    content: bytes


@dataclass(slots=True)
class _Sheet:
    """What is gathered of one tile.

    Attributes:
        outlines: features and the values of their properties, as parts of the layer's message.
        values: how many.
        shared: where those stand that several images may have in common; all but names.
    """

    outlines: bytearray = field(default_factory=bytearray)
    values: int = 0
    shared: dict[str | float, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """What tiles draw of images: polygons in tile units.

    Attributes:
        tile: row and column as one number each, ascending.
        image: whose footprint it is; ascending in a tile.
        polygon: with whole numbers for coordinates.
    """

    tile: Numbers
    image: Numbers
    polygon: Geometries


def low_zoom_tiles(footprints: Path, plan: TilingPlan, only: Reached | None = None) -> Iterator[Tile]:
    """Draw the zooms of a plan that lie above the one from which all images are drawn as themselves.

    Holds the middle of each image and the tiles of all these zooms, but no more than a batch of footprints.

    Args:
        footprints: the GeoParquet, in drawing order.
        plan: which zooms, and what a tile says of an image.
        only: the tiles that are wanted, and the images that reach them; None are all.

    Returns:
        The tiles in the order of PMTiles' ids; the same footprints give the same bytes.
    """
    zooms = range(plan.zoom_min, plan.whole_from)
    sheets: dict[int, defaultdict[int, _Sheet]] = {zoom: defaultdict(_Sheet) for zoom in zooms}
    middles, extents, start = [], [], 0
    for batch in read_batches(footprints, (*plan.columns, "geometry")) if zooms else ():
        projected = project(shapely.from_wkb(batch["geometry"].to_numpy()), 0)
        west, north, east, south = shapely.bounds(projected).T
        extent = np.maximum(east - west, south - north)
        middles.append(np.column_stack([west + east, north + south]) / 2.0)
        extents.append(extent)
        deepest = np.full(len(batch), plan.whole_from) if only is None else only.deepest[start:][: len(batch)]
        start += len(batch)
        parts, image = shapely.get_parts(projected, return_index=True)
        wanted = _is_wanted(extent, deepest, zooms)[image]
        parts, image = parts[wanted], image[wanted]
        said = _said(batch, image, plan)
        for zoom in reversed(zooms):  # what is simplified for a zoom is less work at the one before
            shown = is_shown(extent[image], zoom)
            if not shown.any():
                break
            parts, image = shapely.simplify(parts[shown], _SIMPLIFIED / (EXTENT << zoom)), image[shown]
            here = deepest[image] >= zoom
            if here.any():
                pieces = _wanted(_pieces(parts[here], image[here], zoom), zoom, only)
                _add_outlines(sheets[zoom], pieces, said)
    for zoom in zooms:
        counted = [middle[~is_shown(extent, zoom)] for middle, extent in zip(middles, extents, strict=True)]
        squares = _squares(np.concatenate(counted), zoom)
        if only is not None:
            held = _held(np.array(list(squares), np.int64), zoom, only)
            squares = dict(each for each, is_held in zip(squares.items(), held, strict=True) if is_held)
        yield from _finished(sheets.pop(zoom), squares, plan, zoom)


def _is_wanted(
    extent: NDArray[np.float64], deepest: NDArray[np.integer[Any]], zooms: range
) -> NDArray[np.bool_]:
    """Which images are drawn as themselves at some zoom at which they reach a wanted tile."""
    last = np.minimum(deepest, zooms[-1])
    shown: NDArray[np.bool_] = (last >= zooms[0]) & (extent * PIXELS * 2.0**last >= 1.0)
    return shown


def _wanted(pieces: _Pieces, zoom: int, only: Reached | None) -> _Pieces:
    if only is None:
        return pieces
    held = _held(pieces.tile, zoom, only)
    return _Pieces(pieces.tile[held], pieces.image[held], pieces.polygon[held])


def _held(tile: Numbers, zoom: int, only: Reached) -> NDArray[np.bool_]:
    """Which tiles, row and column as one number each, are wanted."""
    return only.tiles.hold(tile_ids(zoom, tile & (1 << zoom) - 1, tile >> zoom))


def is_shown(extent: NDArray[np.float64], zoom: int) -> NDArray[np.bool_]:
    """Which images are drawn as themselves at a low zoom: those that reach a pixel.

    Args:
        extent: the longer side of an image's frame; the map is the unit square.
        zoom: below the plan's `whole_from`.
    """
    shown: NDArray[np.bool_] = extent * float(PIXELS << zoom) >= 1.0
    return shown


def _pieces(parts: Geometries, image: Numbers, zoom: int) -> _Pieces:
    """Cut images into tiles, on the tiles' grid.

    Args:
        parts: polygons; the map is the unit square.
        image: index of the image that each is a part of.
        zoom: of the tiles.
    """
    parts = shapely.transform(parts, lambda points: points * float(EXTENT << zoom))
    bounds = shapely.bounds(parts) + np.array([-1, -1, 1, 1]) * _MARGIN
    west, north, east, south = np.clip(np.floor(bounds / EXTENT).astype(np.int64), 0, (1 << zoom) - 1).T
    which, x, y = tiles_between(west, north, east + 1, south + 1)
    local = _moved(parts[which], -EXTENT * np.column_stack([x, y]))
    crosses = ~_lies_within(local)
    local[crosses] = shapely.clip_by_rect(
        local[crosses], -_MARGIN, -_MARGIN, EXTENT + _MARGIN, EXTENT + _MARGIN
    )
    polygon, of = _polygons(local)
    rounded = shapely.transform(polygon, np.rint)
    # what rounding folds, a spike above all, is widened as well and put on the grid with care
    broken = ~shapely.is_valid(rounded)
    wide = shapely.buffer(polygon[broken], _WIDENED, join_style="mitre", mitre_limit=MITRE)
    rounded[broken] = shapely.set_precision(wide, 1.0)
    polygon, again = _polygons(rounded)
    of = of[again]
    tile, image = (y[of] << zoom) + x[of], image[which[of]]
    order = np.lexsort([image, tile])
    return _Pieces(tile[order], image[order], polygon[order])


def _moved(geometries: Geometries, offset: Numbers) -> Geometries:
    points, of = shapely.get_coordinates(geometries, return_index=True)
    moved: Geometries = shapely.set_coordinates(geometries.copy(), points + offset[of])
    return moved


def _lies_within(local: Geometries) -> NDArray[np.bool_]:
    west, north, east, south = shapely.bounds(local).T
    within: NDArray[np.bool_] = (np.minimum(west, north) >= -_MARGIN) & (
        np.maximum(east, south) <= EXTENT + _MARGIN
    )
    return within


def _polygons(geometries: Geometries) -> tuple[Geometries, NDArray[np.int64]]:
    """The polygons that geometries consist of, and which each belongs to; points and lines are left out."""
    parts, of = geometries, np.arange(len(geometries))
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():  # collections hold multipolygons
        parts, again = shapely.get_parts(parts, return_index=True)
        of = of[again]
    solid = shapely.area(parts) > 0.0
    return parts[solid], of[solid]


def _said(batch: pl.DataFrame, images: Numbers, plan: TilingPlan) -> dict[int, Said]:
    """What is said of some images of a batch."""
    images, keys = np.unique(images), {name: key for key, name in enumerate(plan.properties)}
    stated = map(plan.properties_of, batch.select(plan.columns)[images].iter_rows(named=True))
    return {
        image: [(keys[name], value) for name, value in properties.items()]
        for image, properties in zip(images.tolist(), stated, strict=True)
    }


def _add_outlines(sheets: defaultdict[int, _Sheet], pieces: _Pieces, said: Mapping[int, Said]) -> None:
    if not len(pieces.tile):
        return
    # clockwise on the screen, for y grows to the south
    polygon = shapely.remove_repeated_points(shapely.orient_polygons(pieces.polygon, exterior_cw=False))
    rings, of = shapely.get_rings(polygon, return_index=True)
    points = shapely.get_coordinates(rings).astype(np.int64)
    sizes = shapely.get_num_coordinates(rings).astype(np.int64)
    ends = np.cumsum(sizes)
    points = np.delete(points, ends - 1, axis=0)  # a ring is closed by a command
    begins = np.flatnonzero(np.diff((pieces.tile << 32) + pieces.image, prepend=-1))
    commands = polygon_commands(points, sizes - 1, np.searchsorted(of, begins))
    tile, image = pieces.tile[begins], pieces.image[begins]
    bounds = [*np.flatnonzero(np.diff(tile, prepend=-1)).tolist(), len(tile)]
    for start, stop in pairwise(bounds):
        sheet, layer = sheets[int(tile[start])], new_layer()
        for each in range(start, stop):
            tags: list[int] = []
            for key, value in said[int(image[each])]:
                index = sheet.shared.setdefault(value, sheet.values) if key else sheet.values
                if index == sheet.values:
                    add_value(layer, value)
                    sheet.values += 1
                tags += (key, index)
            layer.features.add(type=POLYGON, tags=tags, geometry=commands[each])
        sheet.outlines += layer.SerializeToString()


def _squares(middles: NDArray[np.float64], zoom: int) -> dict[int, tuple[Numbers, Numbers]]:
    """By tile: the north-west corners of pixels that hold images, in pixels, and how many each holds."""
    side = PIXELS << zoom
    x, y = np.clip(np.floor(middles * side).astype(np.int64), 0, side - 1).T
    tile = ((y // PIXELS) << zoom) + x // PIXELS
    code, count = np.unique((tile * PIXELS + y % PIXELS) * PIXELS + x % PIXELS, return_counts=True)
    tile, corner = code // PIXELS**2, np.column_stack([code % PIXELS, code // PIXELS % PIXELS])
    bounds = [*np.flatnonzero(np.diff(tile, prepend=-1)).tolist(), len(tile)]
    return {int(tile[start]): (corner[start:stop], count[start:stop]) for start, stop in pairwise(bounds)}


def _finished(
    sheets: defaultdict[int, _Sheet],
    squares: dict[int, tuple[Numbers, Numbers]],
    plan: TilingPlan,
    zoom: int,
) -> Iterator[Tile]:
    tile = np.array(sorted({*sheets, *squares}), dtype=np.int64)
    x, y = tile & (1 << zoom) - 1, tile >> zoom
    for each in np.argsort(tile_ids(zoom, x, y)).tolist():
        sheet, counted = sheets.get(int(tile[each])), squares.get(int(tile[each]))
        # parts of a message, one after another, are the message; what is counted lies below the images
        keys = [*(plan.properties if sheet else ()), *(["count"] if counted else [])]
        head = new_layer(name=plan.layer, version=2, extent=EXTENT, keys=keys)
        tail = _add_squares(head, *counted, values=sheet.values if sheet else 0) if counted else new_layer()
        outlines = sheet.outlines if sheet else b""
        content = tile_of(head.SerializeToString() + outlines + tail.SerializeToString())
        yield Tile(zoom, int(x[each]), int(y[each]), gzip.compress(content, 6, mtime=0))


def _add_squares(head: Any, corner: Numbers, count: Numbers, *, values: int) -> Any:
    """Add a feature for each number of images, of all pixels that hold so many; the numbers come back.

    Args:
        values: how many values stand before the numbers.
    """
    order = np.argsort(count, kind="stable")
    corner, count = corner[order], count[order]
    points = (corner[:, None, :] * _PIXEL + _SQUARE).reshape(-1, 2)
    begins = np.flatnonzero(np.diff(count, prepend=0))
    commands = polygon_commands(points, np.full(len(corner), len(_SQUARE)), begins)
    tail, key = new_layer(), len(head.keys) - 1
    for number, each in enumerate(begins.tolist()):
        head.features.add(type=POLYGON, tags=(key, values + number), geometry=commands[number])
        tail.values.add(uint_value=int(count[each]))
    return tail

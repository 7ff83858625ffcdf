"""Checking that images are drawn where they lie: tile by tile for all, outline by outline for some.

Tolerances are multiples of a tile unit, 1/4,096 of a tile's edge (0.3 m at z15 on the equator), to which
tippecanoe rounds every point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.drawn import Drawn, Piece
from oam_mosaic_assets.core.grid import Geometries, apart, pairs_of, project_mended, tile_ids
from oam_mosaic_assets.core.snapshot import areas_of, as_drawn
from oam_mosaic_assets.core.sorting import among
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT, TilingPlan

UNIT: Final = 1 / EXTENT
"""A tile unit, in tiles."""

TOLERANCE: Final = 4.0 * UNIT
"""In tiles: tippecanoe rounds coordinates and snaps rings to its grid; 2.5 units is the most seen."""

_LOW_TOLERANCE: Final = 8.0 * UNIT
"""The same at low zooms, half a pixel: outlines are simplified there, by up to two units, and a polygon that
rounding folds is widened as a whole, by two and a half."""

_ROUGHLY: Final = TOLERANCE / 16.0

COMPARED_CORNERS: Final = 1000
"""The most corners of an outline that is compared: buffering a larger, jagged one may take minutes."""

CANDIDATES: Final = 20_000
"""Pairs of image and tile that are tested in one batch."""

_BLOCK: Final = 32
"""Edge of a block, in tiles. Of an image with a larger frame, only blocks that it reaches are examined: the
frame of a long diagonal strip may hold many thousand times as many tiles as the strip."""

_AT_ONCE: Final = 4 * _BLOCK**2
"""Pieces of an outline that are united at once, in some ten megabytes; nearly all outlines have fewer."""

Tile = tuple[int, int, int]
"""Image index, column, row."""


@dataclass(frozen=True, slots=True)
class Places:
    """How one zoom draws some images, compared with where they lie.

    Attributes:
        missing: tiles in which an image should be drawn but is not.
        stray: tiles in which an image is drawn but should not be.
        differing: indices of images whose outline strays from the footprint.
        outlined: number of outlines compared.
    """

    missing: Sequence[Tile]
    stray: Sequence[Tile]
    differing: Sequence[int]
    outlined: int


def places_of(
    batches: Iterable[Geometries],
    drawn: Drawn,
    zoom: int,
    outlined: Sequence[int],
    within: Stretches | None = None,
) -> Places:
    """Compare what a zoom draws with where the images lie.

    Args:
        batches: all images in the order of their indices, as they were given to tippecanoe, EPSG:4326.
        drawn: what was found at this zoom.
        zoom: the zoom.
        outlined: indices of the images whose outlines are compared; all are `comparable`.
        within: the tiles that `drawn` covers; None for all.
    """
    missing: list[Tile] = []
    stray: list[Tile] = []
    compared: dict[int, bool] = {}
    first = 0
    for given in batches:
        of_batch = misplaced(given, first=first, drawn=drawn.pairs, zoom=zoom, within=within)
        missing += of_batch[0]
        stray += of_batch[1]
        of_index = {index: given[index - first] for index in outlined if 0 <= index - first < len(given)}
        compared |= {
            index: outline_differs(each, drawn.pieces.get(index, ()), zoom)
            for index, each in of_index.items()
        }
        first += len(given)
    return Places(missing, stray, [index for index, differs in compared.items() if differs], len(compared))


def outlines_of(footprints: Path, drawn: Drawn, zoom: int) -> Places:
    """Compare the outlines alone, at a low zoom; see `low_zooms`.

    Args:
        footprints: the GeoParquet of all images.
        drawn: what was found at this zoom; the images whose `pieces` it has are compared.
        zoom: the zoom.
    """
    images = np.array(sorted(drawn.pieces), np.int64)
    differing = [
        image
        for some, areas in areas_of(footprints, images)
        for image, area in zip(some.tolist(), areas, strict=True)
        if outline_differs(area, drawn.pieces[image], zoom, _LOW_TOLERANCE)
    ]
    return Places([], [], differing, len(images))


def misplaced(
    geometries: Geometries,
    *,
    first: int,
    drawn: NDArray[np.int64],
    zoom: int,
    within: Stretches | None = None,
) -> tuple[list[Tile], list[Tile]]:
    """Compare the tiles that images are drawn in with the tiles that they reach, buffers included.

    Args:
        geometries: images with consecutive indices, as they were given to tippecanoe, EPSG:4326.
        first: index of the first.
        drawn: pairs of image and tile found in the archive, ascending, as `grid.pairs_of` encodes them. Pairs
            of other images are ignored.
        zoom: the tiles' zoom.
        within: the tiles that `drawn` covers; None for all.

    Returns:
        Where an image is missing, and where one is drawn that does not belong there.
    """
    projected = _on_the_grid(geometries, zoom)
    reached = np.unique(np.concatenate(list(pairs_reached(projected, first, zoom, BUFFER, within))))
    bounds = np.array([first, first + len(geometries)]) << (2 * zoom)
    drawn = drawn[slice(*np.searchsorted(drawn, bounds))]

    def tiles(pairs: NDArray[np.int64], wrong: Callable[..., NDArray[np.bool_]]) -> list[Tile]:
        found = list[Tile]()
        for start in range(0, len(pairs), CANDIDATES):
            image, x, y = apart(pairs[start : start + CANDIDATES], zoom)
            is_wrong = wrong(projected[image - first], x, y)
            found += zip(*(each[is_wrong].tolist() for each in (image, x, y)), strict=True)
        return found

    return tiles(_without(reached, drawn), _leave_a_trace), tiles(_without(drawn, reached), _stay_away)


def tiles_reached(geometries: Geometries, zoom: int, margin: float = 0.0) -> NDArray[np.int64]:
    """Ids of the tiles that images reach, buffers and the tolerance included; ascending.

    Args:
        geometries: as they were given to tippecanoe, EPSG:4326.
        zoom: the tiles' zoom.
        margin: how much farther tiles reach, in tiles.
    """
    if not len(geometries):
        return np.zeros(0, np.int64)
    projected = _on_the_grid(geometries, zoom)
    found = [
        _tile_ids(pairs, zoom) for pairs in pairs_reached(projected, 0, zoom, BUFFER + TOLERANCE + margin)
    ]
    return np.unique(np.concatenate(found))


def outline_differs(
    geometry: shapely.Geometry, pieces: Sequence[Piece], zoom: int, tolerance: float = TOLERANCE
) -> bool:
    """Whether the outline reassembled from tiles strays from the footprint by more than the tolerance.

    One of many tiles is reassembled block by block: a million at once take gigabytes.

    Args:
        geometry: as it was given to tippecanoe, EPSG:4326.
        pieces: what the tiles of the zoom draw of it.
        tolerance: in tiles.
    """
    (projected,) = _on_the_grid(np.array([geometry], dtype=object), zoom)
    world = shapely.box(tolerance, tolerance, 2**zoom - tolerance, 2**zoom - tolerance)
    # rounding may wipe out narrow tips and strips, so these need not be drawn; nor need parts that are about
    # as narrow, of which no piece may count
    parts = shapely.get_parts(shapely.intersection(projected, world))
    parts = parts[_hold_a_circle(parts, tolerance + 2.0 * _ROUGHLY)]
    x, y = np.array([(piece.x, piece.y) for piece in pieces], np.int64).reshape(-1, 2).T
    areas, thick = np.array([piece.area for piece in pieces], dtype=object), shapely.MultiPolygon(list(parts))
    if len(pieces) <= _AT_ONCE:
        return _differs(thick, projected, areas, x, y, tolerance)
    blocks = {*zip((x // _BLOCK).tolist(), (y // _BLOCK).tolist(), strict=True)}
    for which, column, row in _cells(np.floor(shapely.bounds(parts) / _BLOCK).astype(np.int64)):
        hit = shapely.intersects(parts[which], _boxes(column * _BLOCK, row * _BLOCK, 0.0, _BLOCK))
        blocks.update(zip(column[hit].tolist(), row[hit].tolist(), strict=True))
    for west, north in np.array([*blocks], np.int64).reshape(-1, 2) * _BLOCK:
        # with the tiles around it, as what is drawn may be up to the tolerance away
        near = (x >= west - 1) & (x <= west + _BLOCK) & (y >= north - 1) & (y <= north + _BLOCK)
        tiles, farther = (
            shapely.box(west - margin, north - margin, west + _BLOCK + margin, north + _BLOCK + margin)
            for margin in (1, 2)
        )
        due, allowed = _areas_in(thick, tiles), _areas_in(projected, farther)
        if _differs(due, allowed, areas[near], x[near], y[near], tolerance):
            return True
    return False


def _differs(
    due: shapely.Geometry,
    allowed: shapely.Geometry,
    areas: Geometries,
    x: Numbers,
    y: Numbers,
    tolerance: float,
) -> bool:
    """Whether what tiles draw lacks more of one area, or has more beyond another one, than is tolerated."""
    near = shapely.buffer(allowed, tolerance)
    # a strip alone in its tile and too thin to survive rounding is drawn as a square of the same area
    fat = _leave_a_trace(allowed, x, y)
    room = shapely.area(shapely.intersection(near, _boxes(x[~fat], y[~fat], BUFFER + tolerance)))
    if (shapely.area(areas[~fat]) * UNIT**2 > room).any():
        return True
    drawn = shapely.union_all(_in_the_world(areas[fat], x[fat], y[fat]))
    lost = shapely.difference(shapely.buffer(due, -tolerance), shapely.buffer(drawn, tolerance))
    return not (lost.is_empty and shapely.difference(drawn, near).is_empty)


def _areas_in(area: shapely.Geometry, frame: shapely.Polygon) -> shapely.MultiPolygon:
    parts = shapely.get_parts(shapely.intersection(area, frame))
    return shapely.MultiPolygon(list(parts[shapely.area(parts) > 0.0]))


def comparable(
    footprints: Path, images: Numbers, plan: TilingPlan, zooms: Iterable[int]
) -> Mapping[int, Numbers]:
    """Those of some images whose outlines can be compared, by zoom; of the others no piece has to be read.

    Args:
        footprints: the GeoParquet of all images.
        images: indices of the images, ascending.
        plan: how they are drawn.
        zooms: the zooms.
    """
    found = {zoom: [images[:0]] for zoom in zooms}
    for some, areas in areas_of(footprints, images):
        for zoom, those in found.items():
            given = as_drawn(areas, plan.thinnest_at(zoom)) if zoom >= plan.whole_from else areas
            those.append(some[shapely.get_num_coordinates(given) <= COMPARED_CORNERS])
    return {zoom: np.concatenate(those) for zoom, those in found.items()}


def chosen_by_digest(names: Iterable[str], digest: str, count: int) -> list[int]:
    """Indices of `count` images: a different choice for every snapshot, but always the same for one."""
    keyed = (
        (hashlib.blake2b(name.encode(), key=digest.encode()[:64], digest_size=8).digest(), index)
        for index, name in enumerate(names)
    )
    return sorted(index for _, index in nsmallest(count, keyed))


def _on_the_grid(geometries: Geometries, zoom: int) -> Geometries:
    """The areas in tile coordinates as tippecanoe draws them: near the antimeridian, on both sides of it."""
    side, projected = 2**zoom, project_mended(geometries, zoom)
    west, _, east, _ = shapely.bounds(projected).T
    for shift, near in ((side, west <= BUFFER + TOLERANCE), (-side, east >= side - BUFFER - TOLERANCE)):
        aside = partial(np.add, [shift, 0])
        projected[near] = shapely.union(projected[near], shapely.transform(projected[near], aside))
    return projected


def pairs_reached(
    projected: Geometries, first: int, zoom: int, margin: float, within: Stretches | None = None
) -> Iterator[NDArray[np.int64]]:
    """Pairs of image and tile for all tiles that each image reaches, margins included, in batches.

    Args:
        projected: images with consecutive indices, none empty, in tile coordinates of the zoom.
        first: index of the first.
        zoom: the tiles' zoom.
        margin: how far a tile reaches beyond its edges, in tiles.
        within: the tiles that matter; None for all.
    """
    # By parts, as the halves of an image at the antimeridian lie a world apart.
    parts, image = shapely.get_parts(projected, return_index=True)
    bounds = np.floor(shapely.bounds(parts) + np.array([-1, -1, 1, 1]) * margin).astype(np.int64)
    shapely.prepare(parts)
    frames, of = _in_blocks(parts, np.clip(bounds, 0, 2**zoom - 1), margin)
    for frame, column, row in _cells(frames):
        which, x, y = of[frame], column, row
        if within is not None:
            matters = within.hold(tile_ids(zoom, x, y))
            which, x, y = which[matters], x[matters], y[matters]
        # for most tiles testing the centre is enough, at a tenth of the cost of making a box
        hit = shapely.intersects_xy(parts[which], x + 0.5, y + 0.5)
        open_ = np.flatnonzero(~hit)
        hit[open_] = shapely.intersects(parts[which[open_]], _boxes(x[open_], y[open_], margin))
        yield pairs_of(image[which[hit]] + first, x[hit], y[hit], zoom)


def _in_blocks(parts: Geometries, frames: Numbers, margin: float) -> tuple[Numbers, Numbers]:
    """The frames of polygons, large ones as those of their blocks that the polygon reaches.

    Args:
        parts: in tile coordinates.
        frames: first column and row of each, then last column and row.
        margin: how far a tile reaches beyond its edges, in tiles.

    Returns:
        Frames, and the index of the polygon that each is of.
    """
    is_large = (frames[:, 2:] - frames[:, :2] >= _BLOCK).any(axis=1)
    large = np.flatnonzero(is_large)
    found, of = [frames[~is_large]], [np.flatnonzero(~is_large)]
    for which, column, row in _cells(frames[large] // _BLOCK):
        part, first = large[which], np.column_stack([column, row]) * _BLOCK
        hit = shapely.intersects(parts[part], _boxes(first[:, 0], first[:, 1], margin, _BLOCK))
        part, first = part[hit], first[hit]
        begin, end = frames[part, :2], frames[part, 2:]
        found.append(np.hstack([np.maximum(begin, first), np.minimum(end, first + _BLOCK - 1)]))
        of.append(part)
    return np.concatenate(found), np.concatenate(of)


def _cells(frames: Numbers) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """All cells of frames, in batches: index of the frame, column, row.

    They are numbered across all frames, so that even the largest is split into batches.
    """
    west, north, east, south = frames.T
    columns = east - west + 1
    ends = np.cumsum(columns * (south - north + 1))
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, CANDIDATES):
        number = np.arange(start, min(start + CANDIDATES, total))
        which = np.searchsorted(ends, number, side="right")
        ordinal = number - np.where(which > 0, ends[which - 1], 0)
        yield which, west[which] + ordinal % columns[which], north[which] + ordinal // columns[which]


def _boxes(x: NDArray[np.int64], y: NDArray[np.int64], margin: float, side: int = 1) -> Geometries:
    boxes: Geometries = shapely.box(x - margin, y - margin, x + side + margin, y + side + margin)
    return boxes


def _without(these: NDArray[np.int64], those: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the first that are not in the second; both ascend. Uses less memory than `setdiff1d`."""
    _, are_there = among(these, those)
    return these[~are_there]


def _tile_ids(pairs: Numbers, zoom: int) -> Numbers:
    _, x, y = apart(pairs, zoom)
    return tile_ids(zoom, x, y)


def _leave_a_trace(projected: Geometries | shapely.Geometry, x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    """Whether enough of each image, or of one, lies in each tile and its buffer to survive rounding."""
    parts, of = shapely.get_parts(shapely.intersection(projected, _boxes(x, y, BUFFER)), return_index=True)
    found = np.zeros(len(x), np.bool_)
    found[of[_hold_a_circle(parts, TOLERANCE)]] = True
    return found


def _hold_a_circle(parts: Geometries, radius: float) -> NDArray[np.bool_]:
    """Which polygons have room for a circle; its radius is found to `_ROUGHLY` below the true one."""
    area = shapely.area(parts)
    # without a hole, the radius of the largest circle inside is at least area / perimeter
    fat: NDArray[np.bool_] = (area > radius * shapely.length(parts)) & (
        shapely.get_num_interior_rings(parts) == 0
    )
    open_ = np.flatnonzero(~fat & (area > 0.0))
    circles = shapely.maximum_inscribed_circle(parts[open_], tolerance=_ROUGHLY)
    fat[open_] = shapely.length(circles) > radius
    return fat


def _stay_away(projected: Geometries, x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    away: NDArray[np.bool_] = ~shapely.intersects(projected, _boxes(x, y, BUFFER + TOLERANCE))
    return away


def _in_the_world(areas: Geometries, x: Numbers, y: Numbers) -> Geometries:
    """What tiles draw, without their buffers, in tile coordinates of the zoom."""
    units, of = shapely.get_coordinates(areas, return_index=True)
    world = shapely.set_coordinates(areas, units / EXTENT + np.column_stack([x, y])[of])
    inside: Geometries = shapely.intersection(world, _boxes(x, y, 0.0))
    return inside

"""Checking that images are drawn where they lie: tile by tile for all, outline by outline for some.

Tolerances are multiples of a tile unit, 1/4,096 of a tile's edge (0.3 m at z15 on the equator), to which
tippecanoe rounds every point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.drawn import Drawn, Piece
from oam_mosaic_assets.core.grid import Geometries, pairs_of, project_mended, tile_ids
from oam_mosaic_assets.core.sorting import among
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT

UNIT: Final = 1 / EXTENT
"""A tile unit, in tiles."""

TOLERANCE: Final = 4.0 * UNIT
"""In tiles: tippecanoe rounds coordinates and snaps rings to its grid; 2.5 units is the most seen."""

COMPARED_CORNERS: Final = 1000
"""The most corners of an outline that is compared: buffering a larger, jagged one may take minutes."""

CANDIDATES: Final = 20_000
"""Pairs of image and tile that are tested in one batch."""

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
        outlined: indices of the images whose outlines are compared.
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
            if shapely.get_num_coordinates(each) <= COMPARED_CORNERS
        }
        first += len(given)
    return Places(missing, stray, [index for index, differs in compared.items() if differs], len(compared))


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
    reached = np.unique(np.concatenate(list(pairs_reached(projected, first, zoom, BUFFER))))
    if within is not None:
        reached = reached[within.hold(_tile_ids(reached, zoom))]
    bounds = np.array([first, first + len(geometries)]) << (2 * zoom)
    drawn = drawn[slice(*np.searchsorted(drawn, bounds))]

    def geometry(tile: Tile) -> shapely.Geometry:
        found: shapely.Geometry = projected[tile[0] - first]
        return found

    return (
        [tile for tile in _tiles(_without(reached, drawn), zoom) if _leaves_a_trace(geometry(tile), tile)],
        [tile for tile in _tiles(_without(drawn, reached), zoom) if not _comes_near(geometry(tile), tile)],
    )


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


def outline_differs(geometry: shapely.Geometry, pieces: Sequence[Piece], zoom: int) -> bool:
    """Whether the outline reassembled from tiles strays from the footprint by more than the tolerance.

    Args:
        geometry: as it was given to tippecanoe, EPSG:4326.
        pieces: what the tiles of the zoom draw of it.
    """
    projected = _on_the_grid(np.array([geometry], dtype=object), zoom)
    world = shapely.box(TOLERANCE, TOLERANCE, 2**zoom - TOLERANCE, 2**zoom - TOLERANCE)
    # a strip alone in its tile and too thin to survive rounding is drawn as a square of the same area
    fat = [piece for piece in pieces if _leaves_a_trace(projected[0], (0, piece.x, piece.y))]
    drawn = shapely.union_all([_in_the_world(piece) for piece in fat])
    # rounding may wipe out narrow tips and strips, so these need not be drawn
    core = shapely.buffer(shapely.intersection(projected[0], world), -TOLERANCE)
    lost = shapely.difference(core, shapely.buffer(drawn, TOLERANCE))
    added = shapely.difference(drawn, shapely.buffer(projected[0], TOLERANCE))
    return not (lost.is_empty and added.is_empty)


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


def pairs_reached(projected: Geometries, first: int, zoom: int, margin: float) -> Iterator[NDArray[np.int64]]:
    """Pairs of image and tile for all tiles that each image reaches, margins included, in batches.

    Args:
        projected: images with consecutive indices, none empty, in tile coordinates of the zoom.
        first: index of the first.
        zoom: the tiles' zoom.
        margin: how far a tile reaches beyond its edges, in tiles.
    """
    # By parts, as the halves of an image at the antimeridian lie a world apart.
    parts, image = shapely.get_parts(projected, return_index=True)
    last = 2**zoom - 1
    bounds = np.floor(shapely.bounds(parts) + np.array([-1, -1, 1, 1]) * margin).astype(np.int64)
    west, north, east, south = np.clip(bounds, 0, last).T
    columns = east - west + 1
    ends = np.cumsum(columns * (south - north + 1))
    shapely.prepare(parts)
    # Candidates are numbered across all images, so that even the largest image is split into batches.
    for start in range(0, int(ends[-1]), CANDIDATES):
        number = np.arange(start, min(start + CANDIDATES, int(ends[-1])))
        which = np.searchsorted(ends, number, side="right")
        ordinal = number - np.where(which > 0, ends[which - 1], 0)
        x = west[which] + ordinal % columns[which]
        y = north[which] + ordinal // columns[which]
        # for most tiles testing the centre is enough, at a tenth of the cost of making a box
        hit = shapely.intersects_xy(parts[which], x + 0.5, y + 0.5)
        open_ = np.flatnonzero(~hit)
        hit[open_] = shapely.intersects(parts[which[open_]], _boxes(x[open_], y[open_], margin))
        yield pairs_of(image[which[hit]] + first, x[hit], y[hit], zoom)


def _boxes(x: NDArray[np.int64], y: NDArray[np.int64], margin: float) -> Geometries:
    boxes: Geometries = shapely.box(x - margin, y - margin, x + 1 + margin, y + 1 + margin)
    return boxes


def _box(x: int, y: int, margin: float) -> shapely.Polygon:
    return shapely.box(x - margin, y - margin, x + 1 + margin, y + 1 + margin)


def _without(these: NDArray[np.int64], those: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the first that are not in the second; both ascend. Uses less memory than `setdiff1d`."""
    _, are_there = among(these, those)
    return these[~are_there]


def _tiles(codes: NDArray[np.int64], zoom: int) -> Iterator[Tile]:
    mask = 2**zoom - 1
    for code in codes.tolist():
        yield code >> (2 * zoom), code & mask, (code >> zoom) & mask


def _tile_ids(pairs: NDArray[np.int64], zoom: int) -> NDArray[np.int64]:
    mask = 2**zoom - 1
    return tile_ids(zoom, pairs & mask, (pairs >> zoom) & mask)


def _leaves_a_trace(projected: shapely.Geometry, tile: Tile) -> bool:
    """Whether enough of the image lies in the tile and its buffer to survive rounding."""
    _, x, y = tile
    parts = shapely.get_parts(shapely.intersection(projected, _box(x, y, BUFFER)))
    parts = parts[shapely.area(parts) > 0.0]
    room = shapely.length(shapely.maximum_inscribed_circle(parts, tolerance=TOLERANCE / 16.0))
    return bool((room > TOLERANCE).any())


def _comes_near(projected: shapely.Geometry, tile: Tile) -> bool:
    _, x, y = tile
    return bool(shapely.intersects(projected, _box(x, y, BUFFER + TOLERANCE)))


def _in_the_world(piece: Piece) -> shapely.Geometry:
    """A piece without its tile's buffer, in tile coordinates of the zoom."""
    world = shapely.transform(piece.area, lambda units: units / EXTENT + [piece.x, piece.y])
    return shapely.intersection(world, shapely.box(piece.x, piece.y, piece.x + 1, piece.y + 1))

"""Whether images are drawn where they lie: tile by tile for all, outline by outline for some.

Tolerances are in units of the tile grid, of which a tile's edge has 4,096 (0.3 m at z15 on the equator):
tippecanoe rounds every point to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.archive import Archive
from oam_mosaic_assets.core.grid import Geometries, project, tile_id_at
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT
from oam_mosaic_assets.core.vector_tile import area, read_feature, read_layers

UNIT: Final = 1 / EXTENT
"""In tiles."""

TOLERANCE: Final = 4.0 * UNIT
"""In tiles: tippecanoe rounds coordinates to its grid and snaps rings to it; 2.5 units were the most seen."""

CANDIDATES: Final = 20_000
"""Pairs of image and tile that are looked at together."""

Tile = tuple[int, int, int]
"""Image index, column, row."""


def misplaced(
    geometries: Geometries,
    *,
    image: NDArray[np.int64],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    zoom: int,
) -> tuple[list[Tile], list[Tile]]:
    """Compare the tiles that images are drawn in with the tiles that they reach, buffers included.

    Args:
        geometries: of all images, as they were given to tippecanoe, EPSG:4326.
        image: index into `geometries` of each pair of image and tile found in the archive.
        x: the tile's column of each pair.
        y: the tile's row of each pair.
        zoom: of these tiles.

    Returns:
        Where an image is missing, and where one is drawn that does not belong there.
    """
    if len(geometries) == 0:
        return [], [(int(i), int(a), int(b)) for i, a, b in zip(image, x, y, strict=True)]
    projected = _on_the_grid(geometries, zoom)
    reached = np.unique(np.concatenate(list(_reached(projected, zoom))))
    drawn = np.unique(_codes(image, x, y, zoom))
    return (
        [tile for tile in _tiles(_without(reached, drawn), zoom) if _leaves_a_trace(projected, tile)],
        [tile for tile in _tiles(_without(drawn, reached), zoom) if not _comes_near(projected, tile)],
    )


def outline_differs(
    archive: Archive, geometry: shapely.Geometry, name: str, tiles: Sequence[tuple[int, int]]
) -> bool:
    """Whether the outline put together from the tiles strays from the footprint by more than the tolerance.

    Args:
        geometry: as it was given to tippecanoe, EPSG:4326.
        name: the image's id.
        tiles: columns and rows that it is drawn in, at the deepest zoom.
    """
    zoom = archive.header["max_zoom"]
    projected = _on_the_grid(np.array([geometry], dtype=object), zoom)
    world = shapely.box(TOLERANCE, TOLERANCE, 2**zoom - TOLERANCE, 2**zoom - TOLERANCE)
    # a strip that is alone in its tile and thinner than rounding is drawn as a square of the same area
    fat = [(column, row) for column, row in tiles if _leaves_a_trace(projected, (0, column, row))]
    pieces = [piece for column, row in fat for piece in _pieces(archive, name, zoom, column, row)]
    drawn = shapely.union_all(pieces)
    # rounding may wipe out tips and strips that are narrower
    core = shapely.buffer(shapely.intersection(projected[0], world), -TOLERANCE)
    lost = shapely.difference(core, shapely.buffer(drawn, TOLERANCE))
    added = shapely.difference(drawn, shapely.buffer(projected[0], TOLERANCE))
    return not (lost.is_empty and added.is_empty)


def chosen_by_digest(names: Sequence[str], digest: str, count: int) -> list[int]:
    """Indices of `count` images, another choice for every snapshot but always the same for one."""
    keyed = (
        (hashlib.blake2b(name.encode(), key=digest.encode()[:64], digest_size=8).digest(), index)
        for index, name in enumerate(names)
    )
    return sorted(index for _, index in sorted(keyed)[:count])


def _on_the_grid(geometries: Geometries, zoom: int) -> Geometries:
    """The areas in tile coordinates as tippecanoe draws them: at the antimeridian on both its sides."""
    side, projected = 2**zoom, project(geometries, zoom)
    crossed = ~shapely.is_valid(projected)  # rings that nearly touch may cross when projected
    projected[crossed] = shapely.make_valid(projected[crossed], method="structure", keep_collapsed=False)
    west, _, east, _ = shapely.bounds(projected).T
    for shift, near in ((side, west <= BUFFER + TOLERANCE), (-side, east >= side - BUFFER - TOLERANCE)):
        aside = partial(np.add, [shift, 0])
        projected[near] = shapely.union(projected[near], shapely.transform(projected[near], aside))
    return projected


def _reached(projected: Geometries, zoom: int) -> Iterator[NDArray[np.int64]]:
    """Pairs of image and tile, as one number each, of all tiles that an image reaches."""
    # By parts, for the halves of an image at the antimeridian lie a world apart.
    parts, image = shapely.get_parts(projected, return_index=True)
    last = 2**zoom - 1
    bounds = np.floor(shapely.bounds(parts) + np.array([-1, -1, 1, 1]) * BUFFER).astype(np.int64)
    west, north, east, south = np.clip(bounds, 0, last).T
    columns = east - west + 1
    ends = np.cumsum(columns * (south - north + 1))
    # Candidates are numbered through all images, so that the largest image is cut into pieces as well.
    for start in range(0, int(ends[-1]), CANDIDATES):
        number = np.arange(start, min(start + CANDIDATES, int(ends[-1])))
        which = np.searchsorted(ends, number, side="right")
        ordinal = number - np.where(which > 0, ends[which - 1], 0)
        x = west[which] + ordinal % columns[which]
        y = north[which] + ordinal // columns[which]
        near = parts[which[0] : which[-1] + 1]
        shapely.prepare(near)
        hit = shapely.intersects(near[which - which[0]], _boxes(x, y, BUFFER))
        shapely.destroy_prepared(near)
        yield _codes(image[which[hit]], x[hit], y[hit], zoom)


def _boxes(x: NDArray[np.int64], y: NDArray[np.int64], margin: float) -> Geometries:
    boxes: Geometries = shapely.box(x - margin, y - margin, x + 1 + margin, y + 1 + margin)
    return boxes


def _box(x: int, y: int, margin: float) -> shapely.Polygon:
    return shapely.box(x - margin, y - margin, x + 1 + margin, y + 1 + margin)


def _codes(
    image: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], zoom: int
) -> NDArray[np.int64]:
    """Pairs of image and tile as one number each."""
    codes = image << (2 * zoom)
    codes |= y << zoom
    codes |= x
    return codes


def _without(these: NDArray[np.int64], those: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the first that are not in the second; both ascending. Holds less than `numpy.setdiff1d`."""
    if those.size == 0:
        return these
    place = np.searchsorted(those, these)
    np.minimum(place, those.size - 1, out=place)
    left: NDArray[np.int64] = these[those[place] != these]
    return left


def _tiles(codes: NDArray[np.int64], zoom: int) -> Iterator[Tile]:
    mask = 2**zoom - 1
    for code in codes.tolist():
        yield code >> (2 * zoom), code & mask, (code >> zoom) & mask


def _leaves_a_trace(projected: Geometries, tile: Tile) -> bool:
    """Whether enough of the image lies in the tile and its buffer that rounding cannot wipe it out."""
    image, x, y = tile
    clipped = shapely.intersection(projected[image], _box(x, y, BUFFER))
    return not shapely.buffer(clipped, -TOLERANCE).is_empty


def _comes_near(projected: Geometries, tile: Tile) -> bool:
    image, x, y = tile
    return bool(shapely.intersects(projected[image], _box(x, y, BUFFER + TOLERANCE)))


def _pieces(archive: Archive, name: str, zoom: int, column: int, row: int) -> Iterator[shapely.Geometry]:
    """What one tile, without its buffer, draws of an image, in tile coordinates of the world."""
    entry = archive.find(tile_id_at(zoom, column, row))
    if entry is None:
        return
    for layer in read_layers(archive.tile(entry)):
        if name not in layer.values:
            continue
        for encoded in layer.features:
            feature = read_feature(layer, encoded)
            if feature.properties.get("id") == name:
                world = shapely.transform(area(feature), lambda units: units / EXTENT + [column, row])
                yield shapely.intersection(world, shapely.box(column, row, column + 1, row + 1))

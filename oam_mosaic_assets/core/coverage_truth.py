"""What a coverage archive shows, compared with where the images of a snapshot lie.

Nothing here repeats the way the archive was drawn. Which tiles images touch is left to GEOS, image by image.
Which pixels they touch is found for each image by itself, not for their union.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import shapely

from oam_mosaic_assets.core.coverage import CoveragePlan, tiles_below
from oam_mosaic_assets.core.coverage_tiles import read_tiles
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.grid import (
    Geometries,
    apart,
    first_tile_id,
    project_mended,
    tile_ids,
    tile_name,
    tile_positions,
)
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.pixels import Numbers, Pixels, pixels_touched
from oam_mosaic_assets.core.placement import pairs_reached
from oam_mosaic_assets.core.reach import cells_reached, gather, parts_on_the_map, where_images_lie
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.stretches import Stretches

NEAR: Final = 1e-9
"""In tiles: what comes this near to a tile's edge may be rounded into the tile, or out of it."""

MAY_DIFFER: Final = 1e-4
"""Share of an area's pixels that may differ, each next to one of its own: where an edge runs along sides of
pixels, rounding decides."""

FEW: Final = 16
"""Pixels that may differ so, however small the area."""

_TOGETHER: Final = 128
"""Tiles that are read together, with the four below each: some five megabytes."""

_CHILDREN: Final = np.arange(4)


def tiles_of(entries: Directory) -> Stretches:
    """The tiles that entries refer to."""
    return Stretches.union([Stretches(entries.tile_id, entries.tile_id + entries.run_length)])


def touched_tiles(parts: Geometries, zoom: int) -> Numbers:
    """Ids of the tiles that polygons (in tile coordinates of zoom 0) touch, or come near to; ascending."""
    found = [np.zeros(0, np.int64), *(tile_ids(zoom, x, y) for _, x, y in _pairs(parts, zoom))]
    return np.unique(np.concatenate(found))


def tiles_astray(
    drawn: Stretches, footprints: Path, plan: CoveragePlan, blocks: Numbers | None = None
) -> tuple[Numbers, Numbers]:
    """Tiles of the last zoom that an image reaches but that are not drawn; and tiles drawn that none reaches.

    Args:
        drawn: the archive's tiles.
        footprints: the GeoParquet.
        plan: what was asked for.
        blocks: ids of the blocks to examine; None for all.

    Returns:
        Ids of the missing tiles, and of the stray ones.
    """
    zoom, none = plan.zoom_max, np.zeros(0, np.int64)
    missing, near = [none], [Stretches(none, none)]
    for parts in parts_on_the_map(footprints):
        if blocks is not None:
            part, x, y = cells_reached(parts, plan.block_zoom)
            parts = parts[np.unique(part[np.isin(tile_ids(plan.block_zoom, x, y), blocks)])]  # noqa: PLW2901
        projected = shapely.transform(parts, lambda points: points * 2.0**zoom)
        for part, x, y in _pairs(parts, zoom):
            ids = tile_ids(zoom, x, y)
            near.append(Stretches.of(ids))
            lost = ~drawn.hold(ids)
            boxes = shapely.box(x + NEAR, y + NEAR, x + 1 - NEAR, y + 1 - NEAR)[lost]
            missing.append(ids[lost][shapely.intersects(projected[part[lost]], boxes)])
        near = [Stretches.union(near)]
    absent, shown = np.unique(np.concatenate(missing)), drawn.of_zoom(zoom)
    if blocks is not None:
        within = tiles_below(blocks, plan)
        absent, shown = absent[within.hold(absent)], shown[within.hold(shown)]
    return absent, shown[~near[0].hold(shown)]


def zooms_disagree(source: Source, plan: CoveragePlan, within: Stretches | None = None) -> list[str]:
    """Tiles that differ from the halved tiles below them; in words, by the first tile of each such batch.

    Args:
        source: all tiles of the archive.
        plan: what was asked for.
        within: the tiles to examine; None for all.
    """
    picture = plan.picture
    full = _full_tiles(source, picture.full())
    wrong: list[str] = []
    tiles = tiles_of(source.entries)
    for zoom in range(plan.zoom_max - 1, plan.zoom_min - 1, -1):
        above = np.unique((tiles.of_zoom(zoom + 1) - first_tile_id(zoom + 1)) // 4) + first_tile_id(zoom)
        above = np.union1d(above, tiles.of_zoom(zoom))
        if within is not None:
            above = above[within.hold(above)]
        below = (above[:, None] - first_tile_id(zoom)) * 4 + _CHILDREN + first_tile_id(zoom + 1)
        looks_full = full.hold(above) & full.hold(below.ravel()).reshape(-1, 4).all(axis=1)
        above, below = above[~looks_full], below[~looks_full]
        for start in range(0, len(above), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            shown = read_tiles([source], above[part], zoom, picture)
            made = read_tiles([source], below[part].ravel(), zoom + 1, picture).halved()
            if not shown.is_as(made):
                wrong.append(f"from {tile_name(int(above[start]))} on")
    return wrong


def pixels_differ(source: Source, footprints: Path, plan: CoveragePlan, zoom: int) -> list[str]:
    """What is wrongly covered or wrongly bare at a zoom, anywhere on the map; in words.

    Args:
        source: all tiles of the archive.
        footprints: the GeoParquet.
        plan: what was asked for.
        zoom: of the tiles.
    """
    lies = where_images_lie(footprints, plan.pixels << zoom)
    shown = _covered(source, plan, zoom, tiles_of(source.entries).of_zoom(zoom), lies.side)
    return _difference(lies, shown, f"z{zoom}", partial(_image_at, footprints, float(lies.side), (0, 0)))


def pixels_of_blocks_differ(
    source: Source, footprints: Path, plan: CoveragePlan, zoom: int, blocks: Numbers
) -> list[str]:
    """The same in some blocks, given by id, each a map of its own."""
    columns, rows = tile_positions(blocks, plan.block_zoom)
    tiles = 1 << (zoom - plan.block_zoom)
    side, scale = plan.pixels * tiles, float(plan.pixels << zoom)
    lies = {block: [Pixels.union(side, [])] for block in blocks.tolist()}
    for parts in parts_on_the_map(footprints):
        part, x, y = cells_reached(parts, plan.block_zoom)
        reached = tile_ids(plan.block_zoom, x, y)
        for which in np.flatnonzero(np.isin(blocks, reached)).tolist():
            some = parts[part[reached == blocks[which]]]
            origin = int(columns[which]) * side, int(rows[which]) * side
            gather(lies[int(blocks[which])], pixels_touched(some, side, scale=scale, origin=origin))
    found = list[str]()
    for block, column, row in zip(blocks.tolist(), columns.tolist(), rows.tolist(), strict=True):
        first = (block - first_tile_id(plan.block_zoom)) * tiles**2 + first_tile_id(zoom)
        ids = np.arange(first, first + tiles**2)
        shown = _covered(source, plan, zoom, ids, side, corner=(column * tiles, row * tiles))
        name = f"z{zoom} in {plan.block_zoom}/{column}/{row}"
        # all footprints are read to name an image, so only the first is named
        image_at = None if found else partial(_image_at, footprints, scale, (column * side, row * side))
        found += _difference(Pixels.union(side, lies[block]), shown, name, image_at)
    return found


def _full_tiles(source: Source, picture: bytes) -> Stretches:
    """The tiles that show this picture; equal contents share an offset, so each is read once."""
    alike = source.entries[source.entries.length == len(picture)]
    offsets = np.unique(alike.offset)
    same = [each for each in offsets.tolist() if source.content(each, len(picture)) == picture]
    return tiles_of(alike[np.isin(alike.offset, np.array(same, np.int64))])


def _pairs(parts: Geometries, zoom: int) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """Pairs of a polygon and a tile that it touches or nearly touches: the polygon's number, column, row."""
    if not len(parts):
        return
    projected = shapely.transform(parts, lambda points: points * 2.0**zoom)
    for pairs in pairs_reached(projected, 0, zoom, NEAR):
        yield apart(pairs, zoom)


def _covered(
    source: Source, plan: CoveragePlan, zoom: int, ids: Numbers, side: int, corner: tuple[int, int] = (0, 0)
) -> Pixels:
    """The pixels that tiles cover, on a map whose north-western tile is `corner`."""
    found = [Pixels.union(side, [])]
    for start in range(0, len(ids), _TOGETHER):
        tiles = read_tiles([source], ids[start : start + _TOGETHER], zoom, plan.picture)
        gather(found, tiles.moved(-corner[0], -corner[1]).runs(side))
    return Pixels.union(side, found)


def _image_at(footprints: Path, scale: float, origin: tuple[int, int], pixel: tuple[int, int]) -> str:
    """The id, in quotes, of the first image in drawing order that lies in a pixel.

    Args:
        footprints: the GeoParquet.
        scale: pixels along the side of the world.
        origin: the pixel that others are counted from.
        pixel: column and row.
    """
    x, y = np.add(origin, pixel).tolist()
    box = shapely.box(*(np.array([x, y, x + 1, y + 1]) / scale))
    for batch in read_batches(footprints, ("id", "geometry")):
        areas = project_mended(shapely.from_wkb(batch["geometry"].to_numpy()), 0)
        near = np.flatnonzero(shapely.dwithin(areas, box, NEAR))
        if len(near):
            return repr(batch["id"][int(near[0])])
    return "unknown"


def _difference(
    lies: Pixels, shown: Pixels, where: str, image_at: Callable[[tuple[int, int]], str] | None
) -> list[str]:
    found = list[str]()
    bare, astray = lies.outside(shown.grown()), shown.outside(lies.grown())
    if bare:
        of = f" in image {image_at(bare[0])}" if image_at else ""
        text = f"{where}: {len(bare)} runs of pixels are empty, though there are images, first {bare[0]}{of}"
        found.append(text)
    if astray:
        text = f"{where}: {len(astray)} runs of pixels are covered, though no image is near"
        found.append(f"{text}, first {astray[0]}")
    both = len(Pixels.union(lies.side, [lies, shown]))
    differing = 2 * both - len(lies) - len(shown)
    if not found and differing > max(FEW, MAY_DIFFER * len(lies)):
        found.append(f"{where}: {differing:,} pixels along the edges of images differ, of {len(lies):,}")
    return found

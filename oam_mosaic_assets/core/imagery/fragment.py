"""Imagery tiles in files: those of a block, and those of all zooms above it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import numpy as np
import shapely
from pmtiles.tile import Compression, TileType
from shapely.errors import GEOSException

from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, FINEST, Tile, Window, in_pixels
from oam_mosaic_assets.core.imagery.chip import within
from oam_mosaic_assets.core.imagery.grey import HINT
from oam_mosaic_assets.core.imagery.pixels import TILE, Pixels, encoded, halved, over
from oam_mosaic_assets.core.imagery.recipe import QUALITY
from oam_mosaic_assets.core.merging import Place, Source, write_archive

_EARTH: Final = (-180.0, -85.0511287, 180.0, 85.0511287)


def tiles_of_block(block: Tile, pixels: Pixels, hints: Sequence[Area] = ()) -> dict[int, bytes]:
    """The tiles of a block by tile id; those at `BLOCK_ZOOM` are lossless, since others are made from them.

    Args:
        block: the block.
        pixels: its pixels.
        hints: footprints (EPSG:4326) of images that were not read.
    """
    window = Window.of_block(block)
    if hints:
        pixels = over(pixels, _grey(window, hints))
    found: dict[int, bytes] = {}
    for zoom in range(FINEST, BLOCK_ZOOM - 1, -1):
        side = 1 << (zoom - BLOCK_ZOOM)
        quality = None if zoom == BLOCK_ZOOM else QUALITY
        for row in range(side):
            for column in range(side):
                part = pixels[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                if tile := _written(part, quality):
                    found[Tile(block.x * side + column, block.y * side + row).id(zoom)] = tile
        pixels = halved(pixels)
    return found


def _grey(window: Window, footprints: Sequence[Area]) -> Pixels:
    """Footprints in grey; overlapping ones are no darker than one."""
    areas: list[Any] = [in_pixels(each) for each in footprints]
    with suppress(GEOSException):  # if they cannot be joined, they are drawn one by one
        areas = [shapely.union_all(areas)]
    grey = np.broadcast_to(HINT, (*window.shape, 4))
    drawn: Pixels = functools.reduce(np.maximum, (within(grey, window, each) for each in areas))
    return drawn


def _written(tile: Pixels, quality: int | None) -> bytes | None:
    if np.ptp(tile.view(np.uint32)) == 0:
        return _of_one_colour(tile[0, 0].tobytes(), quality)
    return encoded(tile, quality=quality)


@functools.lru_cache(maxsize=64)
def _of_one_colour(pixel: bytes, quality: int | None) -> bytes | None:
    """A tile of one colour; cached, since nearly all tiles of a grey block are empty or grey all over."""
    whole = np.broadcast_to(np.frombuffer(pixel, np.uint8), (TILE, TILE, 4))
    return encoded(np.ascontiguousarray(whole), quality=quality)


def above(
    lowest: int, tiles: Sequence[Tile], zoom: int, pixels_of: Callable[[Tile], Pixels]
) -> tuple[dict[int, bytes], dict[Tile, Pixels]]:
    """Make the tiles of the zooms above some tiles, each the mean of the four below it.

    Args:
        lowest: the coarsest zoom to make; at most `zoom`.
        tiles: those at `zoom` that show something.
        zoom: the zoom of those tiles.
        pixels_of: reads one of them.

    Returns:
        Tiles by tile id, and the pixels of those at `lowest`. Of each other zoom, the pixels of at most four
        tiles are in memory at a time.
    """
    made: dict[int, bytes] = {}
    roots: dict[Tile, Pixels] = {}
    present = {zoom: set(tiles)}
    for each in range(zoom - 1, lowest - 1, -1):
        present[each] = {tile.above(1) for tile in present[each + 1]}

    def built(tile: Tile, at: int) -> Pixels:
        if at == zoom:
            return pixels_of(tile)
        whole = np.zeros((2 * TILE, 2 * TILE, 4), np.uint8)
        for dy in (0, 1):
            for dx in (0, 1):
                child = Tile(2 * tile.x + dx, 2 * tile.y + dy)
                if child in present[at + 1]:
                    whole[dy * TILE :, dx * TILE :][:TILE, :TILE] = built(child, at + 1)
        pixels = halved(whole)
        if written := encoded(pixels, quality=QUALITY):
            made[tile.id(at)] = written
        return pixels

    for tile in sorted(present[lowest]):
        roots[tile] = built(tile, lowest)
    return made, roots


def write_tiles(
    target: Path,
    sources: Sequence[Source],
    tiles: Mapping[int, bytes],
    metadata: Mapping[str, object],
    *,
    zooms: tuple[int, int],
    bounds: tuple[float, float, float, float] = _EARTH,
) -> None:
    """Write an archive of WEBP tiles.

    Args:
        target: must not exist.
        sources: tiles in files.
        tiles: others, by tile id.
        metadata: the archive's JSON metadata.
        zooms: the first and the last zoom.
        bounds: west, south, east, north, degrees.
    """
    order = sorted(tiles)
    lengths = np.array([len(tiles[each]) for each in order], np.int64)
    with TemporaryFile(dir=target.parent) as file:  # without a name, which a killed process would leave taken
        file.writelines(tiles[each] for each in order)
        file.flush()
        entries = Directory(
            tile_id=np.array(order, np.int64),
            run_length=np.ones(len(order), np.int64),
            length=lengths,
            offset=np.cumsum(lengths) - lengths,
        )
        write_archive(
            target,
            [*sources, Source(file.fileno(), entries)],
            Place(zoom_min=zooms[0], zoom_max=zooms[1], bounds=bounds),
            metadata,
            tile_type=TileType.WEBP,
            tile_compression=Compression.NONE,
        )

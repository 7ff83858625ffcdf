"""A partition's archives, made from the previous ones and the blocks that were rebuilt."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.grid import first_tile_id, tile_positions
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, FINEST, PARTITION_ZOOM, Tile
from oam_mosaic_assets.core.imagery.fragment import above, write_tiles
from oam_mosaic_assets.core.imagery.laid import contents, laid_in
from oam_mosaic_assets.core.imagery.pixels import Pixels, decoded, encoded
from oam_mosaic_assets.core.imagery.recipe import QUALITY
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.gateways.open_files import more_files

TILES: Final = "tiles.pmtiles"
LOSSLESS: Final = "lossless.pmtiles"


def pack(
    folder: Path, old: Mapping[str, Path], fragments: Mapping[Tile, Path], kept: Collection[Tile]
) -> None:
    """Write a partition's two archives into a folder.

    One holds the tiles that are shown, at all zooms from `PARTITION_ZOOM` on; the other what the zooms above
    are made from: the tiles at `BLOCK_ZOOM`, and the one at `PARTITION_ZOOM`, as lossless WEBP.

    Args:
        folder: where they go.
        old: the two previous archives, by name; empty where there are none.
        fragments: archives of blocks that were rebuilt.
        kept: blocks that stay as they were.
    """
    with ExitStack() as stack, more_files(len(fragments)):
        sources: list[Source] = []
        lossless: list[Source] = []
        if kept and old:
            shown = stack.enter_context(open_archive(old[TILES]))
            sources.append(Source(shown.descriptor, _of_blocks(laid_in(shown), kept)))
            exact = stack.enter_context(open_archive(old[LOSSLESS]))
            entries = _of_blocks(laid_in(exact), kept)
            lossless.append(Source(exact.descriptor, entries))
        loose: dict[int, bytes] = {}
        for path in fragments.values():
            archive = stack.enter_context(open_archive(path))
            entries = laid_in(archive)
            is_exact = entries.tile_id < first_tile_id(BLOCK_ZOOM + 1)
            lossless.append(Source(archive.descriptor, entries[is_exact]))
            sources.append(Source(archive.descriptor, entries[~is_exact]))
            for tile_id, exact_tile in contents(archive, entries[is_exact]):
                if tile := encoded(decoded(exact_tile), quality=QUALITY):
                    loose[tile_id] = tile
        made, roots = _above(lossless)
        write_tiles(folder / TILES, sources, loose | made, {}, zooms=(PARTITION_ZOOM, FINEST))
        exact_roots = {
            tile.id(PARTITION_ZOOM): content
            for tile, pixels in roots.items()
            if (content := encoded(pixels, quality=None)) is not None
        }
        write_tiles(folder / LOSSLESS, lossless, exact_roots, {}, zooms=(PARTITION_ZOOM, BLOCK_ZOOM))


def _above(lossless: list[Source]) -> tuple[dict[int, bytes], dict[Tile, Pixels]]:
    """The tiles of the zooms above `BLOCK_ZOOM`, and the pixels of the partition's own tile."""
    places: dict[Tile, tuple[int, int, int]] = {}
    for source in lossless:
        entries = source.entries
        x, y = tile_positions(entries.tile_id, BLOCK_ZOOM)
        columns = (x, y, entries.offset, entries.length)
        for column, row, offset, length in zip(*(each.tolist() for each in columns), strict=True):
            places[Tile(column, row)] = (source.descriptor, offset, length)

    def read(tile: Tile) -> Pixels:
        descriptor, offset, length = places[tile]
        return decoded(os.pread(descriptor, length, offset))

    return above(PARTITION_ZOOM, list(places), BLOCK_ZOOM, read)


def _of_blocks(entries: Directory, blocks: Collection[Tile]) -> Directory:
    """The tiles of these blocks, at the zooms of blocks."""
    wanted = np.array([each.id(BLOCK_ZOOM) for each in blocks], np.int64)
    found = np.zeros(len(entries), np.bool_)
    for zoom in range(BLOCK_ZOOM, FINEST + 1):
        first, after = first_tile_id(zoom), first_tile_id(zoom + 1)
        of_zoom = (entries.tile_id >= first) & (entries.tile_id < after)
        # along the Hilbert curve, the tiles below a tile have consecutive ids
        parents = (entries.tile_id[of_zoom] - first) >> 2 * (zoom - BLOCK_ZOOM)
        found[of_zoom] = np.isin(parents + first_tile_id(BLOCK_ZOOM), wanted)
    return entries[found]


def metadata_of(path: Path) -> Mapping[str, Any]:
    """An archive's metadata. Raises `BrokenArchive`."""
    with open_archive(path) as archive:
        return archive.metadata

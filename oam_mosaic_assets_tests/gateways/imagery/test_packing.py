"""Packing the blocks of a partition into its two archives."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.imagery.blocks import BLOCK, BLOCK_ZOOM, FINEST, PARTITION_ZOOM, Tile
from oam_mosaic_assets.core.imagery.fragment import tiles_of_block, write_tiles
from oam_mosaic_assets.core.imagery.laid import laid_in
from oam_mosaic_assets.gateways.imagery.packing import LOSSLESS, TILES, pack


def test_a_partition_of_many_new_blocks_is_packed_with_few_files_allowed(tmp_path: Path) -> None:
    """The usual soft limit is 1,024 files; a partition has up to 4,096 blocks."""
    pixels = np.full((BLOCK, BLOCK, 4), 255, np.uint8)
    fragments: dict[Tile, Path] = {}
    for number in range(300):
        block = Tile(2048 + number % 20, 2048 + number // 20)
        fragments[block] = tmp_path / f"{number}.pmtiles"
        write_tiles(fragments[block], [], tiles_of_block(block, pixels), {}, zooms=(BLOCK_ZOOM, FINEST))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        pack(tmp_path, {}, fragments, [])
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    roots = {Tile(2048, 2048).above(BLOCK_ZOOM - PARTITION_ZOOM).id(PARTITION_ZOOM)}
    blocks = {each.id(BLOCK_ZOOM) for each in fragments}
    with open_archive(tmp_path / LOSSLESS) as exact, open_archive(tmp_path / TILES) as shown:
        assert set(laid_in(exact).tile_id.tolist()) == blocks | roots
        assert set(laid_in(shown).tile_id.tolist()) > blocks | roots

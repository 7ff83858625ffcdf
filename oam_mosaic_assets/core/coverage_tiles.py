"""Coverage drawn into files: blocks one by one, the tiles above them, and whole tiles.

Tiles are written as they are drawn: their contents, and for each zoom a `Source` that says where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from oam_mosaic_assets.core.bitmaps import Tiles
from oam_mosaic_assets.core.blocks import Blocks
from oam_mosaic_assets.core.coverage import (
    CoveragePlan,
    block_drawn,
    is_covered,
    tiles_above,
    tiles_below,
)
from oam_mosaic_assets.core.directory import Directory, joined
from oam_mosaic_assets.core.entry_files import EntryFiles, Opened
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids, tile_positions
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.palette import Palette
from oam_mosaic_assets.core.pixels import Numbers, Pixels, pixels_touched
from oam_mosaic_assets.core.stretches import Stretches

TILES: Final = "tiles"
"""The file of pictures; the files of entries are named after zoom and column."""

_TOGETHER: Final = 128
"""Tiles above blocks that are drawn together: a megabyte of bitmaps, and four for the tiles below them."""

SECTOR: Final = 512
"""Tiles of the last zoom along a sector's edge; whole tiles are found sector by sector: some megabytes."""


class _Spool:
    """Pictures in a file, and where each is. The fully covered picture is stored once.

    Tiles of a zoom must be added in the order of their ids.
    """

    def __init__(self, opened: Opened, plan: CoveragePlan, zooms: range) -> None:
        self.file, self.picture = opened(TILES), plan.picture
        self.full = len(self.picture.full())
        self.end = self.file.write(self.picture.full())
        self.entries = {zoom: EntryFiles.opened(f"z{zoom}", opened) for zoom in zooms}

    def add(self, zoom: int, tiles: Tiles) -> None:
        """Write the pictures of these tiles."""
        ids = tile_ids(zoom, tiles.x, tiles.y)
        some = ids[~tiles.is_full]
        order = np.argsort(some)
        contents = list(self.picture.encoded(tiles.bitmap[order]))
        length = np.array([len(each) for each in contents], np.int64)
        offset = self.end + np.cumsum(length) - length
        self.end += self.file.write(b"".join(contents))
        fresh = Directory(some[order], np.ones_like(length), length, offset)
        together = joined([fresh, self._all_over(Stretches.of(ids[tiles.is_full]))])
        self.entries[zoom].add(together[np.argsort(together.tile_id)])

    def add_full(self, zoom: int, tiles: Stretches) -> None:
        """Add tiles of one zoom that are all fully covered."""
        self.entries[zoom].add(self._all_over(tiles))

    def _all_over(self, tiles: Stretches) -> Directory:
        same = np.full_like(tiles.begin, self.full)
        return Directory(tiles.begin, tiles.end - tiles.begin, same, np.zeros_like(same))

    def sources(self) -> list[Source]:
        """One source for each zoom."""
        self.file.flush()
        return [Source(self.file.fileno(), each.entries()) for each in self.entries.values()]


def _zooms_of_blocks(plan: CoveragePlan) -> range:
    return range(max(plan.block_zoom, plan.zoom_min), plan.zoom_max + 1)


def spooled_by(opened: Opened, plan: CoveragePlan) -> list[Source]:
    """What `blocks_spooled` wrote, possibly in another process; the file of pictures stays open."""
    file = opened(TILES)
    entries = [EntryFiles.opened(f"z{zoom}", opened).entries() for zoom in _zooms_of_blocks(plan)]
    return [Source(file.fileno(), each) for each in entries]


def blocks_spooled(
    blocks: Blocks,
    which: Sequence[int],
    plan: CoveragePlan,
    opened: Opened,
    on_block: Callable[[], None] = lambda: None,
) -> list[Source]:
    """Draw blocks into files: their own tiles and all below them.

    Args:
        blocks: all blocks.
        which: indices of the blocks to draw, ascending.
        plan: what is drawn.
        opened: opens the files, which must be empty.
        on_block: called after each block.
    """
    spool = _Spool(opened, plan, _zooms_of_blocks(plan))
    columns, rows = tile_positions(blocks.ids, plan.block_zoom)
    for each in which:
        parts, column, row = blocks.parts_of(each), int(columns[each]), int(rows[each])
        if is_covered(parts, column, row, plan):
            below = tiles_below(blocks.ids[[each]], plan)
            for zoom in _zooms_of_blocks(plan):
                spool.add_full(zoom, below.within(zoom))
        else:
            for zoom, tiles in block_drawn(parts, column, row, plan):
                spool.add(zoom, tiles)
        on_block()
    return spool.sources()


def upper_tiles_spooled(
    below: Sequence[Source], blocks: Numbers, plan: CoveragePlan, opened: Opened
) -> list[Source]:
    """Draw the tiles above blocks, each from the four below it, zoom by zoom.

    Args:
        below: where the tiles of the blocks' zoom are, and those above it that are not redrawn.
        blocks: ids of the blocks above which tiles are drawn.
        plan: what is drawn.
        opened: opens the files, which must be empty.
    """
    spool, sources = _Spool(opened, plan, range(plan.zoom_min, plan.block_zoom)), list(below)
    for zoom in range(plan.block_zoom - 1, plan.zoom_min - 1, -1):
        wanted = tiles_above(blocks, zoom, plan)
        for start in range(0, len(wanted), _TOGETHER):
            children = (wanted[start:][:_TOGETHER, None] - first_tile_id(zoom)) * 4 + np.arange(4)
            ids = children.ravel() + first_tile_id(zoom + 1)
            found = read_tiles(sources, ids, zoom + 1, plan.picture)
            if len(found):
                spool.add(zoom, found.halved())
        sources = [*below, *spool.sources()]
    return spool.sources()


def read_tiles(sources: Sequence[Source], ids: Numbers, zoom: int, picture: Palette) -> Tiles:
    """Those of these tiles that exist, in the order of their ids.

    Args:
        sources: where they may be.
        ids: of tiles of one zoom; ascending.
        zoom: their zoom.
        picture: the kind of picture that each must be.

    Raises:
        BrokenPicture: a tile is not such a picture.
    """
    found, bitmaps = [np.zeros(0, np.int64)], [np.zeros((0, picture.pixels, picture.pixels // 8), np.uint8)]
    for source in sources:
        entry = source.entries.at(ids)
        places = source.entries[entry[entry >= 0]]
        _, first, content = np.unique(places.offset, return_index=True, return_inverse=True)
        if len(first):
            each = zip(places.offset[first].tolist(), places.length[first].tolist(), strict=True)
            decoded = [picture.decoded(source.content(start, length)) for start, length in each]
            bitmaps.append(np.concatenate(decoded)[content])
            found.append(ids[entry >= 0])
    together = np.concatenate(found)
    order = np.argsort(together)
    x, y = tile_positions(together[order], zoom)
    bitmap = np.concatenate(bitmaps)[order]
    return Tiles(picture.pixels, x, y, np.zeros(len(order), np.bool_), bitmap)


def sector_zoom(plan: CoveragePlan) -> int:
    """The zoom of the sectors that `whole_tiles_spooled` processes one by one."""
    return max(0, plan.zoom_max - SECTOR.bit_length() + 1)


def whole_tiles_spooled(sectors: Blocks, plan: CoveragePlan, opened: Opened) -> list[Source]:
    """The tiles that footprints overlap, at all zooms, each fully covered.

    Args:
        sectors: footprints by the tiles of `sector_zoom` that they reach.
        plan: what is drawn.
        opened: opens the files, which must be empty.
    """
    spool = _Spool(opened, plan, range(plan.zoom_min, plan.zoom_max + 1))
    top = sector_zoom(plan)
    side, scale = 1 << (plan.zoom_max - top), float(1 << plan.zoom_max)
    columns, rows = (each.tolist() for each in tile_positions(sectors.ids, top))
    shown = [np.zeros(0, np.int64)]
    for which, (column, row) in enumerate(zip(columns, rows, strict=True)):
        # a pixel here is a tile of the last zoom
        lies = pixels_touched(sectors.parts_of(which), side, scale=scale, origin=(column * side, row * side))
        for zoom in range(plan.zoom_max, top - 1, -1):
            x, y = _each(lies)
            ids = tile_ids(zoom, x + column * lies.side, y + row * lies.side)
            if zoom >= plan.zoom_min:
                spool.add_full(zoom, Stretches.of(ids))
            lies = lies.halved()
        shown.append(ids)
    ordinal = np.concatenate(shown) - first_tile_id(top)
    for zoom in range(plan.zoom_min, top):
        spool.add_full(zoom, Stretches.of((ordinal >> 2 * (top - zoom)) + first_tile_id(zoom)))
    return spool.sources()


def _each(pixels: Pixels) -> tuple[Numbers, Numbers]:
    """Column and row of each pixel."""
    row, west, east = pixels.rows()
    count = east - west
    y = np.repeat(row, count)
    x = np.arange(len(y)) - np.repeat(np.cumsum(count) - count - west, count)
    return x, y

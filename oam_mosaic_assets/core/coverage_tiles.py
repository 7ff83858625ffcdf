"""Coverage as tiles in files: blocks drawn one by one, the tiles above them, and whole tiles.

Every function here gives a `Source`: contents in a file, and entries that say which tile is where in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import numpy as np

from oam_mosaic_assets.core.bitmaps import Tiles
from oam_mosaic_assets.core.blocks import Blocks
from oam_mosaic_assets.core.coverage import CoveragePlan, block_drawn, is_covered, tiles_above, tiles_below
from oam_mosaic_assets.core.directory import Directory, joined
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids, tile_positions
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.palette_png import PalettePng
from oam_mosaic_assets.core.pixels import Numbers, Pixels
from oam_mosaic_assets.core.reach import where_images_lie
from oam_mosaic_assets.core.stretches import Stretches

_TOGETHER: Final = 128
"""Tiles above blocks that are drawn together: a megabyte of bitmaps, and four times as much below them."""

_TILES_TOGETHER: Final = 2**20
"""Tiles whose ids are found together: a hundred megabytes."""


class _Spool:
    """Pictures in a file, and where each lies. The one that is covered all over lies there once."""

    def __init__(self, file: IO[bytes], picture: PalettePng) -> None:
        self.file, self.picture = file, picture
        self.full = len(picture.full())
        self.end = file.write(picture.full())
        self.entries: list[Directory] = []

    def add(self, zoom: int, tiles: Tiles) -> None:
        """Write the pictures of these tiles."""
        ids = tile_ids(zoom, tiles.x, tiles.y)
        full = Stretches.of(ids[tiles.is_full])
        self.add_full(full)
        ids = ids[~tiles.is_full]
        order = np.argsort(ids)
        contents = list(self.picture.encoded(tiles.bitmap[order]))
        length = np.array([len(each) for each in contents], np.int64)
        offset = self.end + np.cumsum(length) - length
        self.end += self.file.write(b"".join(contents))
        self.entries.append(Directory(ids[order], np.ones_like(length), length, offset))

    def add_full(self, tiles: Stretches) -> None:
        """All of these are covered all over; no stretch leaves its zoom."""
        same = np.full_like(tiles.begin, self.full)
        self.entries.append(Directory(tiles.begin, tiles.end - tiles.begin, same, np.zeros_like(same)))

    def source(self) -> Source:
        self.file.flush()
        entries = joined(self.entries)
        return Source(self.file.fileno(), entries[np.argsort(entries.tile_id)])


def blocks_spooled(
    blocks: Blocks,
    which: Sequence[int],
    plan: CoveragePlan,
    file: IO[bytes],
    on_block: Callable[[], None] = lambda: None,
) -> Source:
    """Draw blocks into a file: their own tiles and all below them.

    Args:
        blocks: what there is to draw.
        which: indices of those that are drawn.
        plan: what is drawn.
        file: open for reading and writing, empty.
        on_block: called after each.
    """
    spool = _Spool(file, plan.picture)
    columns, rows = tile_positions(blocks.ids, plan.block_zoom)
    for each in which:
        parts, column, row = blocks.parts_of(each), int(columns[each]), int(rows[each])
        if is_covered(parts, column, row, plan):
            spool.add_full(tiles_below(blocks.ids[[each]], plan))
        else:
            for zoom, tiles in block_drawn(parts, column, row, plan):
                spool.add(zoom, tiles)
        on_block()
    return spool.source()


def upper_tiles_spooled(
    below: Sequence[Source], blocks: Numbers, plan: CoveragePlan, file: IO[bytes]
) -> Source:
    """Draw the tiles above blocks from those below each, zoom by zoom.

    Args:
        below: where the tiles of the blocks' zoom are, and those above it that are not to be drawn.
        blocks: ids of those whose upper tiles are to be drawn.
        plan: what is drawn.
        file: open for reading and writing, empty.
    """
    spool, sources = _Spool(file, plan.picture), list(below)
    for zoom in range(plan.block_zoom - 1, plan.zoom_min - 1, -1):
        wanted = tiles_above(blocks, zoom, plan)
        for start in range(0, len(wanted), _TOGETHER):
            children = (wanted[start:][:_TOGETHER, None] - first_tile_id(zoom)) * 4 + np.arange(4)
            ids = children.ravel() + first_tile_id(zoom + 1)
            found = read_tiles(sources, ids, zoom + 1, plan.picture)
            if len(found):
                spool.add(zoom, found.halved())
        sources = [*below, spool.source()]
    return spool.source()


def read_tiles(sources: Sequence[Source], ids: Numbers, zoom: int, picture: PalettePng) -> Tiles:
    """Those of these tiles that there are, in the order of their ids.

    Args:
        sources: where they may be.
        ids: of tiles of one zoom; ascending.
        zoom: their zoom.
        picture: what each is to be.

    Raises:
        BrokenPicture: one is not.
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


def whole_tiles_spooled(footprints: Path, plan: CoveragePlan, file: IO[bytes]) -> Source:
    """The tiles that footprints have something in, at all zooms, each covered all over.

    Args:
        footprints: the GeoParquet.
        plan: what is drawn.
        file: open for reading and writing, empty.
    """
    spool = _Spool(file, plan.picture)
    lies = where_images_lie(footprints, 1 << plan.zoom_max)  # a tile for a pixel
    for zoom in range(plan.zoom_max, plan.zoom_min - 1, -1):
        spool.add_full(Stretches.union([Stretches.of(ids) for ids in _ids(lies, zoom)]))
        lies = lies.halved()
    return spool.source()


def _ids(tiles: Pixels, zoom: int) -> Iterator[Numbers]:
    row, west, east = tiles.rows()
    after = np.cumsum(east - west)
    start = 0
    while start < len(row):
        base = int(after[start] - (east - west)[start])
        stop = max(start + 1, int(np.searchsorted(after, base + _TILES_TOGETHER, side="right")))
        count = (east - west)[start:stop]
        y = np.repeat(row[start:stop], count)
        x = np.arange(len(y)) - np.repeat(np.cumsum(count) - count - west[start:stop], count)
        yield tile_ids(zoom, x, y)
        start = stop

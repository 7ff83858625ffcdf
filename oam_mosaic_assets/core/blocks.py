"""Which footprints reach which block, in files, so that processes can share the drawing in little memory.

A block is a tile of a middle zoom, see `core.coverage`; its number is its PMTiles id.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import shapely

from oam_mosaic_assets.core.grid import Geometries, first_tile_id, tile_ids
from oam_mosaic_assets.core.pixels import Numbers
from oam_mosaic_assets.core.reach import cells_reached, parts_on_the_map
from oam_mosaic_assets.core.stretches import Stretches

_PARTS: Final = "parts.wkb"
_MEMBERS: Final = "members.npy"

LARGE: Final = 2_000
"""An outline with more corners is cut before it is sorted into blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Blocks and the parts of footprints that reach them. Made by `write_blocks`, read by `open_blocks`.

    Attributes:
        ids: of the blocks, ascending.
        first: index of each block's first member; the number of members is appended.
        members: offset and length of each part's WKB, block by block; shape (n, 2).
        descriptor: of the open file with the WKB.
    """

    ids: Numbers
    first: Numbers
    members: Numbers
    descriptor: int

    def parts_of(self, which: int) -> Geometries:
        """The polygons that may reach a block, in drawing order, in tile coordinates of zoom 0.

        Args:
            which: index of the block.
        """
        members = self.members[self.first[which] : self.first[which + 1]].tolist()
        content = [os.pread(self.descriptor, length, start) for start, length in members]
        found: Geometries = shapely.from_wkb(content)
        return found


def write_blocks(footprints: Path, zoom: int, folder: Path, *, only: Stretches | None = None) -> Numbers:
    """Sort the parts of all footprints by the blocks that they reach; returns the ids of those blocks.

    Args:
        footprints: the GeoParquet.
        zoom: of the blocks.
        folder: where the files go.
        only: the blocks that are wanted; None for all.
    """
    start, ids, members = 0, [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    with (folder / _PARTS).open("xb") as spool:
        for whole in parts_on_the_map(footprints):
            parts = _large_ones_cut(whole, zoom, only)
            part, x, y = cells_reached(parts, zoom)
            block = tile_ids(zoom, x, y)
            if only is not None:
                wanted = only.hold(block)
                kept, part = np.unique(part[wanted], return_inverse=True)
                parts, block = parts[kept], block[wanted]
            if not len(block):
                continue
            content = shapely.to_wkb(parts).tolist()
            length = np.array([len(each) for each in content], np.int64)
            begins = start + np.cumsum(length) - length
            start += spool.write(b"".join(content))
            ids.append(block)
            members.append(np.column_stack([begins, length])[part])
    block = np.concatenate(ids)
    order = np.argsort(block, kind="stable")  # keeps drawing order, so that results do not depend on chance
    np.save(folder / _MEMBERS, np.column_stack([block, np.concatenate(members)])[order])
    return np.unique(block)


def _large_ones_cut(parts: Geometries, zoom: int, only: Stretches | None) -> Geometries:
    """The same in the same order, but outlines of very many corners that reach several blocks are cut up.

    Such an outline is cut tile by tile from the first zoom down: cutting each block out of the whole outline
    would take time proportional to corners times blocks. What lies in a block does not depend on which blocks
    are wanted.
    """
    is_large = shapely.get_num_coordinates(parts) > LARGE
    if not is_large.any():
        return parts
    pieces, of = parts[is_large], np.flatnonzero(is_large)
    for level in range(1, zoom + 1):
        which, x, y = cells_reached(pieces, level)
        is_cut = np.bincount(which, minlength=len(pieces))[which] > 1
        if only is not None:
            above = (only.tile_ids - first_tile_id(zoom) >> 2 * (zoom - level)) + first_tile_id(level)
            wanted = np.isin(tile_ids(level, x, y), above)
            which, x, y, is_cut = which[wanted], x[wanted], y[wanted], is_cut[wanted]
        scale = float(1 << level)
        boxes = shapely.box(x / scale, y / scale, (x + 1) / scale, (y + 1) / scale)
        pieces, of = pieces[which], of[which]
        pieces[is_cut] = shapely.intersection(pieces[is_cut], boxes[is_cut])
        pieces, each = shapely.get_parts(pieces, return_index=True)
        has_area = shapely.area(pieces) > 0.0  # what only touches a tile is a line or a point there
        pieces, of = pieces[has_area], of[each[has_area]]
    together, of = np.concatenate([parts[~is_large], pieces]), np.concatenate([np.flatnonzero(~is_large), of])
    found: Geometries = together[np.argsort(of, kind="stable")]
    return found


@contextmanager
def open_blocks(folder: Path) -> Iterator[Blocks]:
    """What `write_blocks` wrote; the parts are read when they are needed."""
    members = np.load(folder / _MEMBERS, mmap_mode="r")
    block = members[:, 0]
    first = np.flatnonzero(np.append(np.ones(min(1, len(block)), np.bool_), np.diff(block) != 0))
    descriptor = os.open(folder / _PARTS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Blocks(block[first], np.append(first, len(members)), members[:, 1:], descriptor)
    finally:
        os.close(descriptor)

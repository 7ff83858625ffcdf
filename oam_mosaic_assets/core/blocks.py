"""Which footprints reach which block, kept in files, so that processes share the drawing and hold little.

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

from oam_mosaic_assets.core.grid import Geometries, tile_ids
from oam_mosaic_assets.core.pixels import Numbers
from oam_mosaic_assets.core.reach import cells_reached, parts_on_the_map
from oam_mosaic_assets.core.stretches import Stretches

_PARTS: Final = "parts.wkb"
_MEMBERS: Final = "members.npy"


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Blocks and the parts of footprints that reach them. Made by `write_blocks`, read by `open_blocks`.

    Attributes:
        ids: of the blocks, ascending.
        first: for each block its first member, and at last how many members there are.
        members: where the WKB of each begins, and how long it is; shape (n, 2), for one block after another.
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
    """Sort the parts of all footprints by the blocks that they reach; returns the ids of these.

    Args:
        footprints: the GeoParquet.
        zoom: of the blocks.
        folder: where the files go.
        only: the blocks that are wanted; None are all.
    """
    start, ids, members = 0, [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    with (folder / _PARTS).open("xb") as spool:
        for parts in parts_on_the_map(footprints):
            part, x, y = cells_reached(parts, zoom)
            block = tile_ids(zoom, x, y)
            if only is not None:
                wanted = only.hold(block)
                kept, part = np.unique(part[wanted], return_inverse=True)
                parts, block = parts[kept], block[wanted]  # noqa: PLW2901
            if not len(block):
                continue
            content = shapely.to_wkb(parts).tolist()
            length = np.array([len(each) for each in content], np.int64)
            begins = start + np.cumsum(length) - length
            start += spool.write(b"".join(content))
            ids.append(block)
            members.append(np.column_stack([begins, length])[part])
    block = np.concatenate(ids)
    order = np.argsort(
        block, kind="stable"
    )  # drawing order stays, for what it makes must not depend on chance
    np.save(folder / _MEMBERS, np.column_stack([block, np.concatenate(members)])[order])
    return np.unique(block)


@contextmanager
def open_blocks(folder: Path) -> Iterator[Blocks]:
    """What `write_blocks` left; the parts are read as they are needed."""
    members = np.load(folder / _MEMBERS)
    block = members[:, 0]
    first = np.flatnonzero(np.append(np.ones(min(1, len(block)), np.bool_), np.diff(block) != 0))
    descriptor = os.open(folder / _PARTS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Blocks(block[first], np.append(first, len(members)), members[:, 1:], descriptor)
    finally:
        os.close(descriptor)

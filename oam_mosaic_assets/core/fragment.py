"""A part of an archive made by one of several workers: tiles in a file, to be merged with the others."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Final, Self

import numpy as np

from oam_mosaic_assets.core.directory import Directory, Numbers
from oam_mosaic_assets.core.grid import tile_ids
from oam_mosaic_assets.core.merging import Source

ENTRIES: Final = ".npy"
"""Suffix of the file with the entries, which lies beside the one with the tiles."""

_BATCH: Final = 16_384
"""Tiles whose ids are computed together."""


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """Some tiles of an archive.

    Attributes:
        tiles: a file with their contents.
        entries: where each tile lies in that file; anything else in it is ignored.
    """

    tiles: Path
    entries: Directory

    @classmethod
    def written(cls, tiles: Iterable[tuple[int, int, int, bytes]], target: Path) -> Self:
        """Write tiles, given as `spooled` takes them, to a new file."""
        with target.open("xb") as spool:
            return cls(target, spooled(tiles, spool).entries)

    def opened(self, held: ExitStack) -> Source:
        """The fragment as a source for `merging`, open until the stack is closed."""
        return Source(held.enter_context(self.tiles.open("rb")).fileno(), self.entries)

    def saved(self) -> tuple[Path, Path]:
        """The two files that another machine needs; the second is written here."""
        beside = self.tiles.with_suffix(ENTRIES)
        part = beside.with_suffix(".part")  # what `left_at` mapped stays as it was
        columns = [getattr(self.entries, each.name) for each in fields(Directory)]
        written = np.lib.format.open_memmap(part, "w+", np.int64, (len(columns), len(self.entries)))
        for row, column in zip(written, columns, strict=True):
            row[:] = column
        written.flush()
        part.replace(beside)
        return self.tiles, beside

    @classmethod
    def left_at(cls, tiles: Path) -> Self:
        """What `saved` wrote, given the file with the tiles; the entries stay in their file."""
        return cls(tiles, Directory(*np.asarray(np.load(tiles.with_suffix(ENTRIES), mmap_mode="r"))))


def spooled(tiles: Iterable[tuple[int, int, int, bytes]], spool: IO[bytes]) -> Source:
    """Write tiles to a file, one after another, and return where each lies. `merging` finds the equal ones.

    Args:
        tiles: zoom, column, row and content of each, in any order.
        spool: an empty file, to be kept open as long as the source is used.
    """
    places, length, tile_id = array("q"), array("q"), array("q")
    for zoom, x, y, content in tiles:
        places.extend((zoom, x, y))
        length.append(len(content))
        spool.write(content)
        if len(length) % _BATCH == 0:
            tile_id.frombytes(_ids(places).tobytes())
            places = array("q")
    tile_id.frombytes(_ids(places).tobytes())
    spool.flush()
    ids, lengths = np.frombuffer(tile_id, np.int64), np.frombuffer(length, np.int64)
    offset = np.cumsum(lengths) - lengths
    order = np.argsort(ids)
    runs = np.broadcast_to(np.int64(1), ids.shape)
    return Source(spool.fileno(), Directory(ids[order], runs, lengths[order], offset[order]))


def _ids(places: array[int]) -> Numbers:
    """PMTiles ids of tiles, from the zoom, column and row of each."""
    zoom, x, y = np.frombuffer(places, np.int64).reshape(-1, 3).T
    ids = np.zeros(len(zoom), np.int64)
    for each in np.unique(zoom).tolist():
        of_zoom = zoom == each
        ids[of_zoom] = tile_ids(each, x[of_zoom], y[of_zoom])
    return ids

"""What one of several hands made of an archive: tiles in a file, for whoever puts them together."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

import numpy as np

from oam_mosaic_assets.core.directory import Directory, Numbers
from oam_mosaic_assets.core.grid import tile_ids
from oam_mosaic_assets.core.merging import Source

ENTRIES: Final = ".npy"
"""How the file is called beside the one with the tiles that says which they are."""

_BATCH: Final = 16_384
"""Tiles whose ids are worked out together."""


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """Some tiles of an archive.

    Attributes:
        tiles: a file with their contents.
        entries: where each lies in it. What else is in the file does not count.
    """

    tiles: Path
    entries: Directory

    @classmethod
    def written(cls, tiles: Iterable[tuple[int, int, int, bytes]], target: Path) -> Self:
        """These tiles, given as `spooled` takes them, in a new file."""
        with target.open("xb") as spool:
            return cls(target, spooled(tiles, spool).entries)

    def opened(self, held: ExitStack) -> Source:
        """As `merging` takes it, open as long as the stack."""
        return Source(held.enter_context(self.tiles.open("rb")).fileno(), self.entries)

    def saved(self) -> tuple[Path, Path]:
        """The files that another machine needs of it; the second is written now."""
        beside = self.tiles.with_suffix(ENTRIES)
        entries = self.entries
        np.save(beside, np.stack([entries.tile_id, entries.run_length, entries.length, entries.offset]))
        return self.tiles, beside

    @classmethod
    def left_at(cls, tiles: Path) -> Self:
        """What `saved` wrote, by the file with the tiles."""
        return cls(tiles, Directory(*np.load(tiles.with_suffix(ENTRIES))))


def spooled(tiles: Iterable[tuple[int, int, int, bytes]], spool: IO[bytes]) -> Source:
    """Write tiles into a file, one after another, and say where each lies. `merging` sees which are equal.

    Args:
        tiles: zoom, column, row and content of each, in any order.
        spool: the file, empty; to be kept open as long as the source is used.
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
    """PMTiles ids of tiles, from zoom, column and row of each."""
    zoom, x, y = np.frombuffer(places, np.int64).reshape(-1, 3).T
    ids = np.zeros(len(zoom), np.int64)
    for each in np.unique(zoom).tolist():
        of_zoom = zoom == each
        ids[of_zoom] = tile_ids(each, x[of_zoom], y[of_zoom])
    return ids

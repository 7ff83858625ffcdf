"""Where single tiles are in an archive: runs of equal tiles are expanded, as they may span several blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from oam_mosaic_assets.core.archive import Archive
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.merging import Source


def laid_in(archive: Archive) -> Directory:
    """All tiles of an archive in the order of their ids, one per entry; offsets count from the file's start.

    Raises:
        BrokenArchive: as `Archive.directories`.
    """
    entries = Source.of_archive(archive).entries
    runs = entries.run_length
    each = np.repeat(np.arange(len(entries)), runs)
    spread = entries[each]
    return Directory(
        tile_id=spread.tile_id + np.arange(len(each)) - np.repeat(np.cumsum(runs) - runs, runs),
        run_length=np.ones(len(each), np.int64),
        length=spread.length,
        offset=spread.offset,
    )


def contents(archive: Archive, tiles: Directory, *, most: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Each tile's id and its stored bytes.

    Args:
        archive: the archive that holds them.
        tiles: as `laid_in` returns them.
        most: how many bytes of each to read at most; None reads all.
    """
    for tile_id, offset, length in zip(
        tiles.tile_id.tolist(), tiles.offset.tolist(), tiles.length.tolist(), strict=True
    ):
        yield tile_id, os.pread(archive.descriptor, length if most is None else min(most, length), offset)

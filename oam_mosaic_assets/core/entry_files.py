"""Directory entries in files, one per column, so that even a great many take no memory.

The files are memory-mapped, not read, so the system can drop pages again at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import IO, Self

import numpy as np

from oam_mosaic_assets.core.directory import Directory, Numbers

Opened = Callable[[str], IO[bytes]]
"""Opens a file by its name for reading, and for writing if entries are added; its provider closes it."""


class EntryFiles:
    """Entries that are appended in the order of tile ids and can be read at any time.

    Args:
        files: one for each column, open for reading, and for writing if entries are to be added.
    """

    def __init__(self, files: Sequence[IO[bytes]]) -> None:
        self._files = files

    @classmethod
    def opened(cls, name: str, opened: Opened) -> Self:
        """Open the files of all columns; their names are `name`, a dot and the column."""
        return cls([opened(f"{name}.{each.name}") for each in fields(Directory)])

    def add(self, entries: Directory) -> None:
        """Append entries of tiles that follow all those already there."""
        for file, column in zip(self._files, fields(Directory), strict=True):
            file.write(np.ascontiguousarray(getattr(entries, column.name), np.int64).data)

    def entries(self) -> Directory:
        """All entries added so far. They stay valid when the files are closed or unlinked."""
        return Directory(*map(_mapped, self._files))


def _mapped(file: IO[bytes]) -> Numbers:
    if file.writable():
        file.flush()
    if os.fstat(file.fileno()).st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, np.int64)
    return np.asarray(np.memmap(file, np.int64, "r"))

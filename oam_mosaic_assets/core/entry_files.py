"""Directory entries in files, one per column, so that even a great many take no memory.

The files are memory-mapped, not read, so the system can drop pages again at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryFile
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
    def temporary(cls, folder: Path, held: ExitStack) -> Self:
        """New files without names in a folder, open until the stack is closed."""
        return cls([held.enter_context(TemporaryFile(dir=folder)) for _ in fields(Directory)])

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
        return Directory(*map(mapped, self._files))


def in_files(parts: Iterable[Directory], folder: Path) -> Directory:
    """The entries of all parts, one after another, in temporary files that last as long as they are used."""
    with ExitStack() as held:
        files = EntryFiles.temporary(folder, held)
        for part in parts:
            files.add(part)
        return files.entries()


def mapped(file: IO[bytes]) -> Numbers:
    """The numbers of 8 bytes in a file; they stay valid when it is closed or unlinked."""
    if file.writable():
        file.flush()
    if os.fstat(file.fileno()).st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, np.int64)
    return np.asarray(np.memmap(file, np.int64, "r"))

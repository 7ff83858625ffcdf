"""Entries of a directory in files, a column each: however many there are, they take no memory.

A file of them is mapped, not read; what is looked at may be forgotten by the system at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import IO, Self

import numpy as np

from oam_mosaic_assets.core.directory import Directory, Numbers

Opened = Callable[[str], IO[bytes]]
"""Opens the file of a name for reading and writing; who opened it closes it."""


class EntryFiles:
    """Entries that are added in the order of their tile ids and can be read at any time.

    Args:
        files: one for each column, open for reading.
    """

    def __init__(self, files: Sequence[IO[bytes]]) -> None:
        self._files = files

    @classmethod
    def opened(cls, name: str, opened: Opened) -> Self:
        """Files whose names begin so."""
        return cls([opened(f"{name}.{each.name}") for each in fields(Directory)])

    def add(self, entries: Directory) -> None:
        """More entries, of tiles behind all that there are."""
        for file, column in zip(self._files, fields(Directory), strict=True):
            file.write(np.ascontiguousarray(getattr(entries, column.name), np.int64).data)

    def entries(self) -> Directory:
        """What was added until now. Stays whole when the files are closed or their names are gone."""
        return Directory(*map(_mapped, self._files))


def _mapped(file: IO[bytes]) -> Numbers:
    if file.writable():
        file.flush()
    if os.fstat(file.fileno()).st_size == 0:  # nothing cannot be mapped
        return np.zeros(0, np.int64)
    return np.asarray(np.memmap(file, np.int64, "r"))

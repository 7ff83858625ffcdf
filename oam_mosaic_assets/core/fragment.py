"""What one of several hands made of an archive: tiles in a file, for whoever puts them together."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.merging import Source

ENTRIES: Final = ".npy"
"""How the file is called beside the one with the tiles that says which they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """Some tiles of an archive.

    Attributes:
        tiles: a file with their contents.
        entries: where each lies in it. What else is in the file does not count.
    """

    tiles: Path
    entries: Directory

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
    def load(cls, tiles: Path, entries: Path) -> Self:
        """What `saved` wrote."""
        return cls(tiles, Directory(*np.load(entries)))

"""Which image an id belongs to: for millions of images, with a few bytes of memory for each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

import numpy as np

from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.sorting import among


class Ids(Protocol):
    """Finds images by their ids."""

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def find(self, names: Sequence[Hashable]) -> Numbers:
        """The index of each image; -1 for what is no image's id."""
        ...


class ImageIds:
    """The index of each image, by its id.

    Ids are compared by a hash of 64 bits that differs from process to process. That two of 2,000,000 ids
    have the same hash happens once in ten million builds; the audit then fails, and passes when repeated.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Take the ids of all images, in the order of their indices."""
        hashes = np.fromiter(map(hash, names), np.int64)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._index = hashes[order], order.astype(np.int32)

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, names: Sequence[Hashable]) -> Numbers:
        """The index of each image; -1 for what is no image's id."""
        asked = np.fromiter(map(hash, names), np.int64, len(names))
        at, is_there = among(asked, self._hashes)
        found = np.full(len(asked), -1)
        found[is_there] = self._index[at[is_there]]
        return found


class AnyIds:
    """The same where any id is an image's: each gets an index when first asked for."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._index)

    def find(self, names: Sequence[Hashable]) -> Numbers:
        """The index of each image; -1 for what is no text."""
        index = self._index
        found = (index.setdefault(name, len(index)) if isinstance(name, str) else -1 for name in names)
        return np.fromiter(found, np.int64, len(names))

"""Sorting more numbers than fit in memory, and finding numbers among sorted ones.

Sorted runs go to files, which are merged stretch by stretch.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.entry_files import mapped

_RUN: Final = 2**21
"""Numbers that are sorted in memory; more of them go to files."""

_STEP: Final = 2**14
"""Every so many numbers of a run, one is noted; the notes of all runs say where to divide the merge."""


class Sorting:
    """Numbers that are added in any order and read back in ascending order.

    Args:
        folder: where the files go, if there have to be any; None for the system's temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._waiting: list[Numbers] = []
        self._count = 0
        self._runs: list[Numbers] = []

    def add(self, numbers: Numbers) -> None:
        """Add numbers; they must not be changed afterwards."""
        self._waiting.append(numbers)
        self._count += len(numbers)
        if self._count >= _RUN:
            self._runs.append(self._in_file([self._sorted()]))

    def finished(self) -> Numbers:
        """All numbers, ascending. Many of them are in a file, which lasts as long as they are used."""
        if not self._runs:
            return self._sorted()
        self._runs.append(self._sorted())
        noted = np.sort(np.concatenate([run[::_STEP] for run in self._runs]))
        bounds = np.unique(noted[:: _RUN // _STEP])[1:]
        cuts = [[0, *np.searchsorted(run, bounds).tolist(), len(run)] for run in self._runs]
        stretches = zip(*map(pairwise, cuts), strict=True)
        return self._in_file(
            np.sort(np.concatenate([run[slice(*cut)] for run, cut in zip(self._runs, some, strict=True)]))
            for some in stretches
        )

    def _sorted(self) -> Numbers:
        numbers = np.sort(np.concatenate([np.zeros(0, np.int64), *self._waiting]))
        self._waiting, self._count = [], 0
        return numbers

    def _in_file(self, parts: Iterable[Numbers]) -> Numbers:
        with TemporaryFile(dir=self._folder) as file:
            for part in parts:
                file.write(part.data)
            return mapped(file)


def among(these: Numbers, those: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    """Where each of these belongs among those, which ascend, and whether it is there."""
    at = np.searchsorted(those, these)
    if not len(those):
        return at, np.zeros(len(these), np.bool_)
    np.minimum(at, len(those) - 1, out=at)
    return at, those[at] == these

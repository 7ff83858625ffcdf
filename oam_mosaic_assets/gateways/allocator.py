"""What a process does about its memory: freed memory returns to the system, cycles are seldom sought."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
"""Parameter of `mallopt(3)`; setting it also keeps glibc from adjusting the mmap threshold."""

_M_MMAP_THRESHOLD: Final = -3
"""Parameter of `mallopt(3)`: the size, bytes, from which an allocation gets a mapping of its own."""

_YOUNG: Final = 10_000
"""New objects after which the collector seeks cycles; with Python's 700, that took a sixth of an audit."""

_KEPT_BYTES: Final = 128 * 1024
"""glibc's own default for both, before it adjusts them."""


def give_back_freed_memory(kept: int = _KEPT_BYTES) -> None:
    """Keep glibc from raising its thresholds.

    By default it holds on to up to 64 MiB freed by large arrays, a fifth of what a whole run needs. With
    another C library this does nothing.

    Args:
        kept: bytes that it may keep, so that a process that allocates arrays of this size over and over does
            not pay for getting them from the system each time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, kept)
        mallopt(_M_MMAP_THRESHOLD, kept)


def collect_seldom() -> None:
    """Let Python's garbage collector seek cycles less often, and never in what was loaded by now.

    Only the first call counts. Dagster and its libraries are nearly 200,000 objects that stay until the
    process ends. A full collection takes a tenth of a second to walk through them, and large numbers of
    geometries set off many.
    """
    if gc.get_threshold()[0] != _YOUNG:  # counting what is frozen would walk through all of it
        gc.freeze()
        gc.set_threshold(_YOUNG)

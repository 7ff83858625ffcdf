"""Returning freed memory to the system."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
"""Parameter of `mallopt(3)`; setting it also keeps glibc from adjusting the mmap threshold."""

_M_MMAP_THRESHOLD: Final = -3
"""Parameter of `mallopt(3)`: the size, bytes, from which an allocation gets a mapping of its own."""

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

"""What this process frees goes back to the system."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
"""Of `mallopt(3)`; to set it also ends the adjusting of the limits from which arrays are mapped."""

_M_MMAP_THRESHOLD: Final = -3
"""Bytes from which what is asked for is a mapping of its own."""

_KEPT_BYTES: Final = 128 * 1024
"""glibc's own default, before it adjusts it."""


def give_back_freed_memory(kept: int = _KEPT_BYTES) -> None:
    """Keep glibc from raising its thresholds.

    Left to itself it keeps up to 64 MiB of what large arrays leave behind, a fifth of what a whole run needs.
    Where the C library is another one, nothing happens.

    Args:
        kept: bytes that it may keep; a process that needs arrays of this size again and again is spared what
            the system takes for giving them anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, kept)
        mallopt(_M_MMAP_THRESHOLD, kept)

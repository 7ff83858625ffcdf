"""What this process frees goes back to the system."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
"""Of `mallopt(3)`; to set it also ends the adjusting of the limits from which arrays are mapped."""

_KEPT_BYTES: Final = 128 * 1024
"""glibc's own default, before it adjusts it."""


def give_back_freed_memory() -> None:
    """Keep glibc from raising its thresholds.

    Left to itself it keeps up to 64 MiB of what large arrays leave behind, a fifth of what a whole run needs.
    Where the C library is another one, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)

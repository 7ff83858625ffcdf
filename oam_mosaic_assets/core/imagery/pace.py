"""How long it will take, by how it went so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

LOOKED_BACK: Final = 600.0
"""Seconds over which the pace is taken: hosts are quick and slow by turns."""

SURE: Final = 10.0
"""Seconds before anything is said of it."""

_UNITS: Final = ((100.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h"))
"""Up to how many seconds something is told in units of how many, and their name."""


class Pace:
    """The pace of some work, told again and again how much is done."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin.

        Args:
            clock: seconds, of any beginning.
        """
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def left(self, done: int, of: int) -> str:
        """What is left, in words that follow others; empty where that cannot be said.

        Args:
            done: parts of the work so far.
            of: all of them.
        """
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - LOOKED_BACK:  # noqa: PLR2004  # one from before
            self._seen.popleft()
        then, before = self._seen[0]
        if now - then < SURE or done <= before or done >= of:
            return ""
        seconds = (of - done) * (now - then) / (done - before)
        for longest, unit, name in _UNITS:
            if seconds < longest:
                return f", some {seconds / unit:,.0f} {name} left"
        return f", some {seconds / 86_400.0:,.0f} days left"

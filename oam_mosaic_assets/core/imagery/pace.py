"""The time left, estimated from the pace so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

LOOKED_BACK: Final = 600.0
"""Seconds over which the pace is measured: hosts are fast and slow by turns."""

SURE: Final = 10.0
"""Seconds before the first estimate is given."""

_UNITS: Final = ((100.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h"))
"""Units of time: below how many seconds each is used, its length in seconds, and its name."""


class Pace:
    """The pace of some work, updated with each report of how much is done."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start measuring.

        Args:
            clock: returns seconds, counted from any moment.
        """
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def left(self, done: int, of: int) -> str:
        """The time left, in words to append to a message; empty where it cannot be estimated.

        Args:
            done: units of work done so far.
            of: units in all.
        """
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - LOOKED_BACK:  # noqa: PLR2004  # and one older
            self._seen.popleft()
        then, before = self._seen[0]
        if now - then < SURE or done <= before or done >= of:
            return ""
        seconds = (of - done) * (now - then) / (done - before)
        for longest, unit, name in _UNITS:
            if seconds < longest:
                return f", about {seconds / unit:,.0f} {name} left"
        return f", about {seconds / 86_400.0:,.0f} days left"

"""How a run reports its progress: to Dagster's log by default, to a terminal from the command line."""

from __future__ import annotations

import logging
import time
from typing import Protocol

SOON_SECONDS = 3.0
"""Least time between the first two log lines on a stage: in a small build, few stages take longer."""

INTERVAL_SECONDS = 10.0
"""The same between all later ones; each line is a row in Dagster's database."""


class Progress(Protocol):
    """Receives the progress of the assets."""

    def step(self, log: logging.Logger, stage: str, share: float | None, text: str) -> None:
        """Report that a stage got further.

        Args:
            log: Dagster's log of the run.
            stage: what is being done, such as `tiling`.
            share: 0 to 1; None if the total is not known.
            text: in words and numbers, such as `12,000 of 22,792 images`.
        """
        ...


class LoggedProgress:
    """Logs a line when a stage begins, and then now and then."""

    def __init__(self) -> None:
        self._stage, self._next = "", 0.0

    def step(self, log: logging.Logger, stage: str, share: float | None, text: str) -> None:
        now, begins = time.monotonic(), stage != self._stage
        if not begins and now < self._next:
            return
        self._stage, self._next = stage, now + (SOON_SECONDS if begins else INTERVAL_SECONDS)
        percent = None if share is None else f"{share:.0%}"
        is_bare = percent is None or (begins and percent == "0%")
        log.info("%s: %s", stage, text if is_bare else f"{percent}, {text}")

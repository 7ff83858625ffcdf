"""How a run reports its progress: to Dagster's log by default, to a terminal from the command line."""

from __future__ import annotations

import logging
import time
from typing import Protocol

INTERVAL_SECONDS = 10.0
"""Least time between two log lines on one stage; each line is a row in Dagster's database."""


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
    """Logs a line now and then."""

    def __init__(self) -> None:
        self._last = ("", 0.0)

    def step(self, log: logging.Logger, stage: str, share: float | None, text: str) -> None:
        last_stage, last_time = self._last
        now = time.monotonic()
        if stage == last_stage and now - last_time < INTERVAL_SECONDS:
            return
        self._last = (stage, now)
        log.info("%s: %s", stage, text if share is None else f"{share:.0%}, {text}")

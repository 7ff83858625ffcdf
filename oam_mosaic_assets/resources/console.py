"""The log of a run as plain lines for people: UTC, step, what happened. Dagster's events stay in its UI."""

import logging
import sys
import time
from typing import Any, Final, TextIO

import dagster as dg

from oam_mosaic_assets.resources.failures import cause_of

_FAILURES: Final = frozenset({dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RESOURCE_INIT_FAILURE})


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        step = getattr(record, "dagster_meta", {}).get("step_key") or ""
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        text = f"{_said(record)}{_why(record)}"
        moment = time.strftime("%H:%M:%SZ", time.gmtime(record.created))
        return f"{moment} {f'[{step}] ' if step else ''}{mark}{text}"


def _said(record: logging.LogRecord) -> str:
    return getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()


def _why(record: logging.LogRecord) -> str:
    """What made a step fail, in a line."""
    event: dg.DagsterEvent | None = getattr(record, "dagster_meta", {}).get("dagster_event")
    if event is None or event.event_type not in _FAILURES:
        return ""
    failure: Any = event.event_specific_data
    stated = getattr(failure, "user_failure_data", None)
    return " " + (stated.description if stated else cause_of(failure.error)).partition("\n")[0]


def _is_for_people(record: logging.LogRecord) -> bool:
    """Whether someone said it, or something failed; not that a step began, or could not."""
    if _said(record).startswith("Dependencies for step"):
        return False
    event = getattr(record, "dagster_meta", {}).get("dagster_event")
    return event is None or record.levelno >= logging.ERROR


def console_logger(level: str, stream: TextIO | None = None) -> dg.LoggerDefinition:
    """The logger of every run's console.

    Args:
        level: `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
        stream: where the lines go; None is standard error.
    """

    def console(_: dg.InitLoggerContext) -> logging.Logger:
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(_Plain())
        handler.addFilter(_is_for_people)
        plain = logging.getLogger(f"oam-mosaic.{id(handler)}")  # each run writes to its own stream
        plain.setLevel(level)
        plain.propagate = False
        plain.addHandler(handler)
        return plain

    return dg.LoggerDefinition(console, description="Plain lines, for people")

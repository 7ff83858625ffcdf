"""The log of a run as plain lines for people: time, step, what happened. Dagster's events stay in its UI."""

import logging
import sys
from typing import TextIO

import dagster as dg


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        step = meta.get("step_key") or ""
        text = meta.get("orig_message") or record.getMessage()
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return f"{self.formatTime(record, '%H:%M:%S')} {f'[{step}] ' if step else ''}{mark}{text}"


def _is_for_people(record: logging.LogRecord) -> bool:
    """Whether someone said it, or something failed; not that a step began, or could not."""
    event = getattr(record, "dagster_meta", {}).get("dagster_event")
    if event is None:
        return True
    said = getattr(record, "dagster_meta", {}).get("orig_message") or ""
    return record.levelno >= logging.ERROR and not said.startswith("Dependencies for step")


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

"""A run's log as lines for people: UTC, step, build, what happened. Dagster's events stay in its UI."""

import logging
import sys
import time
from typing import Any, Final, TextIO

import dagster as dg
from dagster._core.execution.plan import active  # only for its logger's name

from oam_mosaic_assets.resources.failures import INTERRUPTED, cause_of

_FAILURES: Final = frozenset({dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RESOURCE_INIT_FAILURE})

_OF_STEPS: Final = ("Dependencies for step", "Skipping step")
"""How Dagster's lines about a step begin that only repeat what the step before it already reported."""


class _Plain(logging.Formatter):
    """Lines of one run. The build that it makes is known once the first of its assets is materialised.

    Args:
        is_brief: whether lines name the build only once, as on a terminal, where one run is watched.
    """

    def __init__(self, *, is_brief: bool) -> None:
        super().__init__()
        self._is_brief = is_brief
        self._build = self._named = ""

    def listen(self, record: logging.LogRecord) -> bool:
        """Learn the build's name, also from events that are not printed; lets every record pass."""
        event: dg.DagsterEvent | None = getattr(record, "dagster_meta", {}).get("dagster_event")
        if event is not None and event.is_step_materialization:
            stated = event.step_materialization_data.materialization.metadata.get("build")
            self._build = str(stated.value) if stated else self._build
        return True

    def format(self, record: logging.LogRecord) -> str:
        step = getattr(record, "dagster_meta", {}).get("step_key") or ""
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        text = f"{_said(record)}{_why(record)}"
        if self._build:
            text = text.removeprefix(f"{self._build}: ")  # which the UI needs; here the line begins with it
        moment = time.strftime("%H:%M:%SZ", time.gmtime(record.created))
        source = " ".join(filter(None, (step, "" if self._named else self._build)))
        self._named = self._build if self._is_brief else ""
        return f"{moment} {f'[{source}] ' if source else ''}{mark}{text}"


def _said(record: logging.LogRecord) -> str:
    return getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()


def _why(record: logging.LogRecord) -> str:
    """Why a step failed, in one line."""
    event: dg.DagsterEvent | None = getattr(record, "dagster_meta", {}).get("dagster_event")
    if event is None or event.event_type not in _FAILURES:
        return ""
    failure: Any = event.event_specific_data
    if failure.error is not None and failure.error.cls_name == INTERRUPTED:
        return " It was stopped."
    stated = getattr(failure, "user_failure_data", None)
    return " " + (stated.description if stated else cause_of(failure.error)).partition("\n")[0]


def _was_said(record: logging.LogRecord) -> bool:
    """Whether it is a message, not a note that a step began, failed, could not begin or was skipped."""
    is_event = getattr(record, "dagster_meta", {}).get("dagster_event") is not None
    return not is_event and not _said(record).startswith(_OF_STEPS)


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """Drops Dagster's warning that steps after a skipped check go on without it: it skips them as well."""
    return "emitted no result in step" not in record.getMessage()


def _was_said_or_failed(record: logging.LogRecord) -> bool:
    """The same, and failures; a run that failed because of a step has nothing to add."""
    event: dg.DagsterEvent | None = getattr(record, "dagster_meta", {}).get("dagster_event")
    if event is None or record.levelno < logging.ERROR:
        return _was_said(record)
    return not event.is_run_failure or event.job_failure_data.error is not None


def console_logger(level: str, stream: TextIO | None = None) -> dg.LoggerDefinition:
    """The console logger of every run.

    Args:
        level: `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
        stream: where the lines go; a caller that gives one reports failures itself. None is standard error,
            to which failures are written as well.
    """
    logging.getLogger(active.__name__).addFilter(_is_no_false_alarm)

    def console(_: dg.InitLoggerContext) -> logging.Logger:
        handler = logging.StreamHandler(stream or sys.stderr)
        lines = _Plain(is_brief=stream is not None and stream.isatty())
        handler.setFormatter(lines)
        handler.setLevel(level)
        handler.addFilter(_was_said_or_failed if stream is None else _was_said)
        plain = logging.getLogger(f"oam-mosaic.{id(handler)}")  # each run writes to its own stream
        plain.setLevel(logging.DEBUG)  # so that `listen` sees all of it
        plain.addFilter(lines.listen)
        plain.propagate = False
        plain.addHandler(handler)
        return plain

    return dg.LoggerDefinition(console, description="Plain lines, for people")

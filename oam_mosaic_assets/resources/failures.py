"""Domain errors as Dagster failures: the run turns red and its failure says what happened and what to do."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import dagster as dg
from polars.exceptions import ComputeError

from oam_mosaic_assets.errors import DiskFull, MosaicError, PublicationLost, SettingsError
from oam_mosaic_assets.gateways.folder_store import REFUSALS
from oam_mosaic_assets.gateways.object_store import PreconditionFailed
from oam_mosaic_assets.gateways.whole_file import NO_ROOM

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo

KIND = "kind"
"""Metadata key of a failure: the class of the error."""

RERUN_MAY_HELP = "a rerun may help"
"""Metadata key of a failure: whether the same run may succeed later, with nothing changed by a person."""

EXIT_CODE = "exit_code"
"""Metadata key of a failure: the exit code of the command line."""

WHAT_TO_DO = "what to do"
"""Metadata key of a failure: the hint."""

INTERRUPTED = dg.DagsterExecutionInterruptedError.__name__
"""Class name of the error by which Dagster records that a step was stopped."""

_POLARS_IS_FULL: Final = (f"os error {errno.ENOSPC}", f"os error {errno.EDQUOT}", "thrift: transport error")
"""How polars reports a full disk; the last, if the disk fills up within a Parquet file's own metadata."""


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn domain errors, lost races, full disks and denied files into `dagster.Failure`; the rest pass."""
    try:
        yield
    except MosaicError as error:
        raise failure_of(error) from None
    except PreconditionFailed as error:
        raise failure_of(_changed_meanwhile(error)) from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _disk_full(error.filename or error) from None
        if error.errno in REFUSALS:
            raise _not_usable(error) from None
        raise
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise _disk_full(error) from None
    except ComputeError as error:
        if not any(words in str(error) for words in _POLARS_IS_FULL):
            raise
        raise _disk_full(error) from None


def _changed_meanwhile(error: PreconditionFailed) -> PublicationLost:
    return PublicationLost(
        f"Somebody else changed an object while this run worked with it: {error}.",
        hint="Run again; if it happens again, check who else writes to this place.",
    )


def _disk_full(said: object) -> dg.Failure:
    return failure_of(
        DiskFull(
            f"No space is left on the disk: {said}.",
            hint="Free some space, or point MOSAIC_SCRATCH, MOSAIC_STORE or DAGSTER_HOME at a larger disk.",
        )
    )


def _not_usable(error: OSError) -> dg.Failure:
    return failure_of(
        SettingsError(
            f"{error.filename or 'A file'} cannot be used: {error.strerror}.",
            hint="Let this user write there, or point MOSAIC_SCRATCH or DAGSTER_HOME to another folder.",
        )
    )


def failure_of(error: MosaicError) -> dg.Failure:
    """The failure that Dagster records for an error."""
    return dg.Failure(
        description=str(error),
        metadata={
            KIND: type(error).__name__,
            WHAT_TO_DO: error.hint or "See the message.",
            RERUN_MAY_HELP: error.rerun_may_help,
            EXIT_CODE: error.exit_code,
        },
    )


@dataclass(frozen=True, slots=True)
class Stated:
    """What a failure of a step says, if it comes from an error of ours.

    Attributes:
        kind: the class of the error.
        text: what happened.
        advice: what to do about it.
        rerun_may_help: whether the same run may succeed later, with nothing changed by a person.
        exit_code: what a command exits with.
    """

    kind: str
    text: str
    advice: str
    rerun_may_help: bool
    exit_code: int


def stated_in(event: dg.DagsterEvent) -> Stated | None:
    """Read back what `failure_of` wrote; None if the event is no failure, or that of another error."""
    failure = event.step_failure_data.user_failure_data if event.is_step_failure else None
    if failure is None or KIND not in failure.metadata:
        return None
    found = {name: value.value for name, value in failure.metadata.items()}
    advice = str(found[WHAT_TO_DO])
    return Stated(
        kind=str(found[KIND]),
        text=(failure.description or "").removesuffix(advice).rstrip(),
        advice=advice,
        rerun_may_help=bool(found[RERUN_MAY_HELP]),
        exit_code=int(str(found[EXIT_CODE])),
    )


def cause_of(error: SerializableErrorInfo) -> str:
    """Class and message of the error beneath those that Dagster wraps around it."""
    return root_of(error).message.strip()


def root_of(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The error beneath those that Dagster wraps around it."""
    while error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return error

"""Domain errors as Dagster failures: the run turns red and its failure says what happened and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from oam_mosaic_assets.errors import DiskFull, MosaicError

EXIT_CODE = "exit_code"
"""Under this name a failure's metadata holds what the command line exits with."""


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn a domain error into `dagster.Failure`; anything else is a fault of ours and stays as it is."""
    try:
        yield
    except MosaicError as error:
        raise failure_of(error) from None
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        full = DiskFull(
            f"No space is left on the disk: {error.filename or error}.",
            hint="Free some, or point MOSAIC_SCRATCH, MOSAIC_STORE or DAGSTER_HOME at a larger disk.",
        )
        raise failure_of(full) from None


def failure_of(error: MosaicError) -> dg.Failure:
    """The failure that Dagster records for an error."""
    return dg.Failure(
        description=str(error),
        metadata={
            "kind": type(error).__name__,
            "what to do": error.hint or "See the message.",
            "a rerun may help": error.rerun_may_help,
            EXIT_CODE: error.exit_code,
        },
        allow_retries=error.rerun_may_help,
    )

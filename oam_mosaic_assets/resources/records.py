"""A clear error when Dagster cannot write its own records because the disk with its home is full."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from oam_mosaic_assets.errors import DiskFull

_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""The second is reported if a file of SQLite's own cannot grow; the low byte of a code is its kind."""


@contextmanager
def recording_clearly(home: Path) -> Iterator[None]:
    """Say what to do when Dagster's SQLite has no room; what a run had staged goes with the next one.

    Raises:
        DiskFull: no room is left in `DAGSTER_HOME`.
    """
    try:
        yield
    except Exception as error:
        cause = getattr(error, "orig", error)  # SQLAlchemy, which Dagster writes with, wraps it
        if not isinstance(cause, sqlite3.OperationalError) or cause.sqlite_errorcode & 0xFF not in _FULL:
            raise
        raise DiskFull(
            f"Dagster cannot write its records below {home}: {cause}.",
            hint="Free some space there, or point DAGSTER_HOME at a larger disk. What is public stays as is.",
        ) from None

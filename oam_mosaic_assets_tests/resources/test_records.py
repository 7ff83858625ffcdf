"""The error raised when there is no room for Dagster's own records."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from oam_mosaic_assets.errors import DiskFull
from oam_mosaic_assets.resources.records import recording_clearly


class Wrapped(Exception):
    """Wraps an error the way SQLAlchemy does."""

    def __init__(self, orig: Exception) -> None:
        self.orig = orig


def what_sqlite_raises(tmp_path: Path, statement: str) -> sqlite3.OperationalError:
    database = sqlite3.connect(tmp_path / "runs.db")
    database.execute("CREATE TABLE runs (body BLOB)")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as raised:
        database.execute(statement)
    database.close()
    return raised.value


@pytest.mark.parametrize("wrap", [Wrapped, lambda error: error], ids=["wrapped", "plain"])
def test_a_full_disk_is_said_to_be_full(tmp_path: Path, wrap: type[Wrapped]) -> None:
    cause = what_sqlite_raises(tmp_path, "INSERT INTO runs VALUES (zeroblob(100000))")

    with pytest.raises(DiskFull, match="database or disk is full") as raised, recording_clearly(tmp_path):
        raise wrap(cause)

    assert str(tmp_path) in raised.value.message
    assert "DAGSTER_HOME" in raised.value.hint


def test_another_fault_of_the_database_stays_what_it_is(tmp_path: Path) -> None:
    cause = what_sqlite_raises(tmp_path, "SELECT nothing FROM runs")

    with pytest.raises(Wrapped), recording_clearly(tmp_path):
        raise Wrapped(cause)

"""Sorting footprints into drawing order on disk, so that memory does not grow with the catalogue.

SQLite sorts them and detects duplicate ids.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import polars as pl
import shapely

from oam_mosaic_assets.core.footprint import Footprint

SIDES: Final = ("xmin", "ymin", "xmax", "ymax")

SCHEMA: Final = pl.Schema(
    {
        "id": pl.String(),
        "geometry": pl.Binary(),
        "bbox": pl.Struct({side: pl.Float64() for side in SIDES}),
        "acquired_from": pl.Datetime("us", "UTC"),
        "acquired_to": pl.Datetime("us", "UTC"),
        "updated": pl.Datetime("us", "UTC"),
        "title": pl.String(),
        "provider": pl.String(),
        "platform": pl.String(),
        "sensor": pl.String(),
        "gsd": pl.Float64(),
        "license": pl.String(),
        "asset": pl.String(),
        "asset_name": pl.String(),
        "thumbnail": pl.String(),
        "file_size": pl.Int64(),
        "tms": pl.String(),
        "render_params": pl.String(),
        "unknown": pl.List(pl.String()),
        "digest": pl.Binary(),
    }
)
"""One row per image: `geometry` as WKB in EPSG:4326, `gsd` in metres, `file_size` in bytes, its `digest`."""

_MOMENTS: Final = frozenset({"acquired_from", "acquired_to", "updated"})
_FIELDS: Final = tuple(each.name for each in fields(Footprint))
_COLUMNS: Final = (*_FIELDS, "digest", *SIDES)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DrawingOrder:
    """The footprints of one snapshot: added in any order, read back oldest first.

    The order is total: by acquisition end, unknown before all others, then by id.
    """

    def __init__(self, path: Path) -> None:
        """Start empty.

        Args:
            path: of the database file; must not exist.
        """
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            for statement in (
                # nothing here outlives the process
                "PRAGMA journal_mode = OFF",
                "PRAGMA synchronous = OFF",
                f"CREATE TABLE footprints ({', '.join(_COLUMNS)}, UNIQUE (id))",
                # made now: a sort when rows are read would use another folder
                "CREATE INDEX drawing_order ON footprints (acquired_to, id)",
                "BEGIN",
            ):
                self._database.execute(statement)
        except BaseException:
            self._database.close()
            raise
        self._insert = f"INSERT OR IGNORE INTO footprints VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, rows: Sequence[Footprint]) -> list[bool]:
        """Add footprints. For each, whether it was added: one whose id is there already is left out."""
        geometries = np.array([row.geometry for row in rows], dtype=object)
        sides = shapely.bounds(geometries).tolist()
        encoded = shapely.to_wkb(geometries, byte_order=1).tolist()
        is_new = []
        for row, wkb, box in zip(rows, encoded, sides, strict=True):
            values = _values(row, wkb)
            inserted = self._database.execute(self._insert, (*values, _digest(values), *box)).rowcount
            is_new.append(inserted == 1)
        return is_new

    def batches(self, size: int) -> Iterator[pl.DataFrame]:
        """All footprints in drawing order, `size` rows at a time, with the columns of `SCHEMA`."""
        found = self._database.execute("SELECT * FROM footprints ORDER BY acquired_to, id")
        while rows := found.fetchmany(size):
            columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
            columns["unknown"] = tuple(each.splitlines() for each in columns["unknown"])
            columns["bbox"] = tuple(
                dict(zip(SIDES, box, strict=True))
                for box in zip(*(columns.pop(side) for side in SIDES), strict=True)
            )
            yield pl.DataFrame({name: columns[name] for name in SCHEMA}, schema=_STORED).cast(SCHEMA)


_STORED: Final = {name: pl.Int64() if name in _MOMENTS else kind for name, kind in SCHEMA.items()}


def _values(row: Footprint, wkb: bytes) -> tuple[Any, ...]:
    """The fields of a footprint, as SQLite can store them."""
    return tuple(
        wkb
        if name == "geometry"
        else "\n".join(row.unknown)
        if name == "unknown"
        else _microseconds(getattr(row, name))
        if name in _MOMENTS
        else getattr(row, name)
        for name in _FIELDS
    )


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _digest(values: tuple[Any, ...]) -> bytes:
    """16 bytes that change when any field of the footprint does; the same in every process."""
    return hashlib.blake2b(repr(values).encode(), digest_size=16).digest()

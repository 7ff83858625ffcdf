"""STAC items from a stac-geoparquet file, versions 1.0 and 1.1 of the format.

A row is an item, with each property in its own column. Parquet has no absent keys, so a null is treated as
one; only `datetime` is kept, because STAC requires it to be null if an item has a time range. The format:
https://github.com/radiantearth/stac-geoparquet-spec/blob/main/stac-geoparquet-spec.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl
from polars.datatypes import DataTypeClass

from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways.catalogue.source import Item
from oam_mosaic_assets.gateways.catalogue.wkb import geojson_from_wkb

ROWS_AT_A_TIME: Final = 10_000
"""Rows held in memory, as columns; an item is about 2 kB."""

REQUIRED: Final = frozenset({"id", "geometry", "assets"})

_TOP_LEVEL: Final = frozenset(
    {"type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection"}
)
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_FIRST_DAY: Final = -719_162
_LAST_DAY: Final = 2_932_896
"""The years 1 to 9999, all that Python supports, in seconds and days since 1970."""

_TICKS_A_SECOND: Final = {"ms": 1_000, "us": 1_000_000}

_BOX_SIDES: Final = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")

_Answer = TypeVar("_Answer")


class StacGeoparquet:
    """A file of items.

    Raises:
        CatalogueRefused: (also when read) the file is damaged, or holds no STAC items.
        CatalogueUnavailable: (also when read) the disk fails, or the file is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table = pl.scan_parquet(path, glob=False)
        self._columns = self._guarded(lambda: self._table.collect_schema().names())
        if missing := sorted(REQUIRED.difference(self._columns)):
            raise CatalogueRefused(
                f"{path} holds no STAC items: missing columns: {', '.join(missing)}",
                hint="Provide a file in the stac-geoparquet format.",
            )

    def count(self, collection: str | None) -> int:
        """How many rows belong to that collection, or to none; all rows if no collection is named."""
        table = self._table
        if collection is not None and "collection" in self._columns:
            name = pl.col("collection").cast(pl.String)
            table = table.filter((name == collection) | name.is_null())
        return int(self._guarded(lambda: table.select(pl.len()).collect()).item())

    def items(self) -> Iterator[Item]:
        """Read all rows, in batches."""
        start = 0
        while not (rows := self._rows_from(start)).is_empty():
            yield from (_item(row) for row in rows.iter_rows(named=True))
            start += len(rows)

    def _rows_from(self, start: int) -> pl.DataFrame:
        def read() -> pl.DataFrame:
            rows = self._table.slice(start, ROWS_AT_A_TIME).collect()
            return rows.select(_within_pythons_years(name, kind) for name, kind in rows.schema.items())

        return self._guarded(read)

    def _guarded(self, call: Callable[[], _Answer]) -> _Answer:
        try:
            return call()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise CatalogueRefused(
                f"{self._path} is not a complete Parquet file: {error}", hint="Fetch or write it again."
            ) from error
        except OSError as error:
            raise CatalogueUnavailable(
                f"{self._path} can no longer be read: {error}",
                hint="Check the disk or network share, then run again.",
            ) from error


def _within_pythons_years(name: str, kind: pl.DataType) -> pl.Expr:
    """The column, with times outside the years 1 to 9999 clamped to them.

    They are just as implausible there, and Python can represent them; otherwise it fails for the whole batch.
    """
    column = pl.col(name)
    match kind:
        case pl.Datetime(time_unit="ms" | "us" as unit):
            ticks = _TICKS_A_SECOND[unit]
            within = column.to_physical().clip(_FIRST_SECOND * ticks, _LAST_SECOND * ticks)
            return within.cast(pl.Datetime(unit, kind.time_zone and "UTC"))
        case pl.Datetime():  # nanoseconds, whose range is smaller
            return column
        case pl.Date():
            return column.to_physical().clip(_FIRST_DAY, _LAST_DAY).cast(kind)
        case _:
            return column.cast(_without_moments(kind))


def _without_moments(kind: pl.DataType | DataTypeClass) -> pl.DataType | DataTypeClass:
    """The same type with nested times, and all durations, as integers: no item needs them."""
    match kind:
        case pl.List() | pl.Array():
            return pl.List(_without_moments(kind.inner))
        case pl.Struct():
            return pl.Struct({each.name: _without_moments(each.dtype) for each in kind.fields})
        case pl.Datetime() | pl.Date() | pl.Duration():
            return pl.Int64()
        case _:
            return kind


def _item(row: dict[str, Any]) -> Item:
    item: dict[str, Any] = {"type": "Feature", "geometry": None}
    properties: dict[str, Any] = {}
    for key, value in row.items():
        if value is None:
            continue
        if key == "bbox" and isinstance(value, dict):
            item[key] = [value[side] for side in _BOX_SIDES if value.get(side) is not None]
        elif key in _TOP_LEVEL:
            item[key] = _as_json(value)
        else:
            properties[key] = _as_json(value)
    if "datetime" in row:
        properties.setdefault("datetime", None)
    return item | {"properties": properties}


def _as_json(value: Any) -> Any:
    """The value as in the item's JSON: times as RFC 3339, geometries as GeoJSON, no keys without a value."""
    match value:
        case dict():
            return {key: _as_json(each) for key, each in value.items() if each is not None}
        case list():
            return [_as_json(each) for each in value]
        case bytes():
            return geojson_from_wkb(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case _:
            return value

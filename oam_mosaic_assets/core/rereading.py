"""Rows of an earlier snapshot whose items have not changed: these need not be read again.

A source that can hash its items cheaply gives the hashes before it is read; each item's hash is stored with
the footprint that was made from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import polars as pl

from oam_mosaic_assets.core.footprint import IN_THE_FUTURE

READING: Final = 7
"""Incremented whenever the same item gives a different footprint; all items are then read again."""

_TOGETHER: Final = 2**14
"""How many hashes become a table at once."""

READING_KEY: Final = "oam_mosaic:reading"
"""Key of a GeoParquet's metadata for the digest of how its rows were read."""

HASHES: Final = pl.Schema({"id": pl.String(), "item_hash": pl.Int64()})
"""An item's id, and a number that changes whenever anything in the item does."""

LARGEST_SHARE: Final = 0.5
"""The largest share of items that is read again; with more, reading everything takes no longer."""

_ORDER: Final = "order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is taken over from an earlier snapshot.

    Attributes:
        footprints: its GeoParquet.
        names: ids of the rows that are taken over.
        unread: ids of the items that have to be read.
    """

    footprints: Path
    names: pl.Series
    unread: pl.Series

    def rows(self) -> pl.LazyFrame:
        """The rows that are taken over, in drawing order."""
        kept = self.names.to_frame("id").lazy().with_columns(is_kept=True)
        whole = pl.scan_parquet(self.footprints, glob=False)
        return whole.join(kept, on="id", how="left", maintain_order="left").filter("is_kept").drop("is_kept")


def reading_digest(*circumstances: Any) -> str:
    """A digest of what decides, besides the item itself, which footprint it becomes: 16 hex digits."""
    return hashlib.sha256(json.dumps([READING, *circumstances]).encode()).hexdigest()[:16]


def kept_rows(before: Path, hashes: pl.DataFrame, *, reading: str, not_these: Iterable[str]) -> Kept | str:
    """Find what can be taken over from an earlier snapshot, or say why nothing can.

    Args:
        before: its GeoParquet.
        hashes: hashes of all current items, as `HASHES`.
        reading: the `reading_digest` of the snapshot to be made.
        not_these: ids of items that are read in any case.
    """
    if pl.read_parquet_metadata(before).get(READING_KEY) != reading:
        return "the way items are read has changed"
    table = pl.scan_parquet(before, glob=False).select("id", "item_hash", "unknown")
    # a repeated id is for the reader to set aside, and a date in the future may be in the past by now
    sure = hashes.filter(pl.col("id").is_unique() & ~pl.col("id").is_in(list(not_these)))
    is_timeless = ~pl.col("unknown").list.eval(pl.element().str.ends_with(IN_THE_FUTURE)).list.any()
    names = table.filter(is_timeless).join(sure.lazy(), on=["id", "item_hash"], how="semi").select("id")
    kept = names.collect(engine="streaming")["id"]
    unread = hashes.join(kept.to_frame(), on="id", how="anti")["id"]
    if len(unread) > LARGEST_SHARE * len(hashes):
        return f"{len(unread):,} of {len(hashes):,} items are new or changed"
    return Kept(footprints=before, names=kept, unread=unread)


def together(kept: pl.LazyFrame, read: pl.LazyFrame) -> pl.LazyFrame:
    """Merge two tables that are in drawing order; no row is in both."""
    return _ordered(kept).merge_sorted(_ordered(read), key=_ORDER).drop(_ORDER)


def _ordered(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with a text column that sorts them in drawing order.

    It is the moment as 19 digits, the first of them never 0, or a single 0 if unknown; followed by the id.
    """
    moment = (pl.col("acquired_to").to_physical() + 2**62).cast(pl.String).fill_null("0")
    return rows.with_columns(pl.concat_str(moment, "id").alias(_ORDER))


def with_hashes(rows: pl.LazyFrame, hashes: pl.DataFrame | None) -> pl.LazyFrame:
    """The rows with the hash of the item that each was made from; null if none is known."""
    if hashes is None:
        return rows.with_columns(item_hash=pl.lit(None, pl.Int64))
    known = hashes.filter(pl.col("id").is_unique()).lazy()
    return rows.join(known, on="id", how="left", maintain_order="left")


def as_hashes(rows: Iterable[tuple[str, int]]) -> pl.DataFrame:
    """Ids and hashes as a table of `HASHES`."""
    left = iter(rows)
    tables = [pl.DataFrame(schema=HASHES)]
    while some := list(islice(left, _TOGETHER)):  # a row takes ten times as much memory as in the table
        tables.append(pl.DataFrame(some, HASHES, orient="row"))
    return pl.concat(tables)

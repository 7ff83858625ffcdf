"""Rows of an earlier snapshot that stand for items which are as they were: these need not be read again.

A source that can hash its items cheaply says so before it is read; the hash of each stands beside the
footprint that was made of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from oam_mosaic_assets.core.footprint import IN_THE_FUTURE

READING: Final = 2
"""Counted up whenever the same item gives another footprint. All items are read again then."""

READING_KEY: Final = "oam_mosaic:reading"
"""In a GeoParquet's metadata, the digest of how its rows were read."""

HASHES: Final = pl.Schema({"id": pl.String(), "item_hash": pl.Int64()})
"""An item's id, and a number that is another one as soon as anything of the item is."""

LARGEST_SHARE: Final = 0.5
"""Of all items that have to be read; with more, reading everything takes no longer."""

_ORDER: Final = "order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is taken over of an earlier snapshot.

    Attributes:
        footprints: its GeoParquet.
        names: ids of the rows that are taken over.
        unread: ids of the items that have to be read.
    """

    footprints: Path
    names: pl.Series
    unread: pl.Series

    def rows(self) -> pl.LazyFrame:
        """Those rows, in drawing order."""
        kept = self.names.to_frame("id").lazy().with_columns(is_kept=True)
        whole = pl.scan_parquet(self.footprints, glob=False)
        return whole.join(kept, on="id", how="left", maintain_order="left").filter("is_kept").drop("is_kept")


def reading_digest(*circumstances: Any) -> str:
    """Of all that decides which footprint an item becomes, but for the item: 16 hex digits."""
    return hashlib.sha256(json.dumps([READING, *circumstances]).encode()).hexdigest()[:16]


def kept_rows(before: Path, hashes: pl.DataFrame, *, reading: str, not_these: Iterable[str]) -> Kept | str:
    """Find what of an earlier snapshot can be taken over; else say why nothing is.

    Args:
        before: its GeoParquet.
        hashes: of all items that there are now, as `HASHES`.
        reading: see `reading_digest`; of the snapshot to be made.
        not_these: ids of items that are read in any case.
    """
    if pl.read_parquet_metadata(before).get(READING_KEY) != reading:
        return "items are read otherwise than they were"
    table = pl.scan_parquet(before, glob=False).select("id", "item_hash", "unknown")
    # an id that comes twice is for the reader to set aside, and the future becomes the past
    sure = hashes.filter(pl.col("id").is_unique() & ~pl.col("id").is_in(list(not_these)))
    is_timeless = ~pl.col("unknown").list.eval(pl.element().str.ends_with(IN_THE_FUTURE)).list.any()
    names = table.filter(is_timeless).join(sure.lazy(), on=["id", "item_hash"], how="semi").select("id")
    kept = names.collect(engine="streaming")["id"]
    unread = hashes.join(kept.to_frame(), on="id", how="anti")["id"]
    if len(unread) > LARGEST_SHARE * len(hashes):
        return f"{len(unread):,} of {len(hashes):,} items are not as they were"
    return Kept(footprints=before, names=kept, unread=unread)


def together(kept: pl.LazyFrame, read: pl.LazyFrame) -> pl.LazyFrame:
    """Two tables in drawing order as one; each row is in one of them."""
    return _ordered(kept).merge_sorted(_ordered(read), key=_ORDER).drop(_ORDER)


def _ordered(rows: pl.LazyFrame) -> pl.LazyFrame:
    """With the drawing order as text: moments as 19 digits, the first of them no 0; an unknown one is 0."""
    moment = (pl.col("acquired_to").to_physical() + 2**62).cast(pl.String).fill_null("0")
    return rows.with_columns(pl.concat_str(moment, "id").alias(_ORDER))


def with_hashes(rows: pl.LazyFrame, hashes: pl.DataFrame | None) -> pl.LazyFrame:
    """The rows with the hash of the item that each is made of; null where none is known."""
    if hashes is None:
        return rows.with_columns(item_hash=pl.lit(None, pl.Int64))
    known = hashes.filter(pl.col("id").is_unique()).lazy()
    return rows.join(known, on="id", how="left", maintain_order="left")


def as_hashes(rows: Collection[tuple[str, int]]) -> pl.DataFrame:
    """As `HASHES`."""
    return pl.DataFrame(rows, HASHES, orient="row")

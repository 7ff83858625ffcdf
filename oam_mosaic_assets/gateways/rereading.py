"""Which items of a catalogue have to be read, and which footprints of the public build are reused."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from oam_mosaic_assets.core.rereading import Kept, as_hashes, kept_rows
from oam_mosaic_assets.gateways.catalogue.source import Batch, HashedSnapshot, Snapshot, in_batches
from oam_mosaic_assets.gateways.last_build import kept_tables
from oam_mosaic_assets.gateways.releases import Releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """The items to read.

    Attributes:
        batches: the items, each once.
        are_raw: whether they are in the source's stored form: slow to parse, but quickly handed to another
            process.
        count: how many the source says there are; None if it does not say.
        kept: footprints reused for all other items; None if all are read.
        why_all: why all are read; empty if not all are.
        hashes: of all items; None if the source has none.
    """

    batches: Iterator[Batch]
    are_raw: bool
    count: int | None
    kept: Kept | None
    why_all: str
    hashes: pl.DataFrame | None

    def __str__(self) -> str:
        if self.kept is None:
            return f"reading all items: {self.why_all}"
        return f"items to read: {self.count:,}; unchanged: {len(self.kept.names):,}"


def unread(
    snapshot: Snapshot,
    releases: Releases,
    folder: Path,
    *,
    reading: str,
    taken_down: Collection[str],
    anew: bool = False,
) -> Unread:
    """Find the items that have to be read.

    Args:
        snapshot: of the catalogue.
        releases: what is public.
        folder: where files of the public build go; see `last_build`.
        reading: the digest of how items are read now; see `core.rereading.reading_digest`.
        taken_down: ids of images that are not drawn.
        anew: read everything, whatever could be taken over.

    Raises:
        CatalogueUnavailable, CatalogueRefused, StoreUnavailable, DiskFull: see `errors`.
    """
    if not isinstance(snapshot, HashedSnapshot):
        why = "this source cannot tell which items are unchanged"
        return Unread(
            batches=in_batches(snapshot.items()),
            are_raw=False,
            count=snapshot.expected,
            kept=None,
            why_all=why,
            hashes=None,
        )
    hashes = as_hashes(snapshot.hashes())
    current = releases.current()
    found: Kept | str = "a full rebuild was requested" if anew else "nothing is public yet"
    if current and not anew:
        tables = kept_tables(releases, current[0], folder)
        found = (
            tables
            if isinstance(tables, str)
            else kept_rows(tables.footprints, hashes, reading=reading, not_these=taken_down)
        )
    if isinstance(found, str):
        batches, count, kept, why = snapshot.batches(), snapshot.expected, None, found
    else:
        batches, count, kept, why = snapshot.batches(found.unread.to_list()), len(found.unread), found, ""
    return Unread(batches=batches, are_raw=True, count=count, kept=kept, why_all=why, hashes=hashes)

"""Items become footprints: here, or in processes beside this one where there are many.

Those processes load this module and what it needs, so nothing here but the reading itself.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from oam_mosaic_assets.core.footprint import Footprint, SetAside, as_id, read_item
from oam_mosaic_assets.core.geometry import TAKEN_DOWN
from oam_mosaic_assets.gateways.calls import each_of
from oam_mosaic_assets.gateways.catalogue.source import Batch, Item, Unreadable
from oam_mosaic_assets.gateways.control_groups import processors

if TYPE_CHECKING:
    from oam_mosaic_assets.gateways.rereading import Unread

WORTH_READERS: Final = 8_000
"""Items that take longer to read than processes take to start."""

READERS: Final = 2
"""Processes that read; this one has enough to do with writing down what they read."""


def footprints(
    unread: Unread, *, taken_down: Collection[str], now: datetime
) -> Generator[Footprint | SetAside, None, None]:
    """What each item is, in their order; one that was taken down is counted, and named nowhere.

    To be closed by whoever does not read to the end, for other processes may be at work.

    Args:
        unread: the items.
        taken_down: ids of images that are not drawn.
        now: the moment of the snapshot, UTC; see `read_item`.

    Raises:
        CatalogueUnavailable, CatalogueRefused: see `source.Snapshot`.
        TilingFailed: another process failed or was killed.
    """
    read = partial(_read, taken_down=taken_down, now=now)
    if unread.are_raw and (unread.count or 0) >= WORTH_READERS and processors() > 1:
        with each_of("A process that reads items", read, unread.batches, processes=READERS) as some:
            for each in some:
                yield from each
    else:
        for batch in unread.batches:
            yield from read(batch)


def _read(batch: Batch, *, taken_down: Collection[str], now: datetime) -> list[Footprint | SetAside]:
    return [
        _footprint(item, row, taken_down, now) for row, item in enumerate(batch.items(), start=batch.first)
    ]


def _footprint(
    item: Item | Unreadable, row: int, taken_down: Collection[str], now: datetime
) -> Footprint | SetAside:
    if isinstance(item, Unreadable):
        if _names_any(item.text, taken_down):  # it would stand in the list of those set aside
            return SetAside("", TAKEN_DOWN, "")
        return SetAside(f"row {item.row}", "not_an_item", item.text)
    if as_id(item.get("id")) in taken_down:
        return SetAside("", TAKEN_DOWN, "")
    return read_item(item, row=row, now=now)


def _names_any(text: str, ids: Collection[str]) -> bool:
    from oam_mosaic_assets.core.names import text_names_any  # noqa: PLC0415  # polars is slow

    return text_names_any(text, ids)

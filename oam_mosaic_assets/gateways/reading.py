"""Turning items into footprints: in this process, or in others beside it if there are many.

Those processes load this module and everything it imports, so it holds nothing but the reading itself.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from oam_mosaic_assets.core.footprint import Footprint, SetAside, as_id, read_item
from oam_mosaic_assets.core.geometry import TAKEN_DOWN, Area
from oam_mosaic_assets.core.usual_outlines import usual_areas
from oam_mosaic_assets.gateways.calls import each_of
from oam_mosaic_assets.gateways.catalogue.source import Batch, Item, Unreadable
from oam_mosaic_assets.gateways.control_groups import processors

if TYPE_CHECKING:
    from oam_mosaic_assets.gateways.rereading import Unread

WORTH_READERS: Final = 8_000
"""The fewest items worth other processes: fewer take less time to read than processes take to start."""

_TOGETHER: Final = 64
"""Items that are parsed at a time: their outlines are read together, and a hostile item may be large."""

READERS: Final = 2
"""Processes that read; this one is busy enough storing what they read."""


def footprints(
    unread: Unread, *, taken_down: Collection[str], now: datetime
) -> Generator[Footprint | SetAside, None, None]:
    """What becomes of each item, in order; one that was taken down is counted, but not named.

    Close the generator if you do not read it to the end, as other processes may be running.

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
        _footprint(item, area, row, taken_down, now)
        for row, (item, area) in enumerate(_with_usual_areas(batch.items()), start=batch.first)
    ]


def _with_usual_areas(items: Iterator[Item | Unreadable]) -> Iterator[tuple[Item | Unreadable, Area | None]]:
    while some := list(islice(items, _TOGETHER)):
        areas = usual_areas(None if isinstance(each, Unreadable) else each.get("geometry") for each in some)
        yield from zip(some, areas, strict=True)


def _footprint(
    item: Item | Unreadable, area: Area | None, row: int, taken_down: Collection[str], now: datetime
) -> Footprint | SetAside:
    if isinstance(item, Unreadable):
        # or it would appear in the list of those set aside
        if item.id in taken_down or _names_any(item.text, taken_down):
            return SetAside("", TAKEN_DOWN, "")
        if item.id is not None:
            return SetAside(item.id, "unreadable", item.text)
        return SetAside(f"row {item.row}", "not_an_item", item.text)
    if as_id(item.get("id")) in taken_down:
        return SetAside("", TAKEN_DOWN, "")
    return read_item(item, row=row, now=now, area=area)


def _names_any(text: str, ids: Collection[str]) -> bool:
    from oam_mosaic_assets.core.names import text_names_any  # noqa: PLC0415  # polars is slow

    return text_names_any(text, ids)

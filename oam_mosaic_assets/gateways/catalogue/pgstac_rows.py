"""Rows of pgSTAC's items table, and the items they represent.

pgSTAC stores an item without what equals its collection's template. Items are hydrated here because pgSTAC's
own `content_hydrate` takes a millisecond or more per item, thirty times as long as everything else, and drops
every null.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from oam_mosaic_assets.gateways.catalogue.json_rows import object_in
from oam_mosaic_assets.gateways.catalogue.source import Item, Unreadable
from oam_mosaic_assets.gateways.catalogue.wkb import geojson_from_wkb

_TEMPLATE_TAG: Final = "pgstac:base_item"

_ABSENT: Final = "𒍟※"
"""pgSTAC's marker for what the template has but the item does not."""


@dataclass(frozen=True, slots=True)
class Templates:
    """What pgSTAC removed from the items of one collection before storing them."""

    by_tag: Mapping[str, Item]
    first: Item
    current: Item

    def hash(self) -> int:
        """A number that changes when any of them does: 64 bits, signed."""
        stated = json.dumps([dict(self.by_tag), self.first, self.current], sort_keys=True)
        return int.from_bytes(hashlib.sha256(stated.encode()).digest()[:8], signed=True)

    def complete(self, item: dict[str, Any]) -> Item:
        """Put back into an item what its template holds. Items share these parts: nothing may change them."""
        tag = item.pop(_TEMPLATE_TAG, None)
        template = self.first if tag is None else self.by_tag.get(str(tag), self.current)
        whole: Item = _merged(template, item)
        return whole


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of rows; see `source.Batch`.

    Attributes:
        first: position of the first row, counted from 1.
        rows: id, geometry as EWKB and content as JSON of each.
        templates: those of the collection.
    """

    first: int
    rows: Sequence[tuple[Any, ...]]
    templates: Templates

    def items(self) -> Iterator[Item | Unreadable]:
        for row, (name, geometry, content) in enumerate(self.rows, start=self.first):
            item = object_in(row, content)
            if isinstance(item, Unreadable):
                yield Unreadable(row, item.text, name)
                continue
            item["id"] = name
            item["geometry"] = None if geometry is None else geojson_from_wkb(geometry)
            yield self.templates.complete(item)


def _merged(template: Any, value: Any) -> Any:
    """Undo pgSTAC's dehydration as its `merge_jsonb` does, but keep nulls that the template lacks."""
    if value is None:
        return template
    if isinstance(template, dict) and isinstance(value, dict):
        merged = {key: _merged(template.get(key), value[key]) for key in value if value[key] != _ABSENT}
        return merged | {key: template[key] for key in template.keys() - value.keys()}
    if isinstance(template, list) and isinstance(value, list) and len(template) == len(value):
        return [
            None if own == _ABSENT else _merged(common, own)
            for common, own in zip(template, value, strict=True)
        ]
    return value

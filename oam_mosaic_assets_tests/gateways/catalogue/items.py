"""STAC items for the catalogue tests, modelled on OpenAerialMap's."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

from oam_mosaic_assets.gateways.catalogue.pgstac import ROWS_AT_A_TIME
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION

MANY = 12 * ROWS_AT_A_TIME + 1
"""Items in the database of the fixture `many_items`."""

TEMPLATE_ASSETS = {
    "visual": {"type": "image/tiff", "title": "Visual image", "roles": ["data", "visual"]},
    "thumbnail": {"type": "image/png", "roles": ["thumbnail"]},
    "metadata": {"type": "application/json", "title": "Metadata", "roles": ["metadata"]},
}
"""The assets that a collection's template declares; pgSTAC does not store them again with each item."""


def an_item(name: str = "5f2a9c3e8b1d4f6a7c9e0b12", **changes: Any) -> dict[str, Any]:
    """Make a small item.

    Args:
        changes: top-level keys to set; `properties` are merged into the default ones.
    """
    properties = {"datetime": "2024-03-01T10:20:30Z", "title": "A field", "gsd": 0.05, "license": "CC-BY-4.0"}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": COLLECTION,
        "geometry": {"type": "Polygon", "coordinates": [[[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 0.5]]]},
        "bbox": [0.5, 0.5, 1.5, 1.5],
        "links": [],
        "assets": {"visual": {**TEMPLATE_ASSETS["visual"], "href": "https://images.invalid/a.tif"}},
        **changes,
        "properties": properties | changes.get("properties", {}),
    }


def items_of_many_kinds() -> list[dict[str, Any]]:
    """Items that are stored differently: like and unlike the template, with nulls, of all geometries."""
    square = [[10.0, 10.0], [11.0, 10.0], [11.0, 11.0], [10.0, 10.0]]
    template = TEMPLATE_ASSETS
    return [
        an_item("as the template", assets=template),
        an_item("no assets", assets={}),
        an_item(
            "other assets", assets={"data": {"href": "https://images.invalid/b.tif", "file:size": 2**40}}
        ),
        an_item(
            "half as the template",
            assets={
                "visual": {"type": "image/tiff", "roles": ["data", "overview"], "href": "c.tif"},
                "metadata": {**template["metadata"], "title": "Other"},
                "thumbnail": {**template["thumbnail"], "roles": ["thumbnail", "overview"]},
            },
        ),
        an_item("another version", stac_version="1.1.0", stac_extensions=["https://example.invalid/x.json"]),
        an_item("keys of its own", extra={"deep": [{"a": [1, 2.5, "x", True]}, []], "": {}}),
        an_item("numbers", properties={"gsd": 1.9e-07, "huge": 2.5e15, "zero": 0.0, "integer": 3}),
        an_item("text", properties={"title": 'tab\t quote" back\\slash, Zürich 東京 🛰', "gsd": "unknown"}),
        an_item(
            "a span",
            properties={
                "datetime": None,
                "start_datetime": "2024-01-01T00:00:00Z",
                "end_datetime": "2024-02-01T00:00:00Z",
            },
        ),
        an_item("many null", properties={"title": None, "providers": [{"name": None}], "deep": {"a": None}}),
        an_item(
            "all digits",
            geometry={
                "type": "Polygon",
                "coordinates": [
                    [
                        [0.1 + 0.2, 1e-17],
                        [179.99999999999997, -1e-9],
                        [2.0000000000000004, 85.0],
                        [0.1 + 0.2, 1e-17],
                    ]
                ],
            },
        ),
        an_item(
            "heights",
            geometry={"type": "Polygon", "coordinates": [[[*position, 12.5] for position in square]]},
        ),
        an_item("two parts", geometry={"type": "MultiPolygon", "coordinates": [[square], [square]]}),
        an_item("a point", geometry={"type": "Point", "coordinates": [1.25, 2.5]}),
        an_item("a line", geometry={"type": "LineString", "coordinates": [[1.25, 2.5], [3.0, 4.0]]}),
        an_item(
            "a mixture",
            geometry={
                "type": "GeometryCollection",
                "geometries": [
                    {"type": "Point", "coordinates": [1.25, 2.5]},
                    {"type": "Polygon", "coordinates": [square]},
                ],
            },
        ),
    ]


PEAK_MEMORY = """
from pathlib import Path

def peak_kilobytes():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
"""For a script in a separate process. (The peak that `getrusage` reports may be the parent's.)"""


def by_id(items: Iterator[Any]) -> dict[str, Any]:
    """Read a snapshot to its end; no id may occur twice."""
    found: dict[str, Any] = {}
    for item in items:
        assert item["id"] not in found
        found[item["id"]] = item
    return found


def everything_told(error: BaseException) -> str:
    """All that a log, an error report or a debugger could show of an error and its causes."""
    told = ["".join(traceback.format_exception(error))]
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in seen:
            seen.append(each)
            waiting += [each.__cause__, each.__context__]
            told += [repr(each), repr(vars(each)), repr(getattr(each, "pgconn", None))]
    return "\n".join(told)

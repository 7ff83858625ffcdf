"""Items become the same footprints, whichever process reads them."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest
import shapely

from oam_mosaic_assets.core.footprint import Footprint, SetAside
from oam_mosaic_assets.gateways import reading
from oam_mosaic_assets.gateways.catalogue.pgstac_rows import Rows, Templates
from oam_mosaic_assets.gateways.rereading import Unread

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEMPLATE = {"properties": {"license": "CC-BY-4.0"}, "assets": {"visual": {"type": "image/tiff"}}}
TAKEN_DOWN = {"image 7"}


def row(number: int) -> tuple[str, bytes, str]:
    """A row of pgSTAC: id, geometry as WKB, content as JSON."""
    outline = shapely.box(number * 0.01, 0, number * 0.01 + 0.005, 0.005)
    content = {
        "properties": {"datetime": "2025-01-01T00:00:00Z", "title": f"The {number}."},
        "assets": {"visual": {"href": f"https://example.org/{number}.tif"}},
    }
    return f"image {number}", shapely.to_wkb(outline), json.dumps(content)


def unread(rows: list[tuple[Any, ...]], size: int) -> Unread:
    templates = Templates({}, first=TEMPLATE, current=TEMPLATE)
    some = (Rows(at + 1, rows[at : at + size], templates) for at in range(0, len(rows), size))
    return Unread(batches=some, are_raw=True, count=len(rows), kept=None, why_all="", hashes=None)


def read(rows: list[tuple[Any, ...]], size: int) -> list[Footprint | SetAside]:
    with closing(reading.footprints(unread(rows, size), taken_down=TAKEN_DOWN, now=NOW)) as found:
        return list(found)


def test_other_processes_read_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[tuple[Any, ...]] = [row(number) for number in range(20)]
    rows[3] = ("a broken one", None, "no JSON")
    rows[4] = ("image 7", None, '{"note": ' + "1" * 5000)
    rows[5] = ("another", None, json.dumps({"note": "image 7"})[:-1])
    rows[11] = ("image 11", None, "{}")
    here = read(rows, 100)
    each_of = Mock(wraps=reading.each_of)
    monkeypatch.setattr(reading, "each_of", each_of)
    monkeypatch.setattr(reading, "processors", lambda: 2)
    monkeypatch.setattr(reading, "WORTH_READERS", len(rows))

    there = read(rows, 3)

    each_of.assert_called_once()
    assert there == here
    assert isinstance(here[0], Footprint)
    assert (here[0].title, here[0].license) == ("The 0.", "CC-BY-4.0")
    assert here[3] == SetAside("a broken one", "unreadable", "no JSON")
    assert here[4] == here[5] == here[7] == SetAside("", "taken_down", "")
    assert isinstance(here[11], SetAside)
    assert sum(isinstance(each, Footprint) for each in here) == 15


def test_few_items_or_one_processor_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "each_of", None)
    monkeypatch.setattr(reading, "processors", lambda: 2)
    assert len(read([row(0), row(1)], 1)) == 2
    monkeypatch.setattr(reading, "processors", lambda: 1)
    monkeypatch.setattr(reading, "WORTH_READERS", 2)
    assert len(read([row(0), row(1)], 1)) == 2

"""Image metadata, read from items as real catalogues hold them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from oam_mosaic_assets.core.drawing_order import DrawingOrder
from oam_mosaic_assets.core.footprint import LONGEST_TEXT, Footprint, SetAside, read_item
from oam_mosaic_assets.core.geometry import REASONS
from oam_mosaic_assets_tests.core.strategies import any_json, examples, geometries

NOW = datetime(2026, 1, 15, 3, tzinfo=UTC)
BOX = {"type": "Polygon", "coordinates": [[[10, 10], [11, 10], [11, 11], [10, 11], [10, 10]]]}


def footprint(properties: dict[str, Any] | None = None, **more: Any) -> Footprint:
    item = {"id": "image", "geometry": BOX, "properties": properties or {}, **more}
    read = read_item(item, row=1, now=NOW)
    assert isinstance(read, Footprint)
    return read


@examples(300)
@given(item=any_json, geometry=geometries, properties=any_json, assets=any_json)
def test_any_json_is_read_or_set_aside_with_a_reason(
    item: Any, geometry: Any, properties: Any, assets: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = {"id": "x", "geometry": geometry, "properties": properties, "assets": assets}
    for each in (whole, item if isinstance(item, dict) else {"id": item}):
        read = read_item(each, row=7, now=NOW)
        if isinstance(read, SetAside):
            assert read.reason in REASONS
            read.value.encode()
            continue
        with DrawingOrder(tmp_path_factory.mktemp("order") / "a.sqlite") as order:
            assert order.add([read]) == [True]
            assert [batch.height for batch in order.batches(1)] == [1]


@pytest.mark.parametrize("name", [None, "", 5, "a\x00b", "\ud800", "a" * (LONGEST_TEXT + 1)])
def test_an_item_without_a_name_that_can_be_written_is_set_aside_by_its_row(name: object) -> None:
    read = read_item({"id": name, "geometry": BOX}, row=7, now=NOW)
    assert isinstance(read, SetAside)
    assert (read.id, read.reason) == ("row 7", "no_id")


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        *((value, "not a number") for value in ("unknown", "", float("nan"), True, [0.3])),
        *((value, "no plausible metre value") for value in (1.9e-07, "1.9e-07", -0.3, 0, 1e9, 10**400)),
    ],
)
def test_a_gsd_that_is_no_plausible_metre_value_is_unknown(value: object, flaw: str) -> None:
    read = footprint({"gsd": value})
    assert read.gsd is None
    assert read.unknown == (f"gsd: {flaw}",)


@pytest.mark.parametrize(("value", "metres"), [(0.3, 0.3), ("0.3", 0.3), (15, 15.0)])
def test_a_gsd_in_metres_is_read(value: object, metres: float) -> None:
    assert footprint({"gsd": value}).gsd == metres


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("CC-BY 4.0", "CC-BY-4.0"),
        ("CC BY-NC 4.0", "CC-BY-NC-4.0"),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("CC0", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
    ],
)
def test_licences_are_read_as_spdx(text: str, identifier: str) -> None:
    assert footprint({"license": text}).license == identifier


def test_a_licence_nobody_knows_is_unknown_and_a_missing_one_is_no_fault() -> None:
    assert footprint({"license": "mine"}).unknown == ("license: unknown",)
    assert footprint().unknown == ()


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("2099-01-01T00:00:00Z", "in the future"),
        ("0216-05-01T00:00:00Z", "before photography"),
        *((text, "unreadable") for text in ("2021-02-30T00:00:00Z", "yesterday", 5, "12:00")),
    ],
)
def test_a_date_that_cannot_be_true_is_unknown(text: object, flaw: str) -> None:
    read = footprint({"datetime": text})
    assert read.acquired_to is None
    assert read.unknown == (f"datetime: {flaw}",)


def test_each_value_that_is_unknown_is_told_once_with_its_own_reason() -> None:
    span = {"start_datetime": "yesterday", "datetime": "2099-01-01", "end_datetime": "0001-01-01"}
    assert footprint(span | {"updated": "now"}).unknown == (
        "start_datetime: unreadable",
        "datetime: in the future",
        "end_datetime: before photography",
        "updated: unreadable",
    )


@pytest.mark.parametrize("size", ["5", -1, 5.0, True, 2**63])
def test_a_file_size_that_is_no_number_of_bytes_is_unknown(size: object) -> None:
    read = footprint(assets={"visual": {"href": "https://example.org/a.tif", "file:size": size}})
    assert read.file_size is None
    assert read.unknown == ("file_size: no number of bytes",)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-01t00:00:00z", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60.5+00:00", datetime(2017, 1, 1, microsecond=500_000, tzinfo=UTC)),
    ],
)
def test_all_that_the_internets_date_format_allows_is_read(text: str, moment: datetime) -> None:
    read = footprint({"datetime": text})
    assert (read.acquired_to, read.unknown) == (moment, ())


def test_a_date_without_a_zone_is_taken_for_utc_and_a_zone_is_turned_into_it() -> None:
    assert footprint({"datetime": "2016-05-01T07:00:00"}).acquired_to == datetime(2016, 5, 1, 7, tzinfo=UTC)
    assert footprint({"datetime": "2016-05-01T07:00:00+02:00"}).acquired_to == datetime(
        2016, 5, 1, 5, tzinfo=UTC
    )


def test_a_span_is_read_and_one_the_wrong_way_round_is_turned() -> None:
    span = {
        "datetime": None,
        "start_datetime": "2020-01-02T00:00:00Z",
        "end_datetime": "2020-01-01T00:00:00Z",
    }
    read = footprint(span)
    assert read.acquired_from == datetime(2020, 1, 1, tzinfo=UTC)
    assert read.acquired_to == datetime(2020, 1, 2, tzinfo=UTC)


def test_titles_lose_control_characters_and_keep_everything_else() -> None:
    title = 'A "quoted" 👩‍🚒\x00\tflight\n of\ud800 می‌خواهم'
    assert footprint({"title": title}).title == 'A "quoted" 👩‍🚒 flight of می‌خواهم'


def test_texts_are_cut_short_and_long_addresses_left_out_as_each_tile_holds_them() -> None:
    long = "a" * 10**6
    instruments = [f"camera {number}" for number in range(1000)]
    read = footprint({"title": long, "platform": long, "instruments": instruments, "tms": f"https://{long}"})
    assert read.title == f"{'a' * (LONGEST_TEXT - 1)}…"
    assert read.sensor is not None
    assert len(read.sensor) == LONGEST_TEXT
    assert read.tms is None
    item = {"id": "x", "geometry": BOX, "assets": {"visual": {"href": f"https://{long}"}}}
    without = read_item(item, row=0, now=NOW)
    assert isinstance(without, Footprint)
    assert without.asset is None


@pytest.mark.parametrize(
    ("properties", "provider"),
    [
        ({"oam:producer_name": "Someone", "providers": [{"name": "Other"}]}, "Someone"),
        ({"providers": [{"name": "Other"}]}, "Other"),
        ({"providers": []}, None),
        ({"providers": "Other"}, None),
        ({"providers": [None, {"name": 5}, {"name": "Third"}]}, "Third"),
    ],
)
def test_the_provider_is_found(properties: dict[str, Any], provider: str | None) -> None:
    assert footprint(properties).provider == provider


def test_older_items_name_their_asset_data() -> None:
    read = footprint(assets={"data": {"href": "https://example.org/a.tif", "file:size": 5}})
    assert (read.asset, read.asset_name, read.file_size) == ("https://example.org/a.tif", "data", 5)


def test_the_visual_asset_and_the_xyz_link_come_first() -> None:
    read = footprint(
        {"tms": "https://tiles.invalid/property"},
        assets={
            "data": {"href": "https://images.invalid/data.tif"},
            "visual": {"href": "https://images.invalid/visual.tif"},
        },
        links=[
            {"rel": "tms", "href": "https://tiles.invalid/tms"},
            {"rel": "xyz", "href": "https://tiles.invalid/xyz"},
        ],
    )
    assert (read.asset, read.asset_name) == ("https://images.invalid/visual.tif", "visual")
    assert read.tms == "https://tiles.invalid/xyz"


def test_tiles_that_only_a_property_names_are_found() -> None:
    address = "http://tiles.invalid/{z}/{x}/{y}"
    assert footprint({"tms": address}).tms == address


@pytest.mark.parametrize("address", ["httpx://tiles.invalid/{z}", "http:tiles/{z}", "https:tiles/{z}"])
def test_what_only_begins_like_a_web_address_is_none(address: str) -> None:
    assert footprint({"tms": address}).tms is None

"""Items from stac-geoparquet files, laid out as stac-geoparquet 0.8 and rustac 0.9 write them."""

from __future__ import annotations

import base64
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import shapely

from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways.catalogue import geoparquet
from oam_mosaic_assets.gateways.catalogue.items_file import ItemsFile
from oam_mosaic_assets_tests.gateways.catalogue.items import an_item
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION

SPAN = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, 1, 2, 3, 456789, tzinfo=UTC))


def a_row(name: str, **columns: Any) -> dict[str, Any]:
    """Make the row of `an_item(name)`."""
    item = an_item(name)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": COLLECTION,
        "geometry": shapely.to_wkb(shapely.geometry.shape(item["geometry"])),
        "bbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), item["bbox"], strict=True)),
        "links": [],
        "assets": item["assets"],
        **item["properties"],
        "datetime": datetime(2024, 3, 1, 10, 20, 30, tzinfo=UTC),
        **columns,
    }


def write(path: Path, *rows: dict[str, Any], **types: Any) -> Path:
    pl.DataFrame(rows, schema_overrides=types, infer_schema_length=None).write_parquet(path)
    return path


def read(path: Path, collection: str | None = None) -> list[Any]:
    with ItemsFile(path, collection).snapshot() as snapshot:
        items = list(snapshot.items())
        assert snapshot.expected == len(items)
        return items


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "items"


def test_a_row_is_an_item(path: Path) -> None:
    assert read(write(path, a_row("a"), a_row("b"))) == [an_item("a"), an_item("b")]


def test_what_other_items_have_is_absent_where_it_is_null(path: Path) -> None:
    rows = [
        a_row("a", providers=[{"name": "P", "roles": ["host"]}, {"name": "Q", "roles": None}]),
        a_row("b", title=None, gsd=None, assets={"data": {"href": "d.tif"}}),
    ]
    first, second = read(write(path, *rows))

    assert first["properties"]["providers"] == [{"name": "P", "roles": ["host"]}, {"name": "Q"}]
    assert second["properties"] == {"datetime": "2024-03-01T10:20:30Z", "license": "CC-BY-4.0"}
    assert second["assets"] == {"data": {"href": "d.tif"}}


def test_an_item_with_a_span_keeps_its_null_datetime(path: Path) -> None:
    (item,) = read(write(path, a_row("a", datetime=None, start_datetime=SPAN[0], end_datetime=SPAN[1])))

    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"] == "2024-01-01T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2024-02-01T01:02:03.456789Z"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(date(2024, 3, 1), "2024-03-01", id="date"),
        pytest.param(datetime(2024, 3, 1, 5), "2024-03-01T05:00:00", id="no zone"),  # noqa: DTZ001 (the point)
        pytest.param(
            shapely.to_wkb(shapely.Point(1, 2)), {"type": "Point", "coordinates": [1, 2]}, id="place"
        ),
        pytest.param([1.5, None], [1.5, None], id="hole in a list"),
        pytest.param({"a": {"b": None, "c": True}}, {"a": {"c": True}}, id="null inside"),
    ],
)
def test_values_come_as_json_has_them(path: Path, value: Any, expected: Any) -> None:
    (item,) = read(write(path, a_row("a", value=value)))

    assert item["properties"]["value"] == expected


FAR = 2**63 - 1


@pytest.mark.parametrize(
    ("kind", "latest", "earliest"),
    [
        pytest.param(pl.Datetime("ms", "UTC"), "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", id="ms"),
        pytest.param(pl.Datetime("us", "UTC"), "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", id="us"),
        pytest.param(
            pl.Datetime("ns", "UTC"), "2262-04-11T23:47:16.854775Z", "1677-09-21T00:12:43.145224Z", id="ns"
        ),
        pytest.param(pl.Datetime("us"), "9999-12-31T23:59:59", "0001-01-01T00:00:00", id="no zone"),
        pytest.param(
            pl.Datetime("us", "Asia/Tokyo"), "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", id="another zone"
        ),
        pytest.param(pl.Date, "9999-12-31", "0001-01-01", id="date"),
    ],
)
def test_a_moment_beyond_pythons_years_is_moved_to_their_end_and_ends_no_run(
    path: Path, kind: Any, latest: str, earliest: str
) -> None:
    whole = 2**31 - 1 if kind == pl.Date else FAR
    moments = pl.Series("datetime", [whole, -whole, 0]).cast(pl.Int32 if kind == pl.Date else pl.Int64)
    table = pl.DataFrame([a_row(name) for name in "abc"]).with_columns(moments.cast(kind))
    table.write_parquet(path)

    assert [item["properties"]["datetime"] for item in read(path)][:2] == [latest, earliest]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(pl.List(pl.Datetime("ms", "UTC")), id="in a list"),
        pytest.param(pl.Array(pl.Datetime("ms", "UTC"), 1), id="in an array"),
        pytest.param(pl.Struct({"a": pl.List(pl.Date)}), id="deeper"),
        pytest.param(pl.Duration("ms"), id="a duration"),
    ],
)
def test_moments_that_no_item_needs_end_no_run_either(path: Path, kind: Any) -> None:
    numbers = {pl.List: [FAR], pl.Array: [FAR], pl.Struct: {"a": [2**31 - 1]}}
    column = pl.Series("value", [numbers.get(type(kind), FAR), None])
    pl.DataFrame([a_row("a"), a_row("b")]).with_columns(column.cast(kind)).write_parquet(path)

    assert [item["id"] for item in read(path)] == ["a", "b"]


def test_a_box_with_heights_is_in_the_order_of_geojson(path: Path) -> None:
    box = {"xmin": 1.0, "ymin": 2.0, "zmin": 3.0, "xmax": 4.0, "ymax": 5.0, "zmax": 6.0}
    (item,) = read(write(path, a_row("a", bbox=box)))

    assert item["bbox"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(None, None, id="null"),
        pytest.param(shapely.to_wkb(shapely.Polygon()), {"type": "Polygon", "coordinates": []}, id="empty"),
        pytest.param(b"\x01\x03", {"type": "unreadable WKB", "wkb": "0103"}, id="cut short"),
    ],
)
def test_items_without_a_place_come_too(path: Path, stored: bytes | None, expected: Any) -> None:
    first, second = read(write(path, a_row("a", geometry=stored), a_row("b")))

    assert first == an_item("a", geometry=expected)
    assert second == an_item("b")


def test_more_rows_than_are_held_at_a_time_are_all_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoparquet, "ROWS_AT_A_TIME", 3)

    assert [item["id"] for item in read(write(path, *map(a_row, "abcdefg")))] == list("abcdefg")


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum([COLLECTION, "another"])])
def test_items_of_other_collections_are_none_of_the_catalogues(path: Path, kind: Any) -> None:
    rows = [a_row("a"), a_row("b", collection="another"), a_row("c", collection=None)]
    write(path, *rows, collection=kind)

    assert [item["id"] for item in read(path, COLLECTION)] == ["a", "c"]
    assert [item["id"] for item in read(path, "a third one")] == ["c"]
    assert [item["id"] for item in read(path)] == ["a", "b", "c"]


def test_counting_needs_no_reading(path: Path) -> None:
    write(path, a_row("a"), a_row("b", collection="another"))

    assert ItemsFile(path).count() == 2
    assert ItemsFile(path, COLLECTION).count() == 1


def test_an_empty_table_is_a_catalogue_without_items(path: Path) -> None:
    pl.DataFrame([a_row("a")]).clear().write_parquet(path)

    assert read(path) == []


def test_a_path_with_wildcards_means_itself(tmp_path: Path) -> None:
    write(tmp_path / "items-b", a_row("b"))

    assert read(write(tmp_path / "items-[ab]*", a_row("a"))) == [an_item("a")]


def test_a_table_of_something_else_is_refused(path: Path) -> None:
    pl.DataFrame({"id": ["a"], "geometry": [b""]}).write_parquet(path)

    with pytest.raises(CatalogueRefused, match="holds no STAC items: missing columns: assets"):
        read(path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: whole[:4], id="only the beginning"),
        pytest.param(lambda whole: whole[:-100], id="end missing"),
        pytest.param(lambda whole: whole[:200] + bytes(200) + whole[400:], id="a hole"),
    ],
)
def test_a_damaged_file_is_refused(path: Path, damage: Any) -> None:
    write(path, *[a_row(str(number)) for number in range(100)])
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(CatalogueRefused, match="is not a complete Parquet file"):
        read(path)


def test_a_file_that_makes_the_reader_panic_is_refused(path: Path) -> None:
    """What Polars then raises is not an `Exception`; here a bad time zone in the Arrow schema causes it."""
    whole = write(path, a_row("a")).read_bytes()
    schema = max(re.findall(rb"[A-Za-z0-9+/]+=*", whole), key=len)
    spoilt = base64.b64encode(base64.b64decode(schema).replace(b"UTC", b"UT!"))
    path.write_bytes(whole.replace(schema, spoilt))

    with pytest.raises(CatalogueRefused, match="is not a complete Parquet file"):
        read(path)


def test_a_file_that_is_gone_while_it_is_read_may_be_back_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoparquet, "ROWS_AT_A_TIME", 1)
    write(path, a_row("a"), a_row("b"))
    with ItemsFile(path).snapshot() as snapshot:
        items = snapshot.items()
        next(items)
        path.unlink()
        with pytest.raises(CatalogueUnavailable, match="can no longer be read: No such file"):
            list(items)


def test_a_file_that_is_replaced_while_it_is_read_may_be_whole_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoparquet, "ROWS_AT_A_TIME", 1)
    write(path, a_row("a"), a_row("b"))
    with ItemsFile(path).snapshot() as snapshot:
        items = snapshot.items()
        next(items)
        write(path.with_name("new"), a_row("c"), a_row("d")).replace(path)
        with pytest.raises(CatalogueUnavailable, match="changed while it was being read"):
            list(items)

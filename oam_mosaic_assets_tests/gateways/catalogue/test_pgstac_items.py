"""What comes out of pgSTAC is what was put into it, however pgSTAC stored it."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from oam_mosaic_assets.gateways.catalogue.pgstac import PgstacCatalogue
from oam_mosaic_assets.gateways.catalogue.source import Unreadable
from oam_mosaic_assets_tests.gateways.catalogue.items import (
    TEMPLATE_ASSETS,
    an_item,
    by_id,
    items_of_many_kinds,
)
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION, a_collection, load_items
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase

with_and_without_template = pytest.mark.parametrize(
    "collection",
    [
        pytest.param(a_collection(item_assets=TEMPLATE_ASSETS), id="template"),
        pytest.param(a_collection(), id="no template"),
    ],
)


def read(database: PgstacDatabase, collection: str = COLLECTION) -> dict[str, Any]:
    with PgstacCatalogue(database.dsn, collection).snapshot() as snapshot:
        items = by_id(snapshot.items())
        assert snapshot.expected == len(items)
        return items


def hydrated_by_pgstac(database: PgstacDatabase) -> dict[str, Any]:
    with database.connect() as connection:
        return dict(connection.execute("SELECT id, content_hydrate(items) FROM items").fetchall())


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


@with_and_without_template
def test_items_come_back_as_the_loader_stored_them(
    database: PgstacDatabase, collection: dict[str, Any]
) -> None:
    items = items_of_many_kinds()
    load_items(database, items, collection=collection)

    assert read(database) == {item["id"]: item for item in items}


@with_and_without_template
def test_items_come_back_as_the_transactions_api_stored_them(
    database: PgstacDatabase, collection: dict[str, Any]
) -> None:
    """It stores them with pgSTAC's own functions, which drop every null."""
    items = items_of_many_kinds()
    load_items(database, [], collection=collection)
    with database.connect() as connection:
        connection.execute("SELECT upsert_items(%s)", [Jsonb(items)])

    assert without_nulls(read(database)) == without_nulls({item["id"]: item for item in items})


def test_items_stored_under_an_earlier_template_are_completed_as_pgstac_completes_them(
    database: PgstacDatabase,
) -> None:
    for name in ("first", "second", "third"):
        visual = {**TEMPLATE_ASSETS["visual"], "title": name}
        load_items(
            database,
            [an_item(name, assets={"visual": visual})],
            collection=a_collection(item_assets={"visual": visual}),
        )

    assert read(database) == hydrated_by_pgstac(database)
    if database.version.startswith("0.10."):
        assert {name: item["assets"]["visual"]["title"] for name, item in read(database).items()} == {
            "first": "first",
            "second": "second",
            "third": "third",
        }


def test_an_item_of_an_unknown_template_is_completed_with_the_present_one(database: PgstacDatabase) -> None:
    load_items(database, [an_item("a")], collection=a_collection(item_assets=TEMPLATE_ASSETS))
    with database.connect() as connection:
        connection.execute("UPDATE items SET content = content || '{\"pgstac:base_item\": 4711}'")

    assert read(database) == {"a": an_item("a")}


def test_a_null_in_a_list_is_taken_as_pgstac_takes_it(database: PgstacDatabase) -> None:
    visual = {**TEMPLATE_ASSETS["visual"], "roles": ["data", None]}
    load_items(database, [], collection=a_collection(item_assets=TEMPLATE_ASSETS))
    with database.connect() as connection:
        connection.execute("SELECT upsert_items(%s)", [Jsonb([an_item("a", assets={"visual": visual})])])

    assert read(database) == hydrated_by_pgstac(database) == {"a": an_item("a", assets={"visual": visual})}


@pytest.mark.parametrize(
    "name",
    [
        "it's",
        'a "quoted" one',
        "x'); DROP TABLE pgstac.items; --",
        "100 %s %(collection)s $1",
        "back\\slash",
        "Zürich/東京 🛰",
        " ",
    ],
)
def test_ids_and_collections_may_be_any_text(database: PgstacDatabase, name: str) -> None:
    item = an_item(name, collection=name)
    load_items(database, [item])

    assert read(database, name) == {name: item}


def test_only_items_of_the_collection_are_read(database: PgstacDatabase) -> None:
    load_items(database, [an_item("a"), an_item("b", collection="another")])

    assert set(read(database)) == {"a"}


def test_an_empty_collection_is_a_catalogue_without_items(database: PgstacDatabase) -> None:
    load_items(database, [], collection=a_collection())

    assert read(database) == {}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param("POLYGON EMPTY", {"type": "Polygon", "coordinates": []}, id="empty polygon"),
        pytest.param("POINT EMPTY", {"type": "Point", "coordinates": []}, id="empty point"),
        pytest.param(
            "MULTIPOLYGON(EMPTY,((0 0,1 0,1 1,0 0)))",
            {"type": "MultiPolygon", "coordinates": [[], [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]]]},
            id="empty part",
        ),
        pytest.param(None, None, id="null"),
    ],
)
def test_items_without_a_place_come_too(
    database: PgstacDatabase, stored: str | None, expected: dict[str, Any] | None
) -> None:
    load_items(database, [an_item("a")])
    with database.connect() as connection:
        connection.execute("ALTER TABLE items ALTER COLUMN geometry DROP NOT NULL")
        connection.execute("UPDATE items SET geometry = ST_GeomFromText(%s, 4326)", [stored])

    assert read(database) == {"a": an_item("a", geometry=expected)}


def test_a_ring_that_is_not_closed_comes_as_it_is(database: PgstacDatabase) -> None:
    open_ring = {"type": "Polygon", "coordinates": [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]]}
    load_items(database, [an_item("a", geometry=open_ring)])

    assert read(database)["a"]["geometry"] == open_ring


def test_a_geometry_that_geojson_does_not_know_does_not_end_the_run(database: PgstacDatabase) -> None:
    load_items(database, [an_item("a"), an_item("b")])
    with database.connect() as connection:
        connection.execute(
            "UPDATE items SET geometry = ST_GeomFromText('CIRCULARSTRING(0 0,1 1,2 0)', 4326) WHERE id = 'a'"
        )
    items = read(database)

    assert items["a"]["geometry"]["type"] == "unreadable WKB"
    assert items["b"] == an_item("b")


@pytest.mark.parametrize("content", ['"text"', "[]", '{"properties": ' + "1" * 5000 + "}"])
def test_content_that_is_no_item_is_set_aside_under_its_id(database: PgstacDatabase, content: str) -> None:
    load_items(database, [an_item("a")])
    with database.connect() as connection:
        connection.execute("UPDATE items SET content = %s", [content])
    with PgstacCatalogue(database.dsn, COLLECTION).snapshot() as snapshot:
        (found,) = snapshot.items()

    assert found == Unreadable(1, content[:200], "a")

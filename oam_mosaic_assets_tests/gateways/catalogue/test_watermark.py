"""The watermark of a pgSTAC: it changes as soon as anything in any item changes, and not before."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb

from oam_mosaic_assets.gateways.catalogue.pgstac import PgstacCatalogue
from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue
from oam_mosaic_assets.gateways.catalogue.source import Unreadable
from oam_mosaic_assets_tests.gateways.catalogue.items import TEMPLATE_ASSETS, an_item
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION, a_collection, load_items
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase

ITEMS = [an_item(str(number)) for number in range(5)]


def watermark(database: PgstacDatabase) -> str:
    """Read the current watermark."""
    with PgstacCatalogue(database.dsn, COLLECTION).snapshot() as snapshot:
        return snapshot.watermark()


def test_it_stays_while_nothing_changes_whatever_the_order_of_the_rows(database: PgstacDatabase) -> None:
    load_items(database, ITEMS)
    before = watermark(database)
    load_items(database, reversed(ITEMS))
    assert watermark(database) == before


def test_an_empty_collection_has_one_too(database: PgstacDatabase) -> None:
    load_items(database, [], collection=a_collection())
    empty = watermark(database)
    load_items(database, ITEMS[:1])
    assert watermark(database) != empty


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM items WHERE id = '3'",
        "UPDATE items SET geometry = ST_Translate(geometry, 1e-7, 0) WHERE id = '3'",
        "UPDATE items SET content = jsonb_set(content, '{properties,title}', '\"B\"') WHERE id = '3'",
        "UPDATE items SET id = '33' WHERE id = '3'",
    ],
)
def test_any_change_moves_it(database: PgstacDatabase, change: str) -> None:
    load_items(database, ITEMS)
    before = watermark(database)
    with database.connect() as connection:
        connection.execute(change)
    assert watermark(database) != before


def test_one_more_moves_it(database: PgstacDatabase) -> None:
    load_items(database, ITEMS)
    before = watermark(database)
    load_items(database, [an_item("another")])
    assert watermark(database) != before


def test_what_two_items_hold_changing_places_moves_it(database: PgstacDatabase) -> None:
    one, other = an_item("1", properties={"title": "A"}), an_item("2", properties={"title": "B"})
    load_items(database, [one, other])
    before = watermark(database)
    load_items(database, [{**one, "id": "2"}, {**other, "id": "1"}])
    assert watermark(database) != before


def test_what_its_template_says_belongs_to_an_item(database: PgstacDatabase) -> None:
    """Items are stored without the parts that equal their collection's template."""
    load_items(database, ITEMS, collection=a_collection())
    before = watermark(database)
    with database.connect() as connection:
        connection.execute(
            "UPDATE collections SET content = content || jsonb_build_object('item_assets', %s)",
            [Jsonb(TEMPLATE_ASSETS)],
        )
    assert watermark(database) != before


def test_hashes_tell_which_items_changed_and_those_can_be_read_alone(database: PgstacDatabase) -> None:
    load_items(database, ITEMS)
    catalogue = PgstacCatalogue(database.dsn, COLLECTION)
    with catalogue.snapshot() as snapshot:
        before = dict(snapshot.hashes())
        every = {item["id"]: item for item in snapshot.items() if not isinstance(item, Unreadable)}
    load_items(database, [an_item("3", properties={"title": "new"}), an_item("another")])
    with catalogue.snapshot() as snapshot:
        now = dict(snapshot.hashes())
        changed = [name for name, number in now.items() if before.get(name) != number]
        found = [
            item
            for batch in snapshot.batches(["3", "1", "no such id"])
            for item in batch.items()
            if not isinstance(item, Unreadable)
        ]
    assert sorted(changed) == ["3", "another"]
    assert sorted(item["id"] for item in found) == ["1", "3"]
    assert next(item for item in found if item["id"] == "1") == every["1"]
    assert len(before) == len(ITEMS) == len(set(before.values()))


def test_hashes_move_with_the_template_of_the_items(database: PgstacDatabase) -> None:
    load_items(database, ITEMS, collection=a_collection())
    catalogue = PgstacCatalogue(database.dsn, COLLECTION)
    with catalogue.snapshot() as snapshot:
        before = dict(snapshot.hashes())
    with database.connect() as connection:
        connection.execute(
            "UPDATE collections SET content = content || jsonb_build_object('item_assets', %s)",
            [Jsonb(TEMPLATE_ASSETS)],
        )
    with catalogue.snapshot() as snapshot:
        now = dict(snapshot.hashes())
    assert now.keys() == before.keys()
    assert not set(now.values()) & set(before.values())


def test_a_source_that_cannot_say_it_cheaply_says_nothing() -> None:
    with SampleCatalogue().snapshot() as snapshot:
        assert snapshot.watermark() is None

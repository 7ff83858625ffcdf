"""How pgSTAC is read: in one snapshot, in little memory, with few rights, and only in known versions."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier, Literal

from oam_mosaic_assets.errors import CatalogueRefused
from oam_mosaic_assets.gateways.catalogue.pgstac import PgstacCatalogue
from oam_mosaic_assets.gateways.catalogue.source import Holdings, Unreadable
from oam_mosaic_assets_tests.gateways.catalogue.items import (
    MANY,
    PEAK_MEMORY,
    an_item,
    by_id,
    everything_told,
)
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION, a_collection, load_items
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase, PostgresServer

ROLE_PASSWORD = "kept: to/our@selves"


@pytest.fixture
def role(database: PgstacDatabase) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A user without rights, as a function that runs a GRANT for it and returns how to connect."""
    name = f"{database.name}_reader"
    with database.connect() as connection:
        connection.execute(
            SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(name), Literal(ROLE_PASSWORD))
        )

        def grant(statement: str) -> dict[str, Any]:
            connection.execute(SQL(statement).format(role=Identifier(name)))
            return {
                "host": database.host,
                "port": database.port,
                "user": name,
                "password": ROLE_PASSWORD,
                "dbname": database.name,
            }

        yield grant
        connection.execute(SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=Identifier(name)))


def readers(database: PgstacDatabase) -> int:
    """How many connections this project has open to the database."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = 'oam-mosaic'",
            [database.name],
        ).fetchone()
    assert row is not None
    return int(row[0])


def assert_nobody_reads(database: PgstacDatabase) -> None:
    deadline = time.monotonic() + 5
    while readers(database) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert readers(database) == 0


# One snapshot


def test_what_is_committed_during_the_read_is_not_seen(database: PgstacDatabase) -> None:
    load_items(database, [an_item("kept"), an_item("changed"), an_item("removed")])
    with PgstacCatalogue(database.dsn, COLLECTION).snapshot() as snapshot:
        load_items(database, [an_item("added"), an_item("changed", properties={"title": "Other"})])
        with database.connect() as connection:
            connection.execute("DELETE FROM items WHERE id = 'removed'")
            connection.execute(
                "UPDATE collections SET content = content || %s",
                ['{"item_assets": {"visual": {"title": "Late"}}}'],
            )
        items = by_id(snapshot.items())

    assert items == {name: an_item(name) for name in ("kept", "changed", "removed")}
    assert snapshot.expected == 3


def test_a_snapshot_is_dated_by_the_clock_of_the_database(database: PgstacDatabase) -> None:
    load_items(database, [], collection=a_collection())
    before = datetime.now(UTC)
    with PgstacCatalogue(database.dsn, COLLECTION).snapshot() as snapshot:
        assert before <= snapshot.taken_at <= datetime.now(UTC)
        assert snapshot.taken_at.tzinfo is UTC


def test_nothing_can_be_written_in_a_snapshot(database: PgstacDatabase) -> None:
    load_items(database, [], collection=a_collection())
    with PgstacCatalogue(database.dsn, COLLECTION).snapshot() as snapshot:
        assert list(snapshot._rows("SELECT current_setting('transaction_read_only')")) == [("on",)]


# Economy


def test_memory_does_not_grow_with_the_catalogue(many_items: PgstacDatabase) -> None:
    """Twelve thousand items of 4 kB, as text and then as objects, do not fit into 30 MB."""
    reading = subprocess.run(
        [sys.executable, "-c", _MEMORY_TAKEN, many_items.dsn, COLLECTION],
        capture_output=True,
        text=True,
        check=True,
    )
    items, kilobytes = map(int, reading.stdout.split())

    assert items == MANY
    assert kilobytes < 30_000


_MEMORY_TAKEN = f"""
{PEAK_MEMORY}
import sys
from oam_mosaic_assets.gateways.catalogue.pgstac import PgstacCatalogue

with PgstacCatalogue(sys.argv[1], sys.argv[2]).snapshot() as snapshot:
    before = peak_kilobytes()
    print(sum(1 for _ in snapshot.items()), peak_kilobytes() - before)
"""


@pytest.mark.alone
def test_the_ids_of_all_items_are_listed_without_the_items(many_items: PgstacDatabase) -> None:
    catalogue = PgstacCatalogue(many_items.dsn, COLLECTION)
    with catalogue.snapshot() as snapshot:
        start = time.perf_counter()
        names = {item["id"] for item in snapshot.items() if not isinstance(item, Unreadable)}
        reading = time.perf_counter() - start

    start = time.perf_counter()
    ids = list(catalogue.ids())

    assert time.perf_counter() - start < reading / 3
    assert len(ids) == MANY
    assert set(ids) == names
    assert readers(many_items) == 0


@pytest.mark.alone
def test_counting_reads_no_items(many_items: PgstacDatabase) -> None:
    catalogue = PgstacCatalogue(many_items.dsn, COLLECTION)

    def seconds(call: Callable[[], int]) -> float:
        start = time.perf_counter()
        assert call() == MANY
        return time.perf_counter() - start

    def read_all() -> int:
        with catalogue.snapshot() as snapshot:
            return sum(1 for _ in snapshot.items())

    assert seconds(catalogue.count) < seconds(read_all) / 3


def test_other_collections_are_counted_too(database: PgstacDatabase) -> None:
    load_items(database, [an_item("a"), {**an_item("b"), "collection": "another"}])
    load_items(database, [], collection=a_collection("empty"))
    with PgstacCatalogue(database.dsn, COLLECTION).snapshot() as snapshot:
        assert snapshot.expected == 1
        assert snapshot.holdings() == Holdings(collections=3, items=2)


def test_a_read_that_ends_early_leaves_no_connection(many_items: PgstacDatabase) -> None:
    with PgstacCatalogue(many_items.dsn, COLLECTION).snapshot() as snapshot:
        for _ in snapshot.items():
            break
        assert readers(many_items) == 1

    assert_nobody_reads(many_items)


def test_a_read_that_fails_in_the_readers_hands_leaves_no_connection(many_items: PgstacDatabase) -> None:
    def fail() -> None:
        with PgstacCatalogue(many_items.dsn, COLLECTION).snapshot() as snapshot:
            for _ in snapshot.items():
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert_nobody_reads(many_items)


# Rights


@pytest.mark.parametrize(
    "granted",
    [
        pytest.param("GRANT pgstac_read TO {role}", id="the role pgstac_read"),
        pytest.param(
            "GRANT USAGE ON SCHEMA pgstac TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA pgstac TO {role}",
            id="SELECT only",
        ),
        pytest.param(
            "GRANT pgstac_read TO {role}; ALTER ROLE {role} SET search_path = ''", id="an empty search_path"
        ),
    ],
)
def test_the_right_to_select_is_enough(
    database: PgstacDatabase, role: Callable[[str], dict[str, Any]], granted: str
) -> None:
    load_items(database, [an_item("a")])
    with PgstacCatalogue(role(granted), COLLECTION).snapshot() as snapshot:
        assert by_id(snapshot.items()) == {"a": an_item("a")}


@pytest.mark.parametrize(
    "granted",
    [
        pytest.param("SELECT", id="nothing"),
        pytest.param("GRANT USAGE ON SCHEMA pgstac TO {role}", id="no tables"),
    ],
)
def test_a_user_without_rights_is_told_what_is_needed(
    role: Callable[[str], dict[str, Any]], granted: str
) -> None:
    with pytest.raises(CatalogueRefused, match="permission denied") as refused:
        PgstacCatalogue(role(granted), COLLECTION).count()

    assert "pgstac_read" in refused.value.hint
    assert ROLE_PASSWORD not in everything_told(refused.value)


# Missing collections, unknown versions


def test_an_unknown_collection_is_refused_and_ten_others_named(database: PgstacDatabase) -> None:
    load_items(database, [an_item("a", collection=f"collection-{n:02}") for n in range(12)])
    with pytest.raises(CatalogueRefused) as refused:
        PgstacCatalogue(database.dsn, "openaerialmop").count()

    assert "no collection 'openaerialmop'" in refused.value.message
    assert [f"collection-{n:02}" in refused.value.message for n in range(12)] == [True] * 10 + [False] * 2


def test_the_name_of_a_collection_commands_no_terminal(database: PgstacDatabase) -> None:
    load_items(database, [an_item("a", collection="x\u001b[2J\u001b]0;owned\u0007")])
    with pytest.raises(CatalogueRefused, match="owned") as refused:
        PgstacCatalogue(database.dsn, "openaerialmop").count()
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("version", ["0.8.6", "0.11.0", "1.0.0", "unreleased"])
def test_a_version_of_pgstac_that_is_not_known_is_refused_by_name(
    database: PgstacDatabase, version: str
) -> None:
    load_items(database, [an_item("a")])
    with database.connect() as connection:
        connection.execute("INSERT INTO migrations (version) VALUES (%s)", [version])

    with pytest.raises(CatalogueRefused, match=f"pgSTAC {version},"):
        PgstacCatalogue(database.dsn, COLLECTION).count()


def test_items_without_content_are_refused_with_the_version(database: PgstacDatabase) -> None:
    """The development branch of pgSTAC stores items this way."""
    with database.connect() as connection:
        connection.execute("ALTER TABLE items RENAME COLUMN content TO properties")

    with pytest.raises(CatalogueRefused, match=f"pgSTAC {database.version},"):
        PgstacCatalogue(database.dsn, COLLECTION).count()


def test_a_database_without_pgstac_is_refused(postgres: PostgresServer) -> None:
    plain = postgres.database("postgres", version="none")

    with pytest.raises(CatalogueRefused, match=f"no pgSTAC in 127.0.0.1:{postgres.port}/postgres"):
        PgstacCatalogue(plain.dsn, COLLECTION).count()

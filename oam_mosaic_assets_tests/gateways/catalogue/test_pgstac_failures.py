"""Whether a pgSTAC that cannot be read counts as an outage or a refusal; and no password is shown."""

from __future__ import annotations

import os
import socket
import time
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways import from_settings
from oam_mosaic_assets.gateways.catalogue.pgstac import PgstacCatalogue
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.gateways.catalogue.items import MANY, an_item, everything_told
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION, load_items
from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase, PostgresServer

PASSWORD = "kept: to/our@selves"


# Connections that fail


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        pytest.param({"password": "guessed-0123"}, "password authentication failed", id="password"),
        pytest.param({"user": "nobody"}, "password authentication failed", id="user"),
        pytest.param(
            {"user": "guessed-0123", "password": "guessed-0123"},
            r'user "\*\*\*"',
            id="user named as the password",
        ),
        pytest.param({"dbname": "eoapo"}, 'database "eoapo" does not exist', id="database"),
        pytest.param({"sslmode": "require"}, "does not support SSL", id="encryption"),
        pytest.param({"sslmode": "perhaps"}, "invalid sslmode", id="setting"),
        pytest.param({"colour": "blue"}, "invalid connection option", id="name of a setting"),
    ],
)
def test_a_refused_connection_asks_for_a_person(
    postgres: PostgresServer, wrong: dict[str, Any], told: str
) -> None:
    right: dict[str, Any] = {
        "host": postgres.host,
        "port": postgres.port,
        "user": postgres.user,
        "password": postgres.password,
        "dbname": "postgres",
    }
    parts = right | wrong
    with pytest.raises(CatalogueRefused, match=told) as refused:
        PgstacCatalogue(parts, COLLECTION).count()

    assert str(parts["password"]) not in everything_told(refused.value)


def test_a_server_that_is_down_may_be_back_later() -> None:
    catalogue = PgstacCatalogue(f"postgresql://reader:kept-0123@127.0.0.1:{free_port()}/eoapi", COLLECTION)
    with pytest.raises(CatalogueUnavailable, match="Connection refused") as unavailable:
        catalogue.count()

    assert "kept-0123" not in everything_told(unavailable.value)


def test_a_host_that_cannot_be_found_may_be_back_later() -> None:
    with pytest.raises(CatalogueUnavailable):
        PgstacCatalogue({"host": "db.invalid", "dbname": "eoapi"}, COLLECTION).count()


def test_a_host_that_vanishes_before_it_confirms_a_question_is_not_waited_for(
    database: PgstacDatabase,
) -> None:
    """Nothing that tests may do makes packets vanish, so this looks at what the kernel was told."""
    with (
        PgstacCatalogue(database.dsn, COLLECTION)._connected() as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_a_connection_that_is_cut_during_the_read_may_be_back_later(many_items: PgstacDatabase) -> None:
    with PgstacCatalogue(many_items.dsn, COLLECTION).snapshot() as snapshot:
        items = snapshot.items()
        next(items)
        with many_items.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name = 'oam-mosaic'",
                [many_items.name],
            )
        with pytest.raises(CatalogueUnavailable) as unavailable:
            list(items)

    assert many_items.password not in everything_told(unavailable.value)


def test_a_server_that_crashes_during_the_read_may_be_back_later(
    postgres: PostgresServer, many_items: PgstacDatabase
) -> None:
    catalogue = PgstacCatalogue(many_items.dsn, COLLECTION)
    with catalogue.snapshot() as snapshot:
        items = snapshot.items()
        next(items)
        postgres.stop(at_once=True)
        try:
            with pytest.raises(CatalogueUnavailable):
                list(items)
            with pytest.raises(CatalogueUnavailable):
                catalogue.count()
        finally:
            postgres.start()

    assert catalogue.count() == MANY


def test_a_statement_that_takes_too_long_is_given_up(database: PgstacDatabase) -> None:
    load_items(database, [an_item("a")])
    patient = PgstacCatalogue(database.dsn, COLLECTION)
    hasty = PgstacCatalogue(database.dsn, COLLECTION, statement_timeout_seconds=0.2)
    with database.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(CatalogueUnavailable, match="statement timeout"):
            hasty.count()

    assert patient.count() == 1


@pytest.mark.parametrize(
    ("most", "patient", "is_advised"), [(1, False, False), (2, False, True), (1, True, True)]
)
def test_more_time_is_advised_only_where_the_setting_would_give_it(
    database: PgstacDatabase, monkeypatch: pytest.MonkeyPatch, most: int, *, patient: bool, is_advised: bool
) -> None:
    load_items(database, [an_item("a")])
    monkeypatch.setattr(from_settings, "HASTY_STATEMENT_SECONDS", most)
    settings = Settings.read({**database.environment, "PG_STATEMENT_TIMEOUT": "1"})
    catalogue = from_settings.pgstac_of(settings, patient=patient)
    with database.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(CatalogueUnavailable, match="statement timeout") as unavailable:
            catalogue.count()

    assert ("raise PG_STATEMENT_TIMEOUT" in unavailable.value.hint) is is_advised


def test_a_server_that_ends_idle_transactions_waits_for_what_is_done_in_between(
    database: PgstacDatabase,
) -> None:
    load_items(database, [an_item("a")])
    hasty = f"{database.dsn}?options=-c%20idle_in_transaction_session_timeout%3D100ms"
    with PgstacCatalogue(hasty, COLLECTION).snapshot() as snapshot:
        time.sleep(0.5)
        assert snapshot.holdings().items == 1


def test_a_standby_that_cannot_keep_what_is_read_is_named(database: PgstacDatabase) -> None:
    catalogue = PgstacCatalogue(database.dsn, COLLECTION)
    said = "canceling statement due to conflict with recovery"
    conflict = f"DO $$ BEGIN RAISE '{said}' USING ERRCODE = '40001'; END $$"
    with database.connect() as connection, pytest.raises(CatalogueUnavailable) as lost:
        catalogue._guarded(lambda: connection.execute(conflict))
    assert said in lost.value.message
    assert "max_standby_streaming_delay" in lost.value.hint


# Secrets


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://reader:Pa0xyz@Wo0xyz@db.example.org/eoapi",
        "postgresql://reader:Pa0xyz/Wo0xyz@db.example.org/eoapi",
        "postgresql://reader:Pa0xyzWo0xyz",
        "postgresql://reader:%zzPa0xyzWo0xyz@db.example.org/eoapi",
        "host=db.example.org password=Pa0xyz Wo0xyz",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(CatalogueRefused) as refused:
        PgstacCatalogue(address, COLLECTION)

    told = everything_told(refused.value).replace(repr(address), "").replace(address, "")
    assert "Pa0xyz" not in told
    assert "Wo0xyz" not in told


@pytest.mark.parametrize(
    "connection",
    [
        f"postgresql://reader:{quote(PASSWORD, safe='')}@db.example.org:6543/eoapi?sslmode=require",
        f"host=db.example.org port=6543 user=reader password='{PASSWORD}' dbname=eoapi",
        {"host": "db.example.org", "port": 6543, "password": PASSWORD, "dbname": "eoapi"},
    ],
)
def test_a_catalogue_says_where_it_is_but_no_password(connection: str | dict[str, str | int]) -> None:
    catalogue = PgstacCatalogue(connection, COLLECTION)

    assert catalogue.origin == "pgSTAC db.example.org:6543/eoapi, collection openaerialmap"
    assert repr(catalogue) == "PgstacCatalogue('pgSTAC db.example.org:6543/eoapi, collection openaerialmap')"


@pytest.mark.parametrize("password", ["a", "on"])
def test_a_password_of_a_letter_or_two_spoils_no_message(password: str) -> None:
    """Masking these letters everywhere would give them away, and the refusal would not be recognised."""
    said = 'FATAL: password authentication failed for user "reader"'
    catalogue = PgstacCatalogue({"host": "db.example.org", "password": password}, COLLECTION)

    def fail() -> None:
        raise psycopg.OperationalError(said)

    with pytest.raises(CatalogueRefused) as refused:
        catalogue._guarded(fail)
    assert refused.value.message == f"PostgreSQL at {catalogue.database}: {said}"


def test_what_the_settings_leave_open_is_taken_as_psql_takes_it(
    database: PgstacDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_items(database, [an_item("a")])
    for name, value in database.environment.items():
        monkeypatch.setenv(name, value)
    catalogue = PgstacCatalogue({}, COLLECTION)

    assert catalogue.count() == 1
    assert catalogue.origin == f"pgSTAC 127.0.0.1:{database.port}/{database.name}, collection openaerialmap"

"""Findings about an image source: whether it answers, which user asks, and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from psycopg.sql import SQL, Identifier, Literal

from oam_mosaic_assets.gateways import from_settings
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State
from oam_mosaic_assets.gateways.diagnosis.source import examine_source
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import some_items, write_items
from oam_mosaic_assets_tests.gateways.catalogue.items import an_item
from oam_mosaic_assets_tests.gateways.catalogue.scripted_api import a_page, scripted_api
from oam_mosaic_assets_tests.servers.pgstac_items import a_collection, load_items
from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.postgres import (
    PGSTAC_VERSIONS,
    PgstacDatabase,
    PostgresServer,
)

PASSWORD = "kept-0123"
ALL_BUT_ITEMS = """
    GRANT USAGE ON SCHEMA pgstac TO {role};
    GRANT SELECT ON pgstac.collections, pgstac.migrations TO {role}
"""
OK, WARNING, WRONG, UNREACHABLE, UNTRIED = State

_numbers = count(1)


def examined(**stated: str) -> tuple[list[Finding], int | None]:
    """The findings, and the number of images."""
    examination, findings = examine_source(Settings.read(stated)), []
    while True:
        try:
            findings.append(next(examination))
        except StopIteration as end:
            assert PASSWORD not in f"{findings}"
            return findings, end.value


def states(findings: list[Finding]) -> list[tuple[str, State]]:
    return [(each.subject, each.state) for each in findings]


@pytest.fixture(scope="module", params=PGSTAC_VERSIONS)
def database(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    """A database with three images and an empty collection."""
    name = f"examined_{request.param.replace('.', '_')}"
    created = postgres.create_pgstac(name, request.param)
    load_items(created, [an_item(f"{n:024x}") for n in range(3)])
    load_items(created, [], collection=a_collection("empty"))
    yield created
    postgres.drop(created.name)


@pytest.fixture
def reader(database: PgstacDatabase) -> Iterator[Callable[[str], dict[str, str]]]:
    """A user without rights, as a function that runs a GRANT for it and returns its environment."""
    name = f"reader-{next(_numbers)}"
    role = {"role": Identifier(name)}
    with database.connect() as connection:
        connection.execute(SQL("CREATE ROLE {role} LOGIN PASSWORD {}").format(Literal(PASSWORD), **role))

        def grant(statement: str) -> dict[str, str]:
            connection.execute(SQL(statement).format(**role))
            return database.environment | {"PGUSER": name, "PGPASSWORD": PASSWORD}

        yield grant
        connection.execute(SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(**role))


def test_a_reader_with_the_rights_it_needs_is_well(
    database: PgstacDatabase, reader: Callable[[str], dict[str, str]]
) -> None:
    findings, images = examined(**reader("GRANT pgstac_read TO {role}"))

    assert states(findings) == [("database", OK), ("database user", OK), ("images", OK)]
    assert f"with pgSTAC {database.version}" in findings[0].text
    assert "change nothing" in findings[1].text
    assert findings[2].text.startswith("3 in pgSTAC 127.0.0.1:")
    assert images == 3


@pytest.mark.parametrize(
    ("statement", "unreadable"),
    [
        ("GRANT USAGE ON SCHEMA pgstac TO {role}", ["collections", "items", "migrations"]),
        (
            ALL_BUT_ITEMS,
            ["items"],
        ),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA pgstac TO {role}", ["collections", "items", "migrations"]),
    ],
    ids=["no table", "no items", "no schema"],
)
def test_every_table_that_may_not_be_read_is_named(
    reader: Callable[[str], dict[str, str]], statement: str, unreadable: list[str]
) -> None:
    findings, images = examined(**reader(statement))

    assert states(findings) == [("database", OK), ("database user", WRONG), ("images", UNTRIED)]
    _, _, named = findings[1].text.partition(" may not read ")
    assert {f"pgstac.{table}" for table in unreadable} == {*named.split(", ")} - {"pgstac.base_items"}
    assert images is None


def test_what_is_to_be_run_as_the_owner_gives_the_reader_its_rights(
    database: PgstacDatabase, reader: Callable[[str], dict[str, str]]
) -> None:
    environment = reader("GRANT USAGE ON SCHEMA pgstac TO {role}")
    assert "-" in environment["PGUSER"], "SQL takes such a name only in quotes"
    findings, _ = examined(**environment)
    with database.connect() as connection:
        connection.execute(findings[1].hint.partition(" run: ")[2].encode())

    findings, images = examined(**environment)
    assert states(findings) == [("database", OK), ("database user", OK), ("images", OK)]
    assert images == 3


def test_a_superuser_is_more_than_a_reader_needs(database: PgstacDatabase) -> None:
    findings, images = examined(**database.environment)

    assert states(findings) == [("database", OK), ("database user", WARNING), ("images", OK)]
    assert "is a superuser" in findings[1].text
    assert images == 3


def test_a_user_who_may_write_is_more_than_a_reader_needs(reader: Callable[[str], dict[str, str]]) -> None:
    findings, _ = examined(**reader("GRANT pgstac_read TO {role}; GRANT DELETE ON pgstac.items TO {role}"))

    assert findings[1].state is WARNING
    assert "may write to pgstac.items, but" in findings[1].text


def test_a_collection_that_is_missing_is_named(database: PgstacDatabase) -> None:
    findings, _ = examined(**database.environment, COLLECTION="openareialmap")

    assert findings[-1].subject == "images"
    assert findings[-1].state is WRONG
    assert "no collection 'openareialmap'; available: empty, openaerialmap" in findings[-1].text
    assert findings[-1].hint == "Set COLLECTION to one of these."


def test_a_collection_without_images_is_no_mosaic(database: PgstacDatabase) -> None:
    findings, images = examined(**database.environment, COLLECTION="empty")

    assert findings[-1].state is WRONG
    assert "an empty catalogue never replaces a mosaic" in findings[-1].text
    assert images == 0


def test_a_password_that_is_wrong_is_named(postgres: PostgresServer) -> None:
    parts = {"PGHOST": postgres.host, "PGPORT": str(postgres.port), "PGUSER": postgres.user}
    findings, _ = examined(**parts, PGPASSWORD=PASSWORD, PGDATABASE="postgres")

    assert states(findings) == [("database", WRONG), ("images", UNTRIED)]
    assert "password authentication failed" in findings[0].text


def test_a_database_without_pgstac_is_named(postgres: PostgresServer) -> None:
    parts = {"PGHOST": postgres.host, "PGPORT": str(postgres.port), "PGUSER": postgres.user}
    findings, _ = examined(**parts, PGPASSWORD=postgres.password, PGDATABASE="postgres")

    assert findings[-1].state is WRONG
    assert "there is no pgSTAC in" in findings[-1].text
    assert postgres.password not in f"{findings}"


def test_a_pgstac_of_another_version_is_named(database: PgstacDatabase) -> None:
    with database.connect() as connection:
        connection.execute("INSERT INTO migrations (version, datetime) VALUES ('0.11.0', '2100-01-01')")
        try:
            findings, _ = examined(**database.environment)
        finally:
            connection.execute("DELETE FROM migrations WHERE version = '0.11.0'")

    assert findings[-1].state is WRONG
    assert "holds pgSTAC 0.11.0, which is not supported" in findings[-1].text


def test_a_database_that_is_down_may_be_back_later() -> None:
    findings, _ = examined(PG_DSN=f"postgresql://reader:{PASSWORD}@127.0.0.1:{free_port()}/eoapi")

    assert states(findings) == [("database", UNREACHABLE), ("images", UNTRIED)]
    assert "Connection refused" in findings[0].text


def test_an_address_that_cannot_be_read_is_named() -> None:
    findings, _ = examined(PG_DSN=f"postgresql://reader:{PASSWORD}@x@db.example.org/eoapi")

    assert states(findings) == [("database", WRONG), ("images", UNTRIED)]


def test_a_count_that_takes_most_of_the_time_allowed_is_a_warning(
    database: PgstacDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oam_mosaic_assets.gateways.diagnosis.source.SLOW", 0.0)
    findings, _ = examined(**database.environment, PG_STATEMENT_TIMEOUT="7")

    assert findings[-1].state is WARNING
    assert "the limit is 7 s" in findings[-1].text
    assert "PG_STATEMENT_TIMEOUT" in findings[-1].hint


def test_a_count_that_is_given_up_says_which_setting_it_was(database: PgstacDatabase) -> None:
    with database.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        findings, _ = examined(**database.environment, PG_STATEMENT_TIMEOUT="1")

    assert findings[-1].state is UNREACHABLE
    assert "statement timeout" in findings[-1].text
    assert "PG_STATEMENT_TIMEOUT" in findings[-1].hint


def test_a_count_that_a_build_would_wait_for_is_a_warning(
    database: PgstacDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_settings, "HASTY_STATEMENT_SECONDS", 1)
    with database.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        findings, images = examined(**database.environment, PG_STATEMENT_TIMEOUT="600")

    assert (findings[-1].subject, findings[-1].state, images) == ("images", WARNING, None)
    assert "within 1 s; a build waits for up to 600 s" in findings[-1].text
    assert "PG_STATEMENT_TIMEOUT" not in findings[-1].hint, "it would change nothing here"


def test_a_database_that_is_being_upgraded_is_not_waited_for(
    database: PgstacDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_settings, "HASTY_STATEMENT_SECONDS", 1)
    with database.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE migrations IN ACCESS EXCLUSIVE MODE")
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '20s'")  # or both would wait
        findings, _ = examined(**database.environment, PG_STATEMENT_TIMEOUT="600")

    assert states(findings) == [("database", UNREACHABLE), ("images", UNTRIED)]
    assert "statement timeout" in findings[0].text
    assert "PG_STATEMENT_TIMEOUT" not in findings[0].hint, "it would change nothing here"


def test_a_stac_api_answers_or_not() -> None:
    with scripted_api(a_page()) as api:
        (well,), images = examined(STAC_API_URL=api.address)
    assert (well.subject, well.state, images) == ("images", OK, None)
    assert "an unknown number in STAC API" in well.text

    (down,), _ = examined(STAC_API_URL=f"http://reader:{PASSWORD}@127.0.0.1:{free_port()}")
    assert (down.subject, down.state) == ("images", UNREACHABLE)


def test_a_file_is_read_to_see_how_many_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "items.ndjson"
    write_items(path, some_items(7))
    (well,), images = examined(STAC_ITEMS=str(path))
    assert (well.state, images) == (OK, 7)
    assert well.text.startswith("7 in file")
    write_items(path, [*some_items(7), "no item"])
    (well,), images = examined(STAC_ITEMS=str(path))
    assert (well.state, images) == (OK, 8), "as a build counts them"
    assert well.text.startswith("8 (1 unreadable) in file")

    for content in (b"", b"\x7fELF\nno item\n"):
        path.write_bytes(content)
        (empty,), images = examined(STAC_ITEMS=str(path))
        assert (empty.state, images) == (WRONG, 0)

    path.unlink()
    (missing,), _ = examined(STAC_ITEMS=str(path))
    assert missing.state is WRONG
    assert "No such file" in missing.text


def test_a_long_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oam_mosaic_assets.gateways.diagnosis.source.MOST_READ", 5)
    write_items(tmp_path / "items.ndjson", some_items(7))
    (well,), images = examined(STAC_ITEMS=str(tmp_path / "items.ndjson"))

    assert well.text.startswith("5 or more in")
    assert images == 5


def test_where_nothing_is_set_the_sample_is_read() -> None:
    (well,), images = examined()
    assert (well.state, images) == (OK, 2000)

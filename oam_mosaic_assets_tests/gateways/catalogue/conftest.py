"""Fixtures of the catalogue tests: a pgSTAC database of each version for every test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from oam_mosaic_assets_tests.gateways.catalogue.items import MANY, an_item
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import (
    PGSTAC_VERSIONS,
    PgstacDatabase,
    PostgresServer,
)

_numbers = count(1)


@pytest.fixture(params=PGSTAC_VERSIONS)
def database(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    """An empty pgSTAC of each version in turn."""
    created = postgres.create_pgstac(f"catalogue_{next(_numbers)}", request.param)
    yield created
    postgres.drop(created.name)


@pytest.fixture(scope="session", params=PGSTAC_VERSIONS)
def many_items(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    """A database of 4 kB items, too many to be fetched in one batch. No test may change it."""
    database = postgres.create_pgstac(f"many_items_{request.param}", request.param)
    load_items(database, [an_item("0")])
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO items SELECT n::text, geometry, collection, datetime, end_datetime,"
            " content || jsonb_build_object('filling', (SELECT string_agg(md5((n * 128 + part)::text), '')"
            " FROM generate_series(1, 128) part)) FROM items, generate_series(1, %s) n",
            [MANY - 1],
        )
    yield database
    postgres.drop(database.name)

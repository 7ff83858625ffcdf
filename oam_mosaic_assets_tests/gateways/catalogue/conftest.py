"""Fixtures of the catalogues: a pgSTAC database of each version for every test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

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

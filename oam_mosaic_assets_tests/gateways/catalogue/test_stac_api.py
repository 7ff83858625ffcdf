"""Reading a real STAC API, stac-fastapi on both versions of pgSTAC, to its end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from oam_mosaic_assets.errors import CatalogueRefused, CatalogueUnavailable
from oam_mosaic_assets.gateways.catalogue.source import Holdings
from oam_mosaic_assets.gateways.catalogue.stac_api import StacApiCatalogue
from oam_mosaic_assets_tests.gateways.catalogue.items import an_item, by_id
from oam_mosaic_assets_tests.servers.pgstac_items import COLLECTION, a_collection, load_items
from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.postgres import (
    PGSTAC_VERSIONS,
    PgstacDatabase,
    PostgresServer,
)
from oam_mosaic_assets_tests.servers.stac_api import running_stac_api

ITEMS = 25
PER_PAGE = 10


@pytest.fixture(scope="module", params=PGSTAC_VERSIONS)
def served(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[tuple[PgstacDatabase, str]]:
    """A database with three pages of items and an empty collection, and the address of its API."""
    database = postgres.create_pgstac(f"served_{request.param}", request.param)
    load_items(database, [an_item(f"{n:024x}") for n in range(ITEMS)])
    load_items(database, [], collection=a_collection("empty"))
    with running_stac_api(database) as address:
        yield database, address
    postgres.drop(database.name)


@contextmanager
def counting_api(database: PgstacDatabase) -> Iterator[None]:
    """Make the API report how many items match, which it does only if pgSTAC is set to count them."""
    with database.connect() as connection:
        connection.execute("UPDATE pgstac_settings SET value = 'on' WHERE name = 'context'")
        yield
        connection.execute("UPDATE pgstac_settings SET value = 'off' WHERE name = 'context'")


def without_links(items: dict[str, Any]) -> dict[str, Any]:
    """Remove the links that the API adds to stored items."""
    return {name: {**item, "links": []} for name, item in items.items()}


def read(catalogue: StacApiCatalogue) -> list[Any]:
    with catalogue.snapshot() as snapshot:
        return list(snapshot.items())


def test_every_item_of_every_page_comes_as_it_is_stored(served: tuple[PgstacDatabase, str]) -> None:
    _, address = served
    before = datetime.now(UTC)
    with StacApiCatalogue(address, COLLECTION, items_per_page=PER_PAGE).snapshot() as snapshot:
        items = by_id(snapshot.items())

    names = [f"{n:024x}" for n in range(ITEMS)]
    assert without_links(items) == {name: an_item(name) for name in names}
    assert before <= snapshot.taken_at <= datetime.now(UTC)


def test_an_api_that_counts_is_believed(served: tuple[PgstacDatabase, str]) -> None:
    database, address = served
    catalogue = StacApiCatalogue(address, COLLECTION)
    with counting_api(database):
        with catalogue.snapshot() as snapshot:
            assert snapshot.expected == ITEMS
        assert catalogue.count() == ITEMS


def test_how_many_items_an_api_has_that_does_not_count_is_unknown(served: tuple[PgstacDatabase, str]) -> None:
    _, address = served
    catalogue = StacApiCatalogue(address, COLLECTION, items_per_page=PER_PAGE)
    with catalogue.snapshot() as snapshot:
        assert snapshot.expected is None
    assert catalogue.count() is None


def test_other_collections_are_counted_and_items_where_the_api_counts(
    served: tuple[PgstacDatabase, str],
) -> None:
    database, address = served
    with StacApiCatalogue(address, COLLECTION).snapshot() as snapshot:
        assert snapshot.holdings() == Holdings(collections=2, items=None)
        with counting_api(database):
            assert snapshot.holdings() == Holdings(collections=2, items=ITEMS)


def test_an_empty_collection_is_a_catalogue_without_items(served: tuple[PgstacDatabase, str]) -> None:
    _, address = served

    assert read(StacApiCatalogue(address, "empty")) == []


def test_an_unknown_collection_is_refused_and_others_named(served: tuple[PgstacDatabase, str]) -> None:
    _, address = served
    with pytest.raises(
        CatalogueRefused, match=r"no collection 'openaerialmop'; available: .*empty"
    ) as refused:
        StacApiCatalogue(address, "openaerialmop").count()

    assert COLLECTION in refused.value.message


@pytest.mark.parametrize("path", ["/conformance", "/api", "/api.html", "/not/there"])
def test_what_is_no_landing_page_is_refused(served: tuple[PgstacDatabase, str], path: str) -> None:
    _, address = served
    with pytest.raises(CatalogueRefused):
        StacApiCatalogue(address + path, COLLECTION).count()


def test_an_api_that_is_down_may_be_back_later() -> None:
    with pytest.raises(CatalogueUnavailable):
        StacApiCatalogue(f"http://127.0.0.1:{free_port()}", COLLECTION, retries=1, backoff_seconds=0).count()


def test_an_api_that_stops_between_two_pages_may_be_back_later(postgres: PostgresServer) -> None:
    database = postgres.create_pgstac("stopped_api")
    load_items(database, [an_item(str(n)) for n in range(2 * PER_PAGE)])
    with ExitStack() as api:
        address = api.enter_context(running_stac_api(database))
        catalogue = StacApiCatalogue(
            address, COLLECTION, items_per_page=PER_PAGE, retries=1, backoff_seconds=0
        )
        with catalogue.snapshot() as snapshot:
            items = snapshot.items()
            next(items)
            api.close()
            with pytest.raises(CatalogueUnavailable):
                list(items)
    postgres.drop(database.name)


def test_naming_a_stac_api_does_not_load_its_client() -> None:
    """Importing pystac-client takes most of a second, which would delay every command."""
    script = (
        "import sys, oam_mosaic_assets.gateways.catalogue.stac_api as api;"
        "api.StacApiCatalogue('https://api.example.org', 'a');"
        "sys.exit('pystac_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

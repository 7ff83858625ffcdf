"""The whole chain from every source but the sample: one catalogue gives one mosaic, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets_tests.chain import Site, quick_folder, some_items, write_items
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PGSTAC_VERSIONS, PgstacDatabase, PostgresServer
from oam_mosaic_assets_tests.servers.stac_api import running_stac_api

DRAWABLE = 4
A_POINT = {**some_items(1, first=DRAWABLE)[0], "geometry": {"type": "Point", "coordinates": [1.5, 2.5]}}
ITEMS = [*some_items(DRAWABLE), A_POINT]


def published_from(instance: dg.DagsterInstance, **source: str) -> Pointer:
    """Run the chain into a store of its own."""
    with quick_folder() as folder:
        site = Site({**source, "MAX_SET_ASIDE_SHARE": "0.2"}, instance, folder)
        outcome = site.run()
        assert outcome.success, outcome.log
        return site.stays_whole()


@pytest.fixture(scope="module")
def from_a_file(instance: dg.DagsterInstance) -> Pointer:
    """The mosaic published when the items are read from a file."""
    with quick_folder() as folder:
        write_items(folder / "items.ndjson", ITEMS)
        return published_from(instance, STAC_ITEMS=str(folder / "items.ndjson"))


@pytest.fixture(scope="module", params=PGSTAC_VERSIONS)
def database(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    """The same items in each pgSTAC version in turn."""
    created = postgres.create_pgstac(f"sources_{request.param}", request.param)
    load_items(created, ITEMS)
    yield created
    postgres.drop(created.name)


def test_every_pgstac_gives_the_mosaic_of_its_items(
    database: PgstacDatabase, from_a_file: Pointer, instance: dg.DagsterInstance
) -> None:
    built = published_from(instance, **database.environment)
    assert (built.images, built.set_aside) == (DRAWABLE, 1)
    assert built.sha256 == from_a_file.sha256


def test_the_stac_api_before_it_gives_the_same(
    database: PgstacDatabase, from_a_file: Pointer, instance: dg.DagsterInstance
) -> None:
    with running_stac_api(database) as address:
        built = published_from(instance, STAC_API_URL=address)
    assert (built.images, built.set_aside) == (DRAWABLE, 1)
    assert built.sha256 == from_a_file.sha256

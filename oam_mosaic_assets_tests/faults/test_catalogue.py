"""What a catalogue that fails, refuses or is empty does to the mosaic: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from psycopg.types.json import Jsonb

from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets_tests.chain import Site, quick_folder, some_items
from oam_mosaic_assets_tests.faults.conftest import IMAGES
from oam_mosaic_assets_tests.gateways.catalogue.scripted_api import a_page, scripted_api
from oam_mosaic_assets_tests.servers.buckets import new_bucket
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase, PostgresServer
from oam_mosaic_assets_tests.servers.proxy import PASS, Fault, running_proxy
from oam_mosaic_assets_tests.servers.s3 import S3Server

WRONG_PASSWORD = "Tr0ub4dor-is-wrong"
SECRET_KEY = "s3-Secr3t-of-the-bucket"

HALF_THE_ITEMS = 8_000
"""Bytes: more than the server sends before the items, fewer than with all of them."""


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    """A pgSTAC with some items, and an empty collection as well."""
    created = postgres.create_pgstac("faults")
    load_items(created, some_items(IMAGES))
    with created.connect() as connection:
        connection.execute(
            "SELECT create_collection(content || %s) FROM collections WHERE id = 'openaerialmap'",
            [Jsonb({"id": "empty"})],
        )
    yield created
    postgres.drop(created.name)


@pytest.fixture(scope="module")
def site(database: PgstacDatabase, instance: dg.DagsterInstance) -> Iterator[Site]:
    """An installation that reads the database."""
    with quick_folder() as folder:
        yield Site(dict(database.environment), instance, folder)


def test_a_database_that_is_down_leaves_the_mosaic(site: Site, postgres: PostgresServer) -> None:
    before = site.published()

    postgres.stop(at_once=True)
    try:
        outcome = site.run()
    finally:
        postgres.start()

    assert not outcome.success
    assert outcome.kind == "CatalogueUnavailable"
    assert f"PostgreSQL at 127.0.0.1:{postgres.port}/faults" in outcome.text
    assert "Connection refused" in outcome.text
    assert "database is up and reachable, then run again" in outcome.text
    assert outcome.exit_code == 1
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_connection_that_is_cut_while_items_are_read_leaves_the_mosaic(
    site: Site, postgres: PostgresServer
) -> None:
    before = site.published()

    with running_proxy(f"http://{postgres.host}:{postgres.port}") as proxy:
        through = {"PGPORT": str(proxy.server_address[1])}
        proxy.set_fault(Fault(cut_down=HALF_THE_ITEMS))
        outcome = site.run(through)

        assert not outcome.success
        assert outcome.kind == "CatalogueUnavailable"
        assert "server closed the connection unexpectedly" in outcome.text
        assert "run again" in outcome.text
        assert site.stays_whole() == before

        proxy.set_fault(PASS)
        assert site.run(through).success
    site.recovers(before)


def test_an_unknown_collection_leaves_the_mosaic(site: Site) -> None:
    before = site.published()

    outcome = site.run({"COLLECTION": "openarialmap"})

    assert not outcome.success
    assert outcome.kind == "CatalogueRefused"
    assert "has no collection 'openarialmap'; available: empty, openaerialmap" in outcome.text
    assert "Set COLLECTION to one of these" in outcome.text
    assert outcome.exit_code == 2
    assert site.stays_whole() == before
    site.recovers(before)


def test_an_api_may_give_more_images_than_it_announced_but_not_fewer(instance: dg.DagsterInstance) -> None:
    """Images uploaded while its pages are read belong in the mosaic; missing ones would be lost from it."""
    with quick_folder() as folder:
        with scripted_api(a_page(matched=IMAGES), a_page(*some_items(IMAGES + 1))) as api:
            site = Site({"STAC_API_URL": api.address}, instance, folder)
            outcome = site.run()
        assert outcome.success, outcome.log
        before = site.stays_whole()
        assert before.images == IMAGES + 1

        fewer = [a_page(*some_items(IMAGES - lost)) for lost in (1, 2)]  # when it is asked again, too
        with scripted_api(a_page(matched=IMAGES), *fewer) as api:
            outcome = site.run({"STAC_API_URL": api.address})
        assert outcome.kind == "CatalogueUnavailable"
        assert f"announced {IMAGES} items but returned {IMAGES - 1}" in outcome.text
        assert site.stays_whole() == before


def test_an_empty_catalogue_never_replaces_the_mosaic(site: Site) -> None:
    before = site.published()

    outcome = site.run({"COLLECTION": "empty"}, tags={"oam-mosaic/confirm": "even if someone says so"})

    assert not outcome.success
    assert outcome.kind == "EmptyCatalogue"
    assert "holds no image that can be drawn" in outcome.text
    assert "Check that COLLECTION and the source are the right ones" in outcome.text
    assert outcome.exit_code == 3
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_wrong_password_leaves_the_mosaic_and_is_told_to_nobody(
    database: PgstacDatabase, moto: S3Server, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    with quick_folder() as folder:
        store = {
            "S3_BUCKET": new_bucket(moto),
            "S3_ENDPOINT": moto.endpoint,
            "S3_ACCESS_KEY": moto.access_key,
            "S3_SECRET_KEY": SECRET_KEY,
        }
        site = Site({**database.environment, **store}, instance, folder)
        before = site.published()

        outcomes = [
            site.run({"PGPASSWORD": WRONG_PASSWORD}),
            site.run({"PGHOST": "", "PG_DSN": database.dsn.replace(database.password, WRONG_PASSWORD)}),
        ]

        for outcome in outcomes:
            assert not outcome.success
            assert outcome.kind == "CatalogueRefused"
            assert 'password authentication failed for user "keeper"' in outcome.text
            assert "Check the user, the password" in outcome.text
            assert outcome.exit_code == 2
        assert site.stays_whole() == before
        site.recovers(before)
        recorded = [instance.all_logs(outcome.run_id) for outcome in outcomes]
        told = "".join([repr(outcomes), repr(recorded), *capfd.readouterr()])
        for secret in (WRONG_PASSWORD, database.password, SECRET_KEY):
            assert secret not in told
            assert not files_holding(Path(instance.root_directory), secret)
            assert not objects_holding(site.store, secret)


def files_holding(folder: Path, text: str) -> list[Path]:
    """Files that contain this text anywhere; SQLite stores text as it is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    return [path for path in files if text.encode() in path.read_bytes()]


def objects_holding(store: ObjectStore, text: str) -> list[str]:
    found = {each.key: store.get_bytes(each.key) for each in store.keys("")}
    assert found
    return [key for key, content in found.items() if content and text.encode() in content[0]]

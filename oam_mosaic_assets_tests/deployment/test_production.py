"""Production as it is deployed: runs, their logs, who may do what, and what happens when processes die."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from oam_mosaic_assets.gateways.publisher_lock import PublisherLock
from oam_mosaic_assets_tests.automation.live_dagster import LiveDagster, until
from oam_mosaic_assets_tests.chain import (
    nothing_left_behind,
    public_mosaic_is_whole,
    quick_folder,
    some_items,
)
from oam_mosaic_assets_tests.deployment.production import Bucket, Production
from oam_mosaic_assets_tests.servers.buckets import new_bucket
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PostgresServer

IMAGES = 30


@pytest.fixture(scope="module")
def production(postgres: PostgresServer, ceph: CephServer) -> Iterator[Production]:
    catalogue = postgres.create_pgstac("production")
    storage = postgres.create_empty("production_dagster")
    load_items(catalogue, some_items(IMAGES))
    with quick_folder() as folder:
        made = Production(folder, catalogue, storage, Bucket(ceph, new_bucket(ceph)))
        with made.running():
            yield made
            # nothing was written, so the image's file system can be read-only
            assert [path.name for path in made.home.rglob("*") if path.is_file()] == ["dagster.yaml"]
    postgres.drop(catalogue.name)
    postgres.drop(storage.name)


@pytest.fixture(scope="module")
def first_run(production: Production) -> str:
    """The id of a finished run of the chain, launched through the webserver."""
    run = production.dagster.launch("global_mosaic")
    assert production.dagster.finished(run) == "SUCCESS", production.said()
    return run


@pytest.fixture(scope="module")
def visitor(production: Production) -> Iterator[LiveDagster]:
    """The read-only webserver."""
    with production.webserver("--read-only") as live:
        yield live


@contextmanager
def held_up(production: Production) -> Iterator[str]:
    """A run that is publishing: it holds the pool's slot, and waits for another publisher in the block."""
    production.image_moves()
    with PublisherLock(production.store, production.keys.lock, "another").held(lambda _: None):
        run = production.dagster.launch("global_mosaic")
        until(lambda: production.slots() == [run], production.said)
        yield run


def whole(production: Production) -> None:
    assert public_mosaic_is_whole(production.store, production.keys).images == IMAGES
    until(lambda: not production.slots(), production.said)
    nothing_left_behind(production.store, production.keys, production.settings.mosaic_scratch)


@pytest.mark.usefixtures("first_run")
def test_the_chain_runs_in_the_code_server_and_publishes_to_s3(production: Production) -> None:
    whole(production)


def test_what_a_run_printed_lies_in_the_bucket_and_is_private(production: Production, first_run: str) -> None:
    logs = [each.key for each in production.store.keys(f"mosaic/logs/storage/{first_run}/")]
    printed = b"".join(found[0] for key in logs if (found := production.store.get_bytes(key)))
    assert public_mosaic_is_whole(production.store, production.keys).build in printed.decode()
    for key in logs:
        address = production.store.public_address(key)
        assert requests.get(address, timeout=10).status_code == requests.codes.forbidden


def test_the_read_only_webserver_shows_runs_and_starts_none(visitor: LiveDagster, first_run: str) -> None:
    assert visitor.finished(first_run) == "SUCCESS"
    with pytest.raises(AssertionError, match="UnauthorizedError"):
        visitor.launch("global_mosaic")


def test_a_run_whose_process_is_killed_is_tried_again_and_gives_its_slot_back(production: Production) -> None:
    with held_up(production) as run:
        production.process_of_the_run().kill()
        assert production.dagster.finished(run) == "FAILURE"
        assert production.slots() == [run], "the slot of a killed run is held until run monitoring frees it"
    assert production.dagster.finished(production.retry_of(run)) == "SUCCESS", production.said()
    whole(production)


def test_a_run_that_died_with_its_code_server_is_tried_again_in_the_next(production: Production) -> None:
    with held_up(production) as run:
        production.kill_everything_of_the_code_server()
    production.start_code_server()
    assert production.dagster.finished(run) == "FAILURE"
    assert production.dagster.finished(production.retry_of(run)) == "SUCCESS", production.said()
    whole(production)


def test_a_code_server_that_is_stopped_lets_its_run_end_and_starts_no_other(production: Production) -> None:
    with held_up(production) as run:
        production.code_server.send_signal(signal.SIGTERM)
        refused = production.dagster.launch("mosaic_freshness")
        assert production.dagster.finished(refused) == "FAILURE"
    assert production.dagster.finished(run) == "SUCCESS", production.said()
    assert production.code_server.wait(60) == 0
    production.start_code_server()
    whole(production)


def test_a_signal_ends_webservers_and_daemon(production: Production, visitor: LiveDagster) -> None:
    processes = (production.dagster.webserver, visitor.webserver, production.daemon)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        assert process.wait(60) in {0, -signal.SIGTERM}

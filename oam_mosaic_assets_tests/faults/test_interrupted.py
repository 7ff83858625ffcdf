"""What happens to the mosaic when `oam-mosaic build` is stopped or killed at any stage."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event

import dagster as dg
import pytest

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.gateways.publisher_lock import holder_of
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.automation.forked import forked
from oam_mosaic_assets_tests.chain import (
    Site,
    is_running,
    nothing_left_behind,
    public_mosaic_is_whole,
    quick_folder,
    slow_tippecanoe,
    some_items,
)
from oam_mosaic_assets_tests.faults.conftest import IMAGES
from oam_mosaic_assets_tests.servers.buckets import new_bucket
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase, PostgresServer
from oam_mosaic_assets_tests.servers.s3 import S3Server
from oam_mosaic_assets_tests.servers.s3_proxy import Spoiled, running_s3_proxy

PATIENCE_SECONDS = 120

every_signal = pytest.mark.parametrize(
    "sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name
)


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    created = postgres.create_pgstac("interrupted")
    load_items(created, some_items(IMAGES))
    yield created
    postgres.drop(created.name)


@pytest.fixture(scope="module")
def site(database: PgstacDatabase, moto: S3Server, instance: dg.DagsterInstance) -> Iterator[Site]:
    """An installation that reads the database, and publishes to a bucket."""
    bucket = new_bucket(moto)
    store = {
        "S3_BUCKET": bucket,
        "S3_ENDPOINT": moto.endpoint,
        "S3_PUBLIC_URL": f"{moto.endpoint}/{bucket}",
        "S3_ACCESS_KEY": moto.access_key,
        "S3_SECRET_KEY": moto.secret_key,
    }
    with quick_folder() as folder:
        yield Site({**database.environment, **store}, instance, folder)


@every_signal
def test_a_build_that_is_stopped_while_it_reads_leaves_the_mosaic(
    site: Site, database: PgstacDatabase, sign: signal.Signals
) -> None:
    before = site.published()
    with database.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        waiting = "SELECT 1 FROM pg_locks WHERE relation = 'pgstac.items'::regclass AND NOT granted"
        with a_build(site) as build:
            until(lambda: connection.execute(waiting).fetchone() is not None, site, build)
            is_stopped(site, build, sign)

    leaves(site, before, sign)
    site.recovers(before)


@every_signal
def test_a_build_that_is_stopped_while_it_tiles_leaves_the_mosaic(site: Site, sign: signal.Signals) -> None:
    before = site.published()
    number = site.folder / f"number-{sign.name}"
    with a_build(site, TIPPECANOE=slow_tippecanoe(site.folder, number)) as build:
        until(lambda: number.exists() and number.read_text().endswith("\n"), site, build)
        tippecanoe = int(number.read_text())
        is_stopped(site, build, sign)

    deadline = time.monotonic() + (
        5 if sign is signal.SIGKILL else 0
    )  # then the kernel ends it, a moment later
    while is_running(tippecanoe):
        assert time.monotonic() < deadline, "it outlives the build"
        time.sleep(0.02)
    leaves(site, before, sign)
    site.recovers(before)


@every_signal
def test_a_build_that_is_stopped_while_it_publishes_leaves_the_mosaic(
    site: Site, moto: S3Server, sign: signal.Signals
) -> None:
    before = site.published()
    is_copied, is_over = Event(), Event()

    def hold() -> None:
        is_copied.set()
        is_over.wait(PATIENCE_SECONDS)

    with running_s3_proxy(moto.endpoint) as proxy:
        proxy.spoil("CopyObject", "*/builds/*/global-mosaic.pmtiles", Spoiled(after=hold, times=1))
        with a_build(site, S3_ENDPOINT=proxy.endpoint) as build:
            until(is_copied.is_set, site, build)
            is_stopped(site, build, sign)
        is_over.set()

    leaves(site, before, sign)
    if sign is signal.SIGKILL:
        assert holder_of(site.store, site.keys.lock) is not None
        brief = Releases(site.store, site.keys, lock_lifetime=timedelta(seconds=2))
        assert site.run(releases=brief).success
        before = site.stays_whole()
    site.recovers(before)


def a_build(site: Site, **settings: str) -> AbstractContextManager[BaseProcess]:
    """Run `oam-mosaic build` in a process of its own, which does not outlive the block."""
    _, environment = site.command_line()
    return forked(
        ["build", "--anew"],
        environment=environment | settings,
        folder=site.folder,
        output=site.folder / "output",
        errors=said_in(site),
    )


def said_in(site: Site) -> Path:
    """Where the build writes what it says."""
    return site.folder / "said"


def until(happens: Callable[[], bool], site: Site, build: BaseProcess) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert build.exitcode is None, said_in(site).read_text()
        assert time.monotonic() < deadline, "the build did not get that far"
        time.sleep(0.02)


def leaves(site: Site, before: Pointer, sign: signal.Signals) -> None:
    """Check that the mosaic is whole and that a build that was not killed outright left nothing behind."""
    assert public_mosaic_is_whole(site.store, site.keys) == before
    if sign is not signal.SIGKILL:
        nothing_left_behind(site.store, site.keys, site.settings.mosaic_scratch)


def is_stopped(site: Site, build: BaseProcess, sign: signal.Signals) -> None:
    """Send the signal, and check how the command ends: killed, or after reporting that it was stopped."""
    assert build.pid is not None
    os.kill(build.pid, sign)
    build.join(PATIENCE_SECONDS)
    told = said_in(site).read_text()
    if sign is signal.SIGKILL:
        assert build.exitcode == -signal.SIGKILL
    else:
        assert build.exitcode == 128 + sign, told
        assert re.search(
            r"oam-mosaic: stopped( in \w+)?; whatever is public stays public and intact\.\n\Z", told
        )
        assert "Traceback" not in told
        assert "error" not in told

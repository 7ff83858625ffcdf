"""What happens to the mosaic when `oam-mosaic build` is stopped or killed at any stage."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import dagster as dg
import pytest

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.gateways.publisher_lock import holder_of
from oam_mosaic_assets.gateways.releases import Releases
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
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase, PostgresServer
from oam_mosaic_assets_tests.servers.proxy import PASS, Fault, Proxy, running_proxy
from oam_mosaic_assets_tests.servers.s3 import S3Server

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
def proxy(moto: S3Server) -> Iterator[Proxy]:
    with running_proxy(moto.endpoint) as running:
        yield running


@pytest.fixture(scope="module")
def site(
    database: PgstacDatabase, moto: S3Server, proxy: Proxy, instance: dg.DagsterInstance
) -> Iterator[Site]:
    """An installation that reads the database, and publishes to a bucket through the proxy."""
    bucket = new_bucket(moto)
    store = {
        "S3_BUCKET": bucket,
        "S3_ENDPOINT": proxy.endpoint,
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
            until(lambda: connection.execute(waiting).fetchone() is not None, build)
            build.send_signal(sign)
            is_stopped(build, sign)

    leaves(site, before, sign)
    site.recovers(before)


@every_signal
def test_a_build_that_is_stopped_while_it_tiles_leaves_the_mosaic(site: Site, sign: signal.Signals) -> None:
    before = site.published()
    number = site.folder / f"number-{sign.name}"
    with a_build(site, TIPPECANOE=slow_tippecanoe(site.folder, number)) as build:
        until(lambda: number.exists() and number.read_text().endswith("\n"), build)
        tippecanoe = int(number.read_text())
        build.send_signal(sign)
        is_stopped(build, sign)

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
    site: Site, moto: S3Server, proxy: Proxy, sign: signal.Signals
) -> None:
    before = site.published()
    bucket = site.settings.s3_bucket
    earlier = set(keys_in(moto, bucket))

    def new_keys() -> set[str]:
        return set(keys_in(moto, bucket)) - earlier

    with a_build(site) as build:
        until(lambda: any(key.endswith("/audit.json") for key in new_keys()), build)
        proxy.set_fault(Fault(delay=0.3))
        until(lambda: any("/builds/" in key for key in new_keys()), build)
        build.send_signal(sign)
        is_stopped(build, sign)
    proxy.set_fault(PASS)

    leaves(site, before, sign)
    if sign is signal.SIGKILL:
        assert holder_of(site.store, site.keys.lock) is not None
        brief = Releases(site.store, site.keys, lock_lifetime=timedelta(seconds=2))
        assert site.run(releases=brief).success
        before = site.stays_whole()
    site.recovers(before)


@contextmanager
def a_build(site: Site, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Run `oam-mosaic build` in a process of its own, which does not outlive the block."""
    command, environment = site.command_line("build", "--anew")
    with subprocess.Popen(
        command, env=environment | settings, cwd=site.folder, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(happens: Callable[[], bool], build: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert build.poll() is None, build.stderr and build.stderr.read()
        assert time.monotonic() < deadline, "the build did not get that far"
        time.sleep(0.02)


def leaves(site: Site, before: Pointer, sign: signal.Signals) -> None:
    """Check that the mosaic is whole and that a build that was not killed outright left nothing behind."""
    assert public_mosaic_is_whole(site.store, site.keys) == before
    if sign is not signal.SIGKILL:
        nothing_left_behind(site.store, site.keys, site.settings.mosaic_scratch)


def is_stopped(build: subprocess.Popen[str], sign: signal.Signals) -> None:
    """Check how the command ended: killed, or after reporting that it was stopped."""
    _, told = build.communicate(timeout=PATIENCE_SECONDS)
    if sign is signal.SIGKILL:
        assert build.returncode == -signal.SIGKILL
    else:
        assert build.returncode == 128 + sign, told
        assert re.search(
            r"oam-mosaic: stopped( in \w+)?; whatever is public stays public and intact\.\n\Z", told
        )
        assert "Traceback" not in told
        assert "error" not in told


def keys_in(server: S3Server, bucket: str) -> list[str]:
    """The keys in the bucket, listed without the proxy."""
    return [each["Key"] for each in client_of(server).list_objects_v2(Bucket=bucket).get("Contents", [])]

"""Fixtures for all tests: real S3 servers, object stores in them, image hosts and a PostgreSQL cluster."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import botocore.loaders
import pytest
from hypothesis import settings

from oam_mosaic_assets.gateways.allocator import collect_seldom
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets_tests.servers.buckets import new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer, running_ceph
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, running_nginx
from oam_mosaic_assets_tests.servers.moto import running_moto
from oam_mosaic_assets_tests.servers.postgres import PostgresServer, running_postgres
from oam_mosaic_assets_tests.servers.s3 import S3Server

S3_SERVERS = ["moto", "ceph"]

# the same examples in every run, however long each takes: flaky failures hit somebody who did not cause them
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run first what keeps one worker busy for minutes, or it would be at work long after all others."""
    items.sort(key=lambda item: {"viewer", "serving"}.isdisjoint(item.path.parts))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Seek no cycles while what the tests need is loaded, nor in it later: it stays until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        collect_seldom()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _nobodys_environment() -> Iterator[None]:
    """Hide the AWS account of whoever runs the tests, and bypass their proxy for the local servers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("AWS_"):
                patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="session", autouse=True)
def _amazon_is_described_once() -> Iterator[None]:
    """Load botocore's description of S3 once, not for each client: loading costs as much as 30 requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.loaders, "create_loader", cache(botocore.loaders.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _stoppable() -> Iterator[None]:
    """Make sure that the processes tests start can be stopped, however the tests themselves were started.

    A shell's background job ignores SIGINT, and Dagster then makes it ignore SIGTERM as well; a process
    started by `nohup` ignores SIGHUP. Child processes inherit ignored signals, but not handlers.
    """
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    for sign, handler in before.items():
        signal.signal(sign, handler)


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with running_moto() as server:
        yield server


@pytest.fixture(scope="session")
def ceph() -> Iterator[CephServer]:
    if shutil.which("radosgw") is None:
        pytest.fail("Ceph's gateway is not in PATH; `scripts/test` puts it there", pytrace=False)
    with running_ceph() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=S3_SERVERS)
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each S3 server in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """The name of an empty bucket."""
    return new_bucket(s3_server)


@pytest.fixture(params=["folder", *S3_SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind in turn; S3 stores transfer objects above 5 MiB in parts."""
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    server: S3Server = request.getfixturevalue(request.param)
    return store_in(server, new_bucket(server), part_size=5 << 20, largest_copy=5 << 20)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """An image host that has no images yet."""
    root = tmp_path_factory.mktemp("images")
    with running_nginx(tmp_path_factory.mktemp("nginx") / "run", root) as running:
        yield running

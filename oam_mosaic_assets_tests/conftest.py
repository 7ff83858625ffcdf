"""Fixtures for every test: real S3 servers and the object stores in them, and a PostgreSQL cluster."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.loaders
import pytest

from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets_tests.servers.buckets import new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer, running_ceph
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, running_nginx
from oam_mosaic_assets_tests.servers.moto import running_moto
from oam_mosaic_assets_tests.servers.postgres import PostgresServer, running_postgres
from oam_mosaic_assets_tests.servers.s3 import S3Server

S3_SERVERS = ["moto", "ceph"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The page's tests come first: a browser takes minutes for their one file, and a file stays together."""
    items.sort(key=lambda item: "viewer" not in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def _nobodys_environment() -> Iterator[None]:
    """Whoever runs the tests may have an account at Amazon and a proxy; the tests have neither."""
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
    """For each client botocore reads how Amazon describes S3 again: as much work as thirty requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.loaders, "create_loader", cache(botocore.loaders.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _stoppable() -> Iterator[None]:
    """Whoever runs the tests, the processes that they start can be stopped.

    A background process of a shell ignores SIGINT, and Dagster then lets it ignore SIGTERM as well; one that
    `nohup` started ignores SIGHUP. What is ignored stays so in every child; what has a handler does not.
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
    """An empty store of each kind in turn; what is above 5 MiB travels in parts."""
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    server: S3Server = request.getfixturevalue(request.param)
    return store_in(server, new_bucket(server), part_size=5 << 20, largest_copy=5 << 20)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """A host of images, with none yet."""
    root = tmp_path_factory.mktemp("images")
    with running_nginx(tmp_path_factory.mktemp("nginx") / "run", root) as running:
        yield running

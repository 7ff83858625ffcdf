"""Archives to serve, mosaics of the small world and its raster coverage; stores, and a server of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets_tests.core.pictures import covered
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAIN, made_from
from oam_mosaic_assets_tests.servers.buckets import new_bucket, store_in
from oam_mosaic_assets_tests.servers.s3 import S3Server
from oam_mosaic_assets_tests.servers.s3_proxy import S3Proxy, running_s3_proxy
from oam_mosaic_assets_tests.servers.tiles import Serving, serving


@pytest.fixture(scope="session")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mosaic of the whole small world, z0-10."""
    return made_from(IMAGES, tmp_path_factory.mktemp("served") / "mosaic").archive


@pytest.fixture(scope="session")
def smaller_mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mosaic of only three of its images."""
    return made_from(PLAIN[:3], tmp_path_factory.mktemp("served") / "smaller").archive


@pytest.fixture(scope="session")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raster coverage of the whole small world, z0-15."""
    folder = tmp_path_factory.mktemp("served") / "exact"
    return covered(IMAGES, folder, plan=CoveragePlan(way="exact")).archive


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same coverage, with every touched tile filled."""
    folder = tmp_path_factory.mktemp("served") / "whole"
    return covered(IMAGES, folder, plan=CoveragePlan(way="whole")).archive


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def server(tmp_path: Path, store: FolderStore) -> Iterator[Serving]:
    with serving(tmp_path / "serve", {"MOSAIC_STORE": str(store.root)}) as running:
        yield running


@pytest.fixture
def in_s3(moto: S3Server) -> tuple[str, ObjectStore]:
    """A bucket, and the store in it."""
    bucket = new_bucket(moto)
    return bucket, store_in(moto, bucket)


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[S3Proxy]:
    """Stands before the S3 server, and can spoil its answers."""
    with running_s3_proxy(moto.endpoint) as running:
        yield running

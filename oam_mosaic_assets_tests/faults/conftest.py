"""Fixtures for the fault tests: installations that publish to each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest

from oam_mosaic_assets_tests.chain import (
    Site,
    dagster_instance,
    quick_folder,
    site_on,
    some_items,
    write_items,
)
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.s3 import S3Server

IMAGES = 30


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    """One instance for all tests: opening one takes longer than a run."""
    with dagster_instance() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(instance: dg.DagsterInstance) -> Iterator[Site]:
    """An installation that reads a file and publishes to a folder.

    A module's tests share it: the mosaic that one recovers to is the good build that the next starts from.
    """
    with quick_folder() as folder:
        made = Site({"STAC_ITEMS": str(folder / "items.ndjson")}, instance, folder)
        write_items(made.items, some_items(IMAGES))
        yield made


@pytest.fixture(scope="module")
def moto_site(moto: S3Server, instance: dg.DagsterInstance) -> Iterator[Site]:
    """The same, publishing to a bucket on moto."""
    with site_on(moto, instance, IMAGES) as made:
        yield made


@pytest.fixture(scope="module")
def ceph_site(ceph: CephServer, instance: dg.DagsterInstance) -> Iterator[Site]:
    """The same, publishing to a bucket on Ceph as its owner."""
    with site_on(ceph, instance, IMAGES) as made:
        yield made


@pytest.fixture(params=["folder", "ceph"])
def any_site(request: pytest.FixtureRequest) -> Site:
    """An installation on each kind of store that honours all conditional requests, in turn.

    What each server's store does by itself is tested below `gateways`.
    """
    found: Site = request.getfixturevalue("site" if request.param == "folder" else f"{request.param}_site")
    return found


@pytest.fixture
def new_site(site: Site) -> Iterator[Site]:
    """The installation that publishes to a folder, with nothing published yet."""
    with _emptied(site):
        yield site


@pytest.fixture
def any_new_site(any_site: Site) -> Iterator[Site]:
    """The same, with nothing published yet."""
    with _emptied(any_site):
        yield any_site


@contextmanager
def _emptied(site: Site) -> Iterator[None]:
    def empty() -> None:
        site.store.delete([each.key for each in site.store.keys("")])
        write_items(site.items, some_items(IMAGES))

    environment = dict(site.environment)
    empty()
    yield
    site.environment = environment
    empty()

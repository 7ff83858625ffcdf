"""Fixtures for those gateway tests that publish two products, run the whole chain, or run as a plain user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.chain import dagster_instance, quick_folder
from oam_mosaic_assets_tests.gateways.two_products import BOTH


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dagster_instance() as each:
        yield each


@pytest.fixture
def home() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def nobody() -> Iterator[None]:
    """Run a test as an unprivileged user, as root may read and write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def releases(store: ObjectStore) -> Releases:
    """Releases whose builds have two products."""
    return Releases(store, Keys(products=BOTH, aliases=("old.pmtiles",)), patience_seconds=0.0)

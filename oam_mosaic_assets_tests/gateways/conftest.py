"""Fixtures for those gateway tests that run the whole chain, or run as an unprivileged user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from oam_mosaic_assets_tests.chain import dagster_instance, quick_folder


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

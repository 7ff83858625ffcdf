"""Fixtures of the automation tests: one Dagster instance, and an installation whose mosaic is public."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from oam_mosaic_assets_tests.chain import Site, dagster_instance, quick_folder, some_items, write_items

IMAGES = 30


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    """One instance for all tests: opening one takes longer than a run."""
    with dagster_instance() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(instance: dg.DagsterInstance) -> Iterator[Site]:
    """An installation that reads a file and publishes to a folder."""
    with quick_folder() as folder:
        made = Site({"STAC_ITEMS": str(folder / "items.ndjson")}, instance, folder)
        write_items(made.items, some_items(IMAGES))
        yield made

"""Archives to serve: mosaics of the small world, and its raster coverage."""

from __future__ import annotations

from pathlib import Path

import pytest

from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets_tests.core.pictures import covered
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAIN, made_from


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

"""One small mosaic for all tests of what a mosaic is."""

from __future__ import annotations

import pytest

from oam_mosaic_assets_tests.core.scene import IMAGES, Scene, made_from


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Every footprint of `scene.IMAGES`, drawn. Nobody changes its files."""
    return made_from(IMAGES, tmp_path_factory.mktemp("scene") / "mosaic")

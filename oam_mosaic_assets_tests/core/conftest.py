"""One small mosaic, shared by all tests that only read it."""

from __future__ import annotations

import pytest

from oam_mosaic_assets_tests.core.scene import IMAGES, Scene, made_from


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A mosaic of all footprints in `scene.IMAGES`; tests must not change its files."""
    return made_from(IMAGES, tmp_path_factory.mktemp("scene") / "mosaic")

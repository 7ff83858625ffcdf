"""A published site, and a visitor to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from oam_mosaic_assets_tests.chain import quick_folder
from oam_mosaic_assets_tests.servers.chromium import SOFTWARE_RENDERING, running_chromium
from oam_mosaic_assets_tests.servers.range_server import serving
from oam_mosaic_assets_tests.viewer.site import (
    PATIENCE_SECONDS,
    Published,
    Stranger,
    open_page,
    published_site,
)

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


@pytest.fixture(scope="module")
def published() -> Iterator[Published]:
    with quick_folder() as folder, published_site(folder) as site:
        yield site


@pytest.fixture(scope="module")
def root(published: Published) -> Iterator[str]:
    with serving(published.store) as address:
        yield address


@pytest.fixture(scope="module")
def browser(root: str) -> Iterator[Browser]:  # playwright's event loop must start after Dagster's have ended
    with running_chromium(*SOFTWARE_RENDERING) as browser:
        yield browser


@pytest.fixture
def stranger(browser: Browser, root: str, request: pytest.FixtureRequest) -> Iterator[Stranger]:
    """A visitor. Whatever it does, the console stays silent and no other machine is asked for anything."""
    context, stranger = open_page(browser, root, **getattr(request, "param", {}))
    yield stranger
    context.close()
    assert stranger.abroad == []
    assert stranger.complaints == []

"""Fixtures of the imagery tests: image hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oam_mosaic_assets_tests.servers.image_hosts import ScriptedHost, scripted_host


@pytest.fixture
def host() -> Iterator[ScriptedHost]:
    with scripted_host() as running:
        yield running

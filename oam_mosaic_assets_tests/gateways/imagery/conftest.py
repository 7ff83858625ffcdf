"""Fixtures of the imagery tests: hosts of images."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oam_mosaic_assets_tests.servers.image_hosts import Nginx, ScriptedHost, running_nginx, scripted_host


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    root = tmp_path_factory.mktemp("images")
    with running_nginx(tmp_path_factory.mktemp("nginx") / "run", root) as running:
        yield running


@pytest.fixture
def host() -> Iterator[ScriptedHost]:
    with scripted_host() as running:
        yield running

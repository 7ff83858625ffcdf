"""iD and Rapid themselves, in Chromium, with the raster address as their custom background."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from oam_mosaic_assets_tests.servers.chromium import SOFTWARE_RENDERING, running_chromium
from oam_mosaic_assets_tests.servers.editors import ID, RAPID, Editor, keep_home
from oam_mosaic_assets_tests.servers.range_server import serving
from oam_mosaic_assets_tests.servers.tiles import Serving
from oam_mosaic_assets_tests.serving.recipes import MIDDLE, SEA, at, entered, looked_up, served_recipes

RASTER = 1
POINTS = {"left": (480, 480), "right": (760, 480)}
"""Pixels of the window that show the map, clear of the panels over it."""

LOOKS = [(12, SEA, None, 200), (12, MIDDLE, "coverage", 200), (17, MIDDLE, "imagery", 302)]
"""Zoom, place, what is seen there, and the status of its tiles; in one visit, as editors load slowly."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, mosaic: Path) -> Iterator[Serving]:
    with served_recipes(tmp_path_factory.mktemp("editors"), mosaic) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium(*SOFTWARE_RENDERING) as browser:
        yield browser


@pytest.mark.parametrize("editor", [ID, RAPID], ids=["iD", "Rapid"])
def test_an_editor_draws_the_template_as_its_background(
    served: Serving, browser: Browser, editor: Editor
) -> None:
    template = at(served, entered("iD, Rapid, Tasking Manager")[-1])
    own = f"http://127.0.0.1:{served.ports[RASTER]}/"
    answers: dict[str, int] = {}
    with serving(editor.installed()) as root:
        context = browser.new_context(viewport={"width": 1000, "height": 700})
        context.route("**/*", keep_home)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("response", lambda answer: answers.update({answer.url: answer.status}))
        editor.opens(page, root, template, 12, SEA)
        for zoom, place, expected, status in LOOKS:
            longitude, latitude = place
            moved = re.sub(r"map=[^&]+", f"map={zoom}/{latitude}/{longitude}", page.url)
            page.evaluate("address => { location.replace(address); }", moved)
            deadline = time.monotonic() + 60.0
            while time.monotonic() < deadline:
                seen = set(looked_up(page.screenshot(), POINTS).values())
                tiles = {url: told for url, told in answers.items() if url.startswith(f"{own}{zoom}/")}
                if tiles and (expected is None or seen == {expected}):
                    break
                page.wait_for_timeout(100)
            assert set(tiles.values()) == {status}
            if expected:
                assert seen == {expected}
            else:
                assert not seen & {"coverage", "imagery"}
        context.close()
    asked = [url for url in answers if url.startswith(own)]
    assert all(re.fullmatch(rf"{own}\d+/\d+/\d+\.png", url) for url in asked)

"""Debian's Chromium, headless and driven by playwright, whose package contains no browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from playwright.sync_api import Browser, sync_playwright

SOFTWARE_RENDERING: Final = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",  # the rest of the page too would otherwise be drawn with WebGL, in software
)
"""For pages that draw with WebGL."""


@contextmanager
def running_chromium(*arguments: str) -> Iterator[Browser]:
    """A browser that runs for as long as the block lasts.

    Args:
        arguments: for Chromium, in addition to the usual ones.
    """
    # it has no address bar: Chromium draws that of each window, unseen, with a page of its own
    chromium = shutil.which("chromium-headless-shell")
    if chromium is None:
        pytest.fail("Chromium is not in PATH; `scripts/install-test-servers` installs it", pytrace=False)
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root, as in containers; only our own pages are opened
        browser = playwright.chromium.launch(
            executable_path=chromium,
            chromium_sandbox=False,
            args=["--disable-dev-shm-usage", *arguments],
        )
        try:
            yield browser
        finally:
            browser.close()

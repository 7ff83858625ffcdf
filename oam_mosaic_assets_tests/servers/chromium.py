"""Debian's Chromium, headless and driven by playwright, which brings none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from playwright.sync_api import Browser, sync_playwright

SOFTWARE_RENDERING: Final = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""For pages that draw with WebGL."""


@contextmanager
def running_chromium(*arguments: str) -> Iterator[Browser]:
    """A browser, for as long as the block lasts.

    Args:
        arguments: for Chromium, beside the usual ones.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Chromium is not in PATH; `scripts/install-test-servers` installs it", pytrace=False)
    with sync_playwright() as playwright:
        # root, as whom a container runs, has no sandbox; what is opened is our own
        browser = playwright.chromium.launch(
            executable_path=chromium,
            chromium_sandbox=False,
            args=["--disable-dev-shm-usage", *arguments],
        )
        try:
            yield browser
        finally:
            browser.close()

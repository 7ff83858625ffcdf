"""A maintainer at Dagster's UI: a headless Chromium that clicks, reads and takes screenshots.

Screenshots go to the folder named by SCREENSHOTS, or else to one of pytest's. Chromium is Debian's; the
playwright package brings none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from playwright.sync_api import Error, Locator, Page, Response, expect

from oam_mosaic_assets_tests.servers.chromium import running_chromium

PATIENCE: Final = 180_000.0
"""Milliseconds; this includes waiting for runs of the chain, on a machine that may be busy."""


@contextmanager
def maintainer_at(address: str, pictures: Path) -> Iterator[Maintainer]:
    """Open a browser until the block ends.

    Args:
        address: of the webserver.
        pictures: folder for screenshots, created if missing.
    """
    pictures.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE)
    with running_chromium() as browser:
        page = browser.new_page(
            base_url=address, viewport={"width": 1440, "height": 1000}, timezone_id="UTC", locale="en-GB"
        )
        page.set_default_timeout(PATIENCE)
        maintainer = Maintainer(page, pictures)
        page.on("response", maintainer.hears)
        yield maintainer


@dataclass
class Maintainer:
    """Somebody who uses the UI.

    Attributes:
        page: the open page.
        pictures: folder for screenshots.
        answers: the webserver's answers that have not been checked yet.
    """

    page: Page
    pictures: Path
    answers: list[Response] = field(default_factory=list)
    _taken: int = 0

    def hears(self, answer: Response) -> None:
        """Keep an answer until `looks` checks it."""
        self.answers.append(answer)

    def open(self, path: str) -> None:
        """Go to a page of the UI, by its path."""
        self.page.goto(path)

    def clicks(self, *texts: str) -> None:
        """Click elements by their exact text, in turn. Names of roles would include those of icons."""
        for text in texts:
            self.page.get_by_text(text, exact=True).filter(visible=True).first.click()

    def sees(self, text: str, *, alone: bool = False) -> Locator:
        """Wait until a text is visible on the page; `alone`: as the whole text of an element."""
        found = self.page.get_by_text(text, exact=alone).filter(visible=True).first
        expect(found).to_be_visible()
        return found

    def row(self, name: str) -> Locator:
        """The row of a table with a cell that is exactly this name."""
        return self.page.locator(
            "tr", has=self.page.locator("td", has_text=re.compile(f"^{re.escape(name)}$"))
        )

    def materialises_everything(self) -> str:
        """Start the chain from the graph, go to its run, and return the run's id."""
        self.open("/asset-groups")
        self.clicks("Materialize all", "View")
        self.page.wait_for_url(re.compile("/runs/[0-9a-f-]{36}"))
        return self.page.url.rsplit("/", 1)[-1].partition("?")[0]

    def reads_events(self, of: str) -> None:
        """Show only events of one type on the page of a run."""
        self.page.get_by_placeholder("Filter…").fill(f"type:{of}")

    def looks(self, name: str) -> None:
        """Take a screenshot once nothing is loading, and check that every query succeeded."""
        self.page.wait_for_load_state("networkidle")
        expect(self.page.get_by_text("Loading…")).to_have_count(0)
        self._taken += 1
        self.page.screenshot(
            path=self.pictures / f"{self._taken:02}-{name}.png", animations="disabled", caret="hide"
        )
        faults = [fault for answer in self.answers for fault in _faults_of(answer)]
        self.answers.clear()
        assert not faults, faults


def _faults_of(answer: Response) -> list[str]:
    if urlsplit(answer.url).path != "/graphql":  # its query string names the operation
        return []
    try:
        return [str(fault["message"]) for fault in answer.json().get("errors") or ()]
    except Error:  # after leaving a page, the bodies of its answers are gone
        return []

"""A maintainer at Dagster's UI: a headless Chromium that clicks, reads, and takes a picture of what it sees.

The pictures go to the folder that SCREENSHOTS names, else to pytest's own. Chromium is Debian's; playwright
brings none.
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
"""Milliseconds; a run of the chain is waited for as well, and the machine may be busy."""


@contextmanager
def maintainer_at(address: str, pictures: Path) -> Iterator[Maintainer]:
    """Open a browser for as long as the block lasts.

    Args:
        address: of the webserver.
        pictures: a folder, which is made.
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
    """Who looks at the UI.

    Attributes:
        page: what is open.
        pictures: where the pictures go.
        answers: those of the webserver that nobody has looked through yet.
    """

    page: Page
    pictures: Path
    answers: list[Response] = field(default_factory=list)
    _taken: int = 0

    def hears(self, answer: Response) -> None:
        """Keep an answer until the next look."""
        self.answers.append(answer)

    def open(self, path: str) -> None:
        """Go to a page of the UI, by its path."""
        self.page.goto(path)

    def clicks(self, *texts: str) -> None:
        """Click what holds exactly this text, in turn. Names of roles count those of icons as well."""
        for text in texts:
            self.page.get_by_text(text, exact=True).filter(visible=True).first.click()

    def sees(self, text: str, *, alone: bool = False) -> Locator:
        """Wait until a text stands somewhere on the page; `alone` is all that its place holds."""
        found = self.page.get_by_text(text, exact=alone).filter(visible=True).first
        expect(found).to_be_visible()
        return found

    def sees_once_reloaded(self, text: str) -> bool:
        """Load the page again, once it is all there, and say whether a text stands on it."""
        self.page.reload()
        self.page.wait_for_load_state("networkidle")
        return self.page.get_by_text(text, exact=True).count() > 0

    def row(self, name: str) -> Locator:
        """The row of a table that begins with a name."""
        return self.page.locator(
            "tr", has=self.page.locator("td", has_text=re.compile(f"^{re.escape(name)}$"))
        )

    def materialises_everything(self) -> str:
        """Start the chain from the graph and follow it to its run; the run's id."""
        self.open("/asset-groups")
        self.clicks("Materialize all", "View")
        self.page.wait_for_url(re.compile("/runs/[0-9a-f-]{36}"))
        return self.page.url.rsplit("/", 1)[-1].partition("?")[0]

    def reads_events(self, of: str) -> None:
        """Keep the events of one type alone, on the page of a run."""
        self.page.get_by_placeholder("Filter…").fill(f"type:{of}")

    def looks(self, name: str) -> None:
        """Take a picture, once nothing more is loading, and see that every question was answered."""
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
    if urlsplit(answer.url).path != "/graphql":  # a query names the operation
        return []
    try:
        return [str(fault["message"]) for fault in answer.json().get("errors") or ()]
    except Error:  # a page that was left has no bodies any more
        return []

"""OpenStreetMap's editors iD and Rapid, as npm ships them: unpacked, and cut off from all other machines."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from playwright.sync_api import Page, Route

from oam_mosaic_assets_tests.servers.cache import cache

ANYONE: Final = {"Access-Control-Allow-Origin": "*"}

ELSEWHERE: Final[Mapping[str, Any]] = {
    "/capabilities.json": {
        "version": "0.6",
        "api": {
            "version": {"minimum": "0.6", "maximum": "0.6"},
            "area": {"maximum": 0.25},
            "waynodes": {"maximum": 2000},
            "status": {"database": "online", "api": "online", "gpx": "online"},
        },
        "policy": {"imagery": {"blacklist": []}},
    },
    "/id-tagging-schema@%5E7.0.0/package.json": {"version": "7.0.0"},
    "/nsi-id-presets.min.json": {"presets": {}},
    "/pmtiles_catalog.json": {"releases": []},
    "/search": {"total": 0, "results": [], "nextStart": -1},
}
"""The responses they need before they draw, by the end of the path; presets and data sets are empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """An editor, as an npm package.

    Attributes:
        integrity: of the package, as npm states it; nothing else is unpacked and run.
        keeps_template: whether it reads a custom background from its own storage, where its dialog puts it,
            rather than from the page's address.
    """

    package: str
    version: str
    integrity: str
    keeps_template: bool

    def installed(self) -> Path:
        """The folder to serve; fetched and unpacked once."""
        name = f"{self.package.rpartition('/')[2]}-{self.version}"
        folder, unfinished = cache() / name, cache() / f"{name}.new"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{name}.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # test files run in parallel
            if not folder.exists():
                self._unpack(unfinished)
                unfinished.rename(folder)
        return folder / "package" / "dist"

    def _unpack(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = ["npm", "pack", "--silent", f"{self.package}@{self.version}"]
        told = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        packed = folder / told.split()[-1]
        digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        assert f"sha512-{digest}" == self.integrity, f"{self.package} is not what it was"
        # `tarfile` can extract safely only since 3.11.4; Debian 12 has an older one
        subprocess.run(["tar", "--extract", "--exclude=*.map", f"--file={packed}"], cwd=folder, check=True)
        packed.unlink()

    def opens(self, page: Page, root: str, template: str, zoom: int, place: tuple[float, float]) -> None:
        """Open it with a custom background, as if somebody had entered the template."""
        background = "custom"
        if self.keeps_template:
            kept = f"localStorage.setItem('background-custom-template', {json.dumps(template)})"
            page.add_init_script(kept)
        else:
            background += f":{quote(template, safe=':/{}')}"
        longitude, latitude = place
        page.goto(f"{root}index.html#background={background}&map={zoom}/{latitude}/{longitude}")
        page.get_by_text("Edit now").click()


ID: Final = Editor(
    package="@openstreetmap/id",
    version="2.42.2",
    integrity="sha512-0fI0hNMd9cDHuWUczWRB4R19t230BRiMOAFI8Clo6m+sZHaAke6i0fu+TlhEzzhjYb2xu2Q07AczlyBCGXnFLg==",
    keeps_template=False,
)
RAPID: Final = Editor(
    package="@rapideditor/rapid",
    version="2.5.6",
    integrity="sha512-7bAELY0sEAPFzl/gDeH7EFZxnGnTOMTWe5acT3Wr4eQEX7vgMhbANE173fUPK7etV7xxaV3PK7l2T4r87NhpCA==",
    keeps_template=True,
)


def keep_home(route: Route) -> None:
    """Let the page reach this machine only; from others it gets the minimum it needs, or nothing."""
    address = route.request.url.partition("?")[0]
    if address.startswith("http://127.0.0.1:"):
        route.continue_()
    elif "cdn.jsdelivr.net" in address or address.endswith(tuple(ELSEWHERE)):
        told = next((told for end, told in ELSEWHERE.items() if address.endswith(end)), {})
        route.fulfill(json=told, headers=ANYONE)
    else:
        route.abort()

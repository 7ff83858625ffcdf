"""A small mosaic and its page, published by the asset graph, and a stranger who visits it in Chromium."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route
from pmtiles.tile import deserialize_directory, deserialize_header, serialize_header
from pmtiles.writer import build_roots_leaves
from rasterio.transform import Affine

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets_tests.chain import REPOSITORY, Site, dagster_instance, write_items
from oam_mosaic_assets_tests.images import ImageOf, Writing, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, running_nginx

PATIENCE_SECONDS: Final = 120.0
"""How long anything may take: a page is drawn in software, beside other tests."""

ALONE: Final = "65f2a1b2c3d4e5f6a7b8c9d0"
"""A field near Accra: one image, with all its details."""

STACK: Final = ["mandalay-2021", "mandalay-2022", "mandalay-2023"]
"""Three images of one place, the oldest first."""

BESIDE: Final = "mandalay-2019"
"""An older image, one corner of which lies within `STACK`."""

TINY: Final = "ten-metres"
"""A ten-metre square on Fiji."""

SMALL: Final = "two-hundred-metres"
"""A square in the west of Australia."""

FAR: Final = "as-small-in-the-south-east"
"""A square as small, in the south-east of Australia."""

SCENE: Final = "satellite-scene"
"""A square of 30 km in the middle of Australia, larger than a screen from z11 on."""

SPECKS: Final = ["speck-1", "speck-2", "speck-3"]
"""Ten-metre squares in one place of `SCENE`; of the second, no date is known."""

GOMA: Final = "goma"
"""An image in Rwanda, within 10 km of the border with the Democratic Republic of the Congo."""

TACLOBAN: Final = "tacloban"
"""An image at a coast of the Philippines; the middle of its z12 tile lies at sea."""

DATELINE: Final = "both-sides-of-180-degrees"
"""A square in the east of Russia, across the antimeridian."""

HOSTILE: Final = "</script><b id='x'>&\"?/#"
"""An id that must be treated as plain text, on an image near Lima."""

PLACES: Final[Mapping[str, tuple[float, float, float]]] = {
    ALONE: (-0.2, 5.6, 0.02),
    **dict.fromkeys(STACK, (96.1, 21.9, 0.03)),
    BESIDE: (96.12, 21.92, 0.03),
    TINY: (178.0, -17.8, 0.0001),
    SMALL: (121.0, -25.0, 0.0018),
    FAR: (147.0, -37.0, 0.0018),
    SCENE: (135.0, -25.0, 0.3),
    **dict.fromkeys(SPECKS, (135.05, -25.05, 0.0001)),
    GOMA: (29.235, -1.68, 0.02),
    TACLOBAN: (125.0, 11.24, 0.02),
    DATELINE: (180.0, 67.0, 0.1),
    HOSTILE: (-77.0, -12.0, 0.02),
}
"""Longitude and latitude of each square's centre, and its side, degrees."""

COLOUR: Final = (20, 120, 200)
"""Red, green and blue of `ALONE`, the one image whose pixels are read."""

PIXELS: Final = 400
"""Its width and height."""

STATED: Final[Mapping[str, Mapping[str, str | float | None]]] = {
    ALONE: {
        "title": "Field by the lagoon",
        "oam:producer_name": "A mapper",
        "license": "CC-BY-4.0",
        "datetime": "2024-03-01T10:00:00Z",
        "gsd": 0.05,
    },
    **{
        name: {"title": f"Palace {name[-4:]}", "datetime": f"{name[-4:]}-05-01T10:00:00Z"}
        for name in [BESIDE, *STACK]
    },
    **{name: {"title": "Speck"} for name in SPECKS},
    SPECKS[1]: {"title": "Speck", "datetime": None},
}
"""Properties of STAC items."""

HOSTILE_DETAILS: Final[Mapping[str, str]] = {
    "_id": HOSTILE,
    "title": "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>",
    "license": "<b>none</b>",
    "thumbnail": "javascript:document.title='broken in'",
    "uuid": "https://user:password@images.invalid/",
}
"""What an archive of details might say that another job made: ours leaves such addresses out."""

HOSTILE_ARCHIVE: Final = "hostile-data.pmtiles"
"""Key of that archive."""

DEEP_ARCHIVE: Final = "deep-mosaic.pmtiles"
"""Key of a mosaic of `ALONE` that begins at z13, as one made with `ZOOM_MIN=13`."""


@contextmanager
def published_site(folder: Path) -> Iterator[Published]:
    """Build the page and publish a mosaic; put `HOSTILE_ARCHIVE` and `DEEP_ARCHIVE` beside it."""
    subprocess.run([REPOSITORY / "scripts" / "build-viewer"], check=True)
    settings = {
        "STAC_ITEMS": str(folder / "items.ndjson"),
        "SERVE_VIEWER": str(REPOSITORY / "viewer" / "dist"),
        "SERVE_RASTER_URL": "https://tiles.example.org",
        "ZOOM_MAX": "15",
        "MOSAIC_PRODUCTS": "mosaic,details,exact,imagery",
    }
    (folder / "images").mkdir()
    with running_nginx(folder / "nginx", folder / "images") as host, dagster_instance() as instance:
        items = [_item(name) for name in PLACES]
        items[0]["assets"] = {
            "visual": {"href": _image_of(ALONE, host), "file:size": 123_456_789},
            "thumbnail": {"href": "https://images.invalid/thumbnail.png"},
        }
        write_items(folder / "items.ndjson", items)
        settings["IMAGERY_PRIVATE_HOSTS"] = host.host
        site = Site(environment=settings, instance=instance, folder=folder)
        outcome = site.run()
        assert outcome.success, outcome.log
        pointer = site.stays_whole()
        _tile(HOSTILE, HOSTILE_DETAILS, folder / "store" / HOSTILE_ARCHIVE)
        _tile(ALONE, {"id": ALONE}, folder / "store" / DEEP_ARCHIVE, first_zoom=13)
        yield Published(folder / "store", pointer, site, outcome.run_id)


@dataclass(frozen=True, slots=True)
class Published:
    """A published site, and the run that published it."""

    store: Path
    pointer: Pointer
    site: Site
    run_id: str


def _image_of(name: str, host: Nginx) -> str:
    """Write an image of one colour; returns its address."""
    longitude, latitude, side = PLACES[name]
    corner = (longitude - side / 2, latitude + side / 2)
    of = ImageOf(
        crs="EPSG:4326",
        transform=Affine.translation(*corner) * Affine.scale(side / PIXELS, -side / PIXELS),
        size=(PIXELS, PIXELS),
    )
    bands = np.broadcast_to(np.array(COLOUR, np.uint8)[:, None, None], (3, PIXELS, PIXELS)).copy()
    write_image(host.root / "alone.tif", of, Writing(bands=bands))
    return host.address("alone.tif")


def _ring(name: str) -> list[list[float]]:
    longitude, latitude, side = PLACES[name]
    west, east, south, north = (
        round(middle + half, 6) for middle in (longitude, latitude) for half in (-side / 2, side / 2)
    )
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _item(name: str) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "openaerialmap",
        "geometry": {"type": "Polygon", "coordinates": [_ring(name)]},
        "properties": {"datetime": "2020-01-01T10:00:00Z", **STATED.get(name, {})},
        "links": [],
        "assets": {},
    }


def _tile(name: str, properties: Mapping[str, str], archive: Path, *, first_zoom: int = 0) -> None:
    features = archive.with_suffix(".ndjson")
    geometry = {"type": "Polygon", "coordinates": [_ring(name)]}
    write_items(features, [{"type": "Feature", "properties": properties, "geometry": geometry}])
    zooms = [f"-Z{first_zoom}", "-z13"]
    command = [find_tippecanoe(), "-q", "-f", "-o", archive, "-l", "globalcoverage", *zooms, features]
    subprocess.run(command, check=True)


@dataclass
class Stranger:
    """Somebody who opens the page.

    Attributes:
        page: the open page.
        root: the site's address; ends in a slash.
        complaints: uncaught errors, and the console's errors and warnings (policy violations are among them).
        abroad: requested addresses outside the site; none is answered.
    """

    page: Page
    root: str
    complaints: list[str] = field(default_factory=list)
    abroad: list[str] = field(default_factory=list)

    def opens(
        self, view: str = "", *, page: str = "mosaic/viewer/index.html", query: str = "", waits: bool = True
    ) -> None:
        """Open the page at a view (`zoom/latitude/longitude`, perhaps followed by `&name=value`)."""
        self.page.goto(f"{self.root}{page}{query}{f'#map={view}' if view else ''}")
        if waits:
            self.waits_until(
                "window.mosaicMap?.loaded() && "
                "!/being drawn|Looking/.test(document.querySelector('#in-view').textContent)"
            )

    def waits_until(self, truth: str) -> None:
        """Poll the page; its content policy forbids the `eval` that playwright's own waiting needs."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.page.evaluate(f"Boolean({truth})"):
            assert time.monotonic() < until, truth
            self.page.wait_for_timeout(50)

    def looks_at(self, name: str, zoom: float) -> None:
        """Open the page with an image in the middle of the map."""
        self.opens(view_of(name, zoom))

    def goes_to(self, name: str) -> None:
        """Put another image in the middle of the open page's map."""
        # void, since `jumpTo` returns the map, all of which playwright would copy, for seconds
        self.page.evaluate("place => void mosaicMap.jumpTo({ center: place })", list(PLACES[name][:2]))

    def looks_again_at(self, name: str, zoom: float) -> None:
        """As `goes_to`, at a zoom, and wait until the map is drawn; what is listed follows later."""
        self.page.evaluate(
            "to => new Promise(done => { mosaicMap.once('idle', () => done()); mosaicMap.jumpTo(to); })",
            {"center": list(PLACES[name][:2]), "zoom": zoom},
        )

    def middle(self) -> tuple[float, float]:
        """Centre of the map, in pixels of the page."""
        box = self.page.locator("#map").bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drawn(self) -> set[str]:
        """Ids of the images that the map draws in the view."""
        found = self.page.evaluate(
            "mosaicMap.queryRenderedFeatures()"
            ".filter(each => each.source === 'mosaic').map(each => each.properties.id)"
        )
        return set(found)

    def sees(self, name: str) -> None:
        """Wait until the map draws an image."""
        self.waits_until(
            "window.mosaicMap?.queryRenderedFeatures()"
            f".some(each => each.source === 'mosaic' && each.properties.id === {json.dumps(name)})"
        )

    def orange(self, name: str) -> int:
        """How many pixels around an image are orange, as the map draws the mosaic."""
        pixels = self._around(name)
        return int((pixels[..., 0] - pixels[..., 2] > 25).sum())

    def grey(self, name: str) -> int:
        """How many pixels around an image the raster coverage darkens."""
        shown = self._around(name)
        if not self.page.evaluate("Boolean(mosaicMap.getLayer('coverage'))"):
            return 0
        visibility = self.page.evaluate("mosaicMap.getLayoutProperty('coverage', 'visibility')")
        self._turn_coverage("none")
        below = self._around(name)
        self._turn_coverage(visibility)
        return int(((below - shown).min(axis=-1) > 8).sum())

    def colour(self, name: str) -> list[int]:
        """Red, green and blue in the middle of an image."""
        found: list[int] = self._around(name, reach=1)[1, 1].tolist()
        return found

    def _turn_coverage(self, visibility: str) -> None:
        self.page.evaluate(
            "to => new Promise(done => { mosaicMap.once('idle', () => done());"
            " mosaicMap.setLayoutProperty('coverage', 'visibility', to); mosaicMap.triggerRepaint(); })",
            visibility,
        )

    def _around(self, name: str, *, reach: int = 20) -> NDArray[np.int_]:
        """The map around an image, as an array of rows from the top, columns and RGB."""
        box = self.page.locator("#map").bounding_box()
        at = self.page.evaluate("place => mosaicMap.project(place)", list(PLACES[name][:2]))
        assert box is not None
        x, y = box["x"] + at["x"], box["y"] + at["y"]
        clip = {"x": x - reach, "y": y - reach, "width": 2.0 * reach, "height": 2.0 * reach}
        return np.asarray(Image.open(BytesIO(self.page.screenshot(clip=clip))).convert("RGB")).astype(int)


def open_page(browser: Browser, root: str, **options: Any) -> tuple[BrowserContext, Stranger]:
    """A new visitor; requests beyond the site are noted and refused."""
    # the smallest window in which the page looks as on a large one: each pixel is drawn in software
    window = {"width": 900, "height": 660}
    context = browser.new_context(**{"viewport": window, "timezone_id": "UTC", "locale": "en-GB", **options})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_SECONDS * 1000)
    stranger = Stranger(page, root)

    def keep_home(route: Route) -> None:
        stranger.abroad.append(route.request.url)
        route.abort()

    context.route(re.compile(f"^(?!{re.escape(root)})"), keep_home)  # others never reach Python
    page.on("pageerror", lambda error: stranger.complaints.append(str(error)))

    def note(line: ConsoleMessage) -> None:
        # without a graphics processor the browser reads each picture back, and says so itself
        if line.type in {"error", "warning"} and "GPU stall due to ReadPixels" not in line.text:
            stranger.complaints.append(line.text)

    page.on("console", note)
    return context, stranger


def view_of(name: str, zoom: float) -> str:
    """The view (`zoom/latitude/longitude`) with an image in its middle."""
    longitude, latitude, _ = PLACES[name]
    return f"{zoom}/{latitude}/{longitude}"


def serious(violations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The violations axe rates as serious or critical, in words."""
    return [
        f"{each['id']}: {each['help']} at {[node['target'] for node in each['nodes']]}"
        for each in violations
        if each["impact"] in {"serious", "critical"}
    ]


def with_pointer(store: Path, **changes: Any) -> bytes:
    """The pointer's content, with some values changed."""
    return json.dumps({**json.loads((store / "mosaic" / "latest.json").read_text()), **changes}).encode()


def with_config(store: Path, **changes: Any) -> bytes:
    """The content of the page's config.json, with some values changed."""
    config = json.loads((store / "mosaic" / "viewer" / "config.json").read_text())
    return json.dumps({**config, **changes}).encode()


def write_with_leaves(archive: Path, to: Path, *, entries: int = 8) -> None:
    """Copy an archive whose root lists all tiles; the copy has leaf directories of a few entries each."""
    content = archive.read_bytes()
    header = deserialize_header(content[:127])

    def part(name: str) -> bytes:
        start, length = header[f"{name}_offset"], header[f"{name}_length"]
        return content[start : start + length]

    root, leaves, _ = build_roots_leaves(deserialize_directory(part("root")), entries)
    parts = {
        "root": root,
        "metadata": part("metadata"),
        "leaf_directory": leaves,
        "tile_data": part("tile_data"),
    }
    at = 127
    for name, each in parts.items():
        header[f"{name}_offset"], header[f"{name}_length"] = at, len(each)
        at += len(each)
    to.write_bytes(serialize_header(header) + b"".join(parts.values()))

"""Both raster coverage archives, read by other software: Martin, pmtiles' two readers, MapLibre, GDAL."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser
from pmtiles.convert import pmtiles_to_mbtiles
from pmtiles.reader import MmapSource, all_tiles

from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets_tests.campaign.swaps import BROWSER, install_readers
from oam_mosaic_assets_tests.servers import range_server
from oam_mosaic_assets_tests.servers.chromium import SOFTWARE_RENDERING, running_chromium
from oam_mosaic_assets_tests.servers.tiles import release, serving
from oam_mosaic_assets_tests.serving.recipes import BUILD, MIDDLE, SEA
from oam_mosaic_assets_tests.viewer.site import open_page

RASTER = 1
GREY = (128, 128, 128, 102)
"""The alpha is 40 % of 255."""

MAP = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<link rel="stylesheet" href="MODULES/maplibre-gl/dist/maplibre-gl.css">
<script src="MODULES/maplibre-gl/dist/maplibre-gl.js"></script>
<script src="MODULES/pmtiles/dist/pmtiles.js"></script>
<style>body { margin: 0; } #map { width: 512px; height: 384px; background: #fff; }</style><div id="map"></div>
<script>
const protocol = new pmtiles.Protocol();
maplibregl.addProtocol("pmtiles", protocol.tile);
window.map = new maplibregl.Map({ container: "map", center: PLACE, zoom: 7, fadeDuration: 0,
  style: { version: 8, sources: {}, layers: [] } });
map.on("load", () => {
  const url = `pmtiles://${new URL("coverage.pmtiles", location)}`;
  map.addSource("coverage", { type: "raster", url, tileSize: 256 });
  map.addLayer({ id: "coverage", type: "raster", source: "coverage", paint: { "raster-fade-duration": 0 } });
  map.on("sourcedata", ({ sourceDataType }) => { if (sourceDataType === "metadata") window.isOpen = true; });
});
map.on("error", ({ error }) => console.error(String(error)));
</script>"""


@pytest.fixture(params=["exact", "whole"])
def archive(request: pytest.FixtureRequest) -> Path:
    """Each of the two archives in turn."""
    path: Path = request.getfixturevalue("raster" if request.param == "exact" else "whole")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    install_readers()
    with running_chromium(*SOFTWARE_RENDERING) as browser:
        yield browser


def tiles_of(archive: Path) -> dict[tuple[int, int, int], bytes]:
    """All tiles, as pmtiles' Python reader finds them."""
    with archive.open("rb") as file:
        return dict(all_tiles(MmapSource(file)))  # type: ignore[no-untyped-call]  # pmtiles has no types


def test_the_reader_in_javascript_finds_what_the_one_in_python_does(archive: Path) -> None:
    install_readers()
    tiles = tiles_of(archive)
    places = [*random.Random(3).sample(sorted(tiles), 1000), (15, 0, 32767), (8, 200, 200)]
    command = ["node", BROWSER / "digests.mjs", archive, json.dumps(places)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    expected = [hashlib.sha256(tiles[each]).hexdigest() if each in tiles else None for each in places]
    assert found == expected
    assert expected.count(None) == 2


def test_martin_serves_it_as_it_is(archive: Path, mosaic: Path, tmp_path: Path) -> None:
    release(FolderStore(tmp_path / "store"), BUILD, mosaic, archive)
    tiles = tiles_of(archive)
    with serving(tmp_path / "serve", {"MOSAIC_STORE": str(tmp_path / "store")}) as server:
        server.serves(BUILD)
        for z, x, y in random.Random(4).sample(sorted(tiles), 300):
            assert server.ask(RASTER, f"/{z}/{x}/{y}.png").content == tiles[z, x, y]


def test_gdal_reads_it_as_mbtiles(archive: Path, tmp_path: Path) -> None:
    """GDAL cannot read raster tiles from PMTiles; pmtiles' own converter makes MBTiles, which it can."""
    database = tmp_path / "coverage.mbtiles"
    pmtiles_to_mbtiles(archive, database)
    for place, expected in ((MIDDLE, GREY), (SEA, (0, 0, 0, 0))):
        command = ["gdallocationinfo", "-valonly", "-wgs84", database, *map(str, place)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert tuple(map(int, done.stdout.split())) == expected


@pytest.mark.parametrize(("place", "colour"), [(MIDDLE, (204, 204, 204)), (SEA, (255, 255, 255))])
def test_maplibre_draws_it(
    archive: Path,
    browser: Browser,
    tmp_path: Path,
    place: tuple[float, float],
    colour: tuple[int, int, int],
) -> None:
    """By range requests, with pmtiles' own protocol; the colour is grey at 40 % opacity on white."""
    shutil.copyfile(archive, tmp_path / "coverage.pmtiles")
    (tmp_path / "modules").symlink_to(BROWSER / "node_modules")
    page = MAP.replace("PLACE", json.dumps(place)).replace("MODULES", "modules")
    (tmp_path / "index.html").write_text(page)
    with range_server.serving(tmp_path) as root:
        context, stranger = open_page(browser, root, viewport={"width": 512, "height": 384})
        stranger.page.goto(f"{root}index.html")
        stranger.waits_until("window.isOpen")  # MapLibre waits for ever for tiles that the archive lacks
        until = time.monotonic() + 30.0
        while (seen := middle_of(stranger.page.screenshot())) != colour and time.monotonic() < until:
            stranger.page.wait_for_timeout(100)
        context.close()
    assert seen == colour
    assert stranger.complaints == []


def middle_of(picture: bytes) -> tuple[int, ...]:
    with Image.open(io.BytesIO(picture)) as opened:
        pixel: tuple[int, ...] = opened.convert("RGB").getpixel((256, 192))
        return pixel

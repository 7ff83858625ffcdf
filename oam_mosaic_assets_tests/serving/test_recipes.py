"""Each recipe of `docs/recipes.md`, followed by the client it is for, against a running server."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import shapely
from PIL import Image
from playwright.sync_api import Browser

from oam_mosaic_assets_tests.campaign.swaps import BROWSER, install_readers
from oam_mosaic_assets_tests.chain import REPOSITORY
from oam_mosaic_assets_tests.core.scene import IMAGES
from oam_mosaic_assets_tests.servers.cache import cache
from oam_mosaic_assets_tests.servers.chromium import SOFTWARE_RENDERING, running_chromium
from oam_mosaic_assets_tests.servers.tiles import Serving
from oam_mosaic_assets_tests.serving.recipes import (
    MIDDLE,
    SEA,
    at,
    entered,
    kind_of,
    looked_up,
    page,
    pixel,
    recipe,
    served_recipes,
)

VECTOR, RASTER = 0, 1
QGIS = REPOSITORY / "oam_mosaic_assets_tests" / "campaign" / "qgis_reader.py"
WIDTH, HEIGHT = 512, 384

MAPLIBRE = """
const map = new maplibregl.Map({ container: "map", center: PLACE, zoom: ZOOM - 1, fadeDuration: 0,
  style: { version: 8, sources: {}, layers: [] } });
map.on("error", ({ error }) => console.error(String(error)));
map.on("load", async () => { RECIPE });
"""
LEAFLET = """
const map = L.map("map", { attributionControl: false, zoomControl: false });
map.setView([PLACE[1], PLACE[0]], ZOOM);
RECIPE
"""
OPENLAYERS = """
const map = new ol.Map({ target: "map", controls: [],
  view: new ol.View({ center: ol.proj.fromLonLat(PLACE), zoom: ZOOM }) });
RECIPE
"""
LIBRARIES = {
    "MapLibre": (
        MAPLIBRE,
        "maplibre-gl/dist/maplibre-gl.css",
        "maplibre-gl/dist/maplibre-gl.js",
        "pmtiles/dist/pmtiles.js",
    ),
    "Leaflet": (LEAFLET, "leaflet/dist/leaflet.css", "leaflet/dist/leaflet.js"),
    "OpenLayers": (OPENLAYERS, "ol/ol.css", "ol/dist/ol.js"),
}
SHOWN = {"middle": "coverage", "corner": "nothing"}
NOTHING = dict.fromkeys(SHOWN, "nothing")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, mosaic: Path) -> Iterator[Serving]:
    with served_recipes(tmp_path_factory.mktemp("recipes"), mosaic) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    install_readers()
    with running_chromium(*SOFTWARE_RENDERING) as browser:
        yield browser


def written_page(folder: Path, title: str, recipe: str, place: tuple[float, float], zoom: int) -> Path:
    """Write a page that shows a map made by a recipe, and nothing else."""
    start, style, *scripts = LIBRARIES[title.partition(",")[0]]
    modules = (BROWSER / "node_modules").as_uri()
    loaded = "".join(f'<script src="{modules}/{each}"></script>' for each in scripts)
    file = folder / "map.html"
    file.write_text(
        f'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{modules}/{style}">{loaded}'
        "<style>body { margin: 0; background: #fff; } .leaflet-container { background: #fff; }"
        f" #map {{ width: {WIDTH}px; height: {HEIGHT}px; }}</style>"
        f'<div id="map"></div><script>const PLACE = {list(place)}, ZOOM = {zoom};'
        f"{start.replace('RECIPE', recipe)}</script>"
    )
    return file


@pytest.mark.parametrize(
    ("title", "place", "zoom", "expected"),
    [
        *(
            (title, place, 8, expected)
            for title in (
                "MapLibre, the archive itself",
                "MapLibre, the footprints",
                "MapLibre, the pictures",
                "Leaflet",
                "OpenLayers, the pictures",
                "OpenLayers, the footprints",
            )
            for place, expected in ((MIDDLE, SHOWN), (SEA, NOTHING))
        ),
        *(
            (title, MIDDLE, 16, dict.fromkeys(SHOWN, "imagery"))
            for title in ("MapLibre, the pictures", "Leaflet", "OpenLayers, the pictures")
        ),
    ],
)
def test_a_web_map_shows_what_is_there(
    served: Serving,
    browser: Browser,
    tmp_path: Path,
    title: str,
    place: tuple[float, float],
    zoom: int,
    expected: dict[str, str],
) -> None:
    told = at(served, recipe("js", f"// {title}"))
    asked: list[str] = []
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    shown = context.new_page()
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("requestfailed", lambda request: wrong.append(f"{request.url}: {request.failure}"))
    shown.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    file = written_page(tmp_path, title, told, place, zoom)
    shown.goto(file.as_uri(), wait_until="networkidle")
    points = {"middle": (WIDTH // 2, HEIGHT // 2), "corner": (12, 12)}
    deadline = time.monotonic() + 20.0
    while (seen := looked_up(shown.screenshot(), points)) != expected and time.monotonic() < deadline:
        shown.wait_for_timeout(100)
    context.close()
    assert seen == expected
    assert wrong == []
    tiles = [
        address for address in asked if re.search(r":\d+/(globalcoverage/)?\d+/\d+/\d+|\.pmtiles$", address)
    ]
    assert tiles or expected == NOTHING, "outside of what the TileJSON states nothing needs to be asked"
    assert all(address.startswith(("http://127.0.0.1:", "file:", "blob:", "data:")) for address in asked)


@pytest.mark.parametrize("client", ["JOSM", "iD, Rapid, Tasking Manager", "TMS, rows from the south"])
@pytest.mark.parametrize("zoom", [0, 8, 15, 16])
def test_an_editors_template_finds_the_tile_at_a_place(served: Serving, client: str, zoom: int) -> None:
    x, y, column, row = pixel(zoom, MIDDLE)
    # filled in as JOSM and iD do it: {z} or {zoom}, {-y} or {ty}
    template = re.sub(r"^tms(\[\d+,22\])?:", "", at(served, entered(client)[-1 if client != "JOSM" else 1]))
    address = template.replace("{x}", f"{x}").replace("{y}", f"{y}")
    address = re.sub(r"\{[t-]y\}", f"{2**zoom - 1 - y}", address)
    address = re.sub(r"\{z(oom)?\}", f"{zoom}", address)
    assert "{" not in address
    path = address.removeprefix(f"http://127.0.0.1:{served.ports[RASTER]}")
    answer = served.ask(RASTER, path)
    if zoom > 15:
        assert answer.status == 302
        content, shown = requests.get(answer.headers["location"], timeout=30).content, "imagery"
    else:
        content, shown = answer.content, "coverage"
    with Image.open(io.BytesIO(content)) as tile:
        assert kind_of(tile.convert("RGBA").getpixel((column, row))) == shown


def test_every_address_of_the_page_answers(served: Serving) -> None:
    addresses = set(re.findall(r"http://127\.0\.0\.1:\d+/[^\s`\",]*", page()))
    assert len(addresses) > 8
    for stated in addresses:
        filled = re.sub(r"\{[^}]+\}", "0", at(served, stated))
        which = next(index for index, port in enumerate(served.ports) if f":{port}/" in filled)
        answer = served.ask(which, "/" + filled.split("/", 3)[3])
        assert answer.status == 200, stated
        assert answer.content


@pytest.fixture(scope="module")
def gdal(served: Serving, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs the page's command that begins with a word, one address replaced; gives its folder and output."""
    if shutil.which("gdalinfo") is None:
        pytest.fail("GDAL is not in PATH; `scripts/install-test-servers` installs it", pytrace=False)
    folder = tmp_path_factory.mktemp("gdal")
    commands = at(served, recipe("sh", "# GDAL")).replace("\\\n", "").splitlines()

    def run(word: str, *, instead: tuple[str, str] = ("", "")) -> str:
        (command,) = [shlex.split(each) for each in commands if each.startswith(f"{word} ")]
        command = [part.replace(*instead) for part in command]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return f"{folder}\n{done.stdout}"

    return run


def test_gdal_reads_the_capabilities(gdal: Callable[..., str]) -> None:
    said = gdal("gdalinfo")
    assert "Driver: WMTS/" in said
    assert f"Size is {256 << 22}, {256 << 22}\n" in said
    assert 'ID["EPSG",3857]' in said
    assert "Origin = (-20037508.342789" in said


def test_gdal_draws_a_window_of_the_coverage(gdal: Callable[..., str]) -> None:
    folder = gdal("gdal_translate").splitlines()[0]
    with Image.open(Path(folder) / "coverage.tif") as picture:
        west, north, width, height = 29.5, -19.4, 1.4, 0.9
        for (longitude, latitude), expected in (
            (MIDDLE, "coverage"),
            ((29.6, -19.5), "nothing"),
            ((30.8, -20.2), "nothing"),
        ):
            place = (
                int((longitude - west) / width * picture.width),
                int((north - latitude) / height * picture.height),
            )
            red, green, blue, opacity = picture.getpixel(place)
            assert ("nothing" if opacity == 0 else kind_of((red, green, blue))) == expected


@pytest.mark.parametrize("zoom", [0, 8, 10])
def test_gdal_reads_a_vector_tile(gdal: Callable[..., str], zoom: int) -> None:
    x, y, *_ = pixel(zoom, MIDDLE)
    said = gdal("ogrinfo", instead=("/0/0/0.mvt", f"/{zoom}/{x}/{y}.mvt"))
    assert "using driver `MVT' successful" in said
    assert "Layer name: globalcoverage\n" in said
    assert ("id (String) = a hill" in said) == (zoom > 0)


def test_qgis_imports_the_connections_and_draws_every_layer(served: Serving, tmp_path: Path) -> None:
    """By QGIS's own dialog and providers: raster tiles by XYZ and by WMTS, footprints as vector tiles."""
    if not Path("/usr/lib/python3/dist-packages/qgis").is_dir():
        pytest.fail("QGIS is not there; `scripts/install-test-servers` installs it", pytrace=False)
    vector, raster, _ = served.ports
    servers = [f"http://127.0.0.1:{port}" for port in (vector, raster)]
    done = subprocess.run(
        ["/usr/bin/python3", QGIS, *servers, "29.5", "-20.3", "30.9", "-19.4", tmp_path / "map"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin", "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [line[:2] for line in said] == [["xyz", "ok"], ["wmts", "ok"], ["vector", "ok"]], done
    covered = [int(line[4]) for line in said]
    assert covered == pytest.approx([covered[0]] * 3, rel=0.05), "all three show the same"
    assert done.returncode == 0


def test_the_entry_for_josm_is_what_its_schema_says(served: Serving, tmp_path: Path) -> None:
    schema = cache() / "josm" / "maps.xsd"
    if not schema.exists() or shutil.which("xmllint") is None:
        pytest.fail("JOSM's schema is not there; `scripts/install-test-servers` unpacks it", pytrace=False)
    entry = tmp_path / "josm.xml"
    entry.write_bytes(served.ask(RASTER, "/josm.xml").content)
    command = ["xmllint", "--nonet", "--noout", "--schema", schema, entry]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, f"{entry} validates\n")


def test_the_entry_for_editors_has_the_coverage_as_its_outline(served: Serving) -> None:
    answer = served.ask(RASTER, "/editor-layer-index.geojson")
    assert answer.headers["content-type"] == "application/geo+json"
    assert len(answer.content) < 100_000
    entry = json.loads(answer.content)
    outline = shapely.from_geojson(json.dumps(entry["geometry"]))
    assert outline.geom_type == "MultiPolygon"
    assert outline.is_valid
    for image in IMAGES:
        parts = shapely.get_parts(image.geometry)
        assert outline.buffer(1e-5).covers(shapely.centroid(parts)).all(), image.id
    assert not outline.covers(shapely.Point(SEA))
    assert entry["type"] == "Feature"
    assert entry["properties"]["url"] == at(served, "http://127.0.0.1:8084/{zoom}/{x}/{y}.png")

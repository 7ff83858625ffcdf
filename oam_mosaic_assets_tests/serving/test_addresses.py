"""Every public address, requested as clients do: real Martin behind real nginx."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jsonschema import Draft7Validator
from PIL import Image
from pmtiles.reader import MmapSource, Reader, all_tiles

from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.serving.documents import Addresses
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.servers.tiles import Serving, release, serving

BUILD = "20260115T030000Z-3f9c2a7d41be"
VECTOR, RASTER, VIEWER = 0, 1, 2
LAST = 10
SCHEMA = json.loads(Path(__file__).with_name("tilejson-3.0.0.json").read_text())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, mosaic: Path, raster: Path) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serve")
    release(FolderStore(folder / "store"), BUILD, mosaic, raster)
    with serving(
        folder,
        {"MOSAIC_STORE": str(folder / "store")},
        SERVE_VECTOR_URL="https://t.org/v/",
        SERVE_CACHE_MB="77",
    ) as server:
        server.serves(BUILD)
        yield server


def tiles_of(archive: Path) -> dict[tuple[int, int, int], bytes]:
    with archive.open("rb") as file:
        return dict(all_tiles(MmapSource(file)))


def test_every_tile_of_the_mosaic_is_the_archives_own(served: Serving, mosaic: Path) -> None:
    for (z, x, y), packed in tiles_of(mosaic).items():
        answer = served.ask(VECTOR, f"/globalcoverage/{z}/{x}/{y}", Accept_Encoding="gzip")
        assert answer.status == 200
        assert answer.content == packed
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert answer.headers["content-encoding"] == "gzip"


def some_tiles_of(archive: Path) -> dict[tuple[int, int, int], bytes]:
    """A thousand tiles: the first 500 from z0 down, and a sample of the many similar ones below."""
    tiles = sorted(tiles_of(archive).items())
    return dict(tiles[:500] + random.Random(5).sample(tiles[500:], 500))


def test_the_tiles_of_the_raster_coverage_are_the_archives_own(served: Serving, raster: Path) -> None:
    for (z, x, y), tile in some_tiles_of(raster).items():
        answer = served.ask(RASTER, f"/{z}/{x}/{y}.png")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        assert answer.content == tile


def test_the_cache_of_tiles_grows_no_larger_than_is_set(served: Serving) -> None:
    (configuration,) = served.scratch.rglob("nginx.conf")
    assert " max_size=77m " in configuration.read_text()


def test_a_tile_is_unpacked_for_whoever_does_not_say_that_he_can(served: Serving, mosaic: Path) -> None:
    packed = tiles_of(mosaic)[0, 0, 0]
    for path in ("/globalcoverage/0/0/0", "/global-mosaic/0/0/0.mvt", "/globalcoverage/0/0/0.pbf"):
        answer = served.ask(VECTOR, path)
        assert answer.content == gzip.decompress(packed)
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "Accept-Encoding"


def test_rows_may_be_counted_from_the_south(served: Serving, mosaic: Path, raster: Path) -> None:
    z, x, y = next(place for place in tiles_of(mosaic) if place[0] == LAST)
    flipped = 2**z - 1 - y
    expected = served.ask(VECTOR, f"/globalcoverage/{z}/{x}/{y}")
    assert expected.status == 200
    assert served.ask(VECTOR, f"/tms/globalcoverage/{z}/{x}/{flipped}").content == expected.content
    assert served.ask(VECTOR, f"/tms/global-mosaic/{z}/{x}/{flipped}.mvt").content == expected.content
    for (z, x, y), tile in some_tiles_of(raster).items():
        assert served.ask(RASTER, f"/tms/{z}/{x}/{2**z - 1 - y}.png").content == tile


def test_thousands_of_requests_inside_and_outside_answer_as_the_archive_says(
    served: Serving, mosaic: Path
) -> None:
    chance, tiles = random.Random(7), tiles_of(mosaic)
    places = list(tiles)
    for _ in range(10_000):
        z, x, y = chance.choice(places)
        if chance.random() < 0.8:
            z = chance.randrange(LAST + 3)
            x, y = (chance.randrange(2**z + 2) for _ in "xy")
        answer = served.ask(VECTOR, f"/globalcoverage/{z}/{x}/{y}", Accept_Encoding="gzip")
        exists = z <= LAST and x < 2**z and y < 2**z
        expected = (200 if (z, x, y) in tiles else 204) if exists else 404
        assert answer.status == expected, (z, x, y)
        if expected == 200:
            assert answer.content == tiles[z, x, y]
        if expected == 404:
            assert answer.plain.startswith(b"There is no such tile: zooms are 0 to 10")


NONE = "there is no such tile"
EMPTY = "a transparent tile"
NOTHING = "nothing at this address"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/15/0/0.png", EMPTY),
        ("/3/7/7.png", EMPTY),
        ("/tms/3/7/0.png", EMPTY),
        ("/16/0/0.png", "16/0/0"),
        ("/16/65535/65535.png", "16/65535/65535"),
        ("/tms/16/1/0.png", "16/1/65535"),
        ("/22/4194303/1.png", "22/4194303/1"),
        ("/16/65536/0.png", NONE),
        ("/16/0/65536.png", NONE),
        ("/tms/16/0/65536.png", NONE),
        ("/3/8/0.png", NONE),
        ("/3/0/8.png", NONE),
        ("/0/0/1.png", NONE),
        ("/23/0/0.png", NONE),
        ("/99/0/0.png", NONE),
        ("/3/999999999/0.png", NONE),
        ("/3/9999999999/0.png", NOTHING),
        ("/03/0/0.png", NOTHING),
        ("/3/-1/0.png", NOTHING),
        ("/3/0/0.jpg", NOTHING),
        ("/3/0/0", NOTHING),
        ("/3/0.5/0.png", NOTHING),
        ("/a/0/0.png", NOTHING),
        ("/probe", NOTHING),
        ("/impossible", NOTHING),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_raster_address(served: Serving, path: str, expected: str, method: str) -> None:
    answer = served.ask(RASTER, path, method, Origin="https://map.example.org")
    assert answer.headers["access-control-allow-origin"] == "*"
    if method == "HEAD":
        assert answer.content == b""
    if expected == EMPTY:
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        if method == "GET":
            with Image.open(io.BytesIO(answer.content)) as picture:
                assert picture.size == (256, 256)
                assert picture.convert("RGBA").getextrema()[3] == (0, 0)
    elif "/" in expected:
        assert answer.status == 302
        assert answer.headers["location"] == (
            f"https://titiler.example.org/{expected}.png?assets=visual&nodata=0"
        )
        assert answer.headers["cache-control"] == "public, max-age=60, must-revalidate"
    else:
        assert answer.status == 404
        assert answer.headers["content-type"] == "text/plain"
        assert answer.headers["cache-control"] == "no-store"
        if method == "GET":
            assert expected in answer.content.decode().lower()


@pytest.mark.parametrize("tile", ["{z}_{x}_{y}", "z{z}x{x}y{y}", "{z}{x}{y}"])
def test_titilers_address_may_have_anything_next_to_a_number(tmp_path: Path, mosaic: Path, tile: str) -> None:
    release(FolderStore(tmp_path / "store"), BUILD, mosaic)
    settings = {"MOSAIC_STORE": str(tmp_path / "store"), "TITILER_URL": f"https://t.org/{tile}.png"}
    with serving(tmp_path / "serve", settings) as server:
        server.serves(BUILD)
        expected = f"https://t.org/{tile.format(z=16, x=1, y=2)}.png"
        assert server.ask(RASTER, "/16/1/2.png").headers["location"] == expected


@pytest.mark.parametrize("character", ["$", '"', "\\", " "])
def test_folders_may_have_any_name(tmp_path: Path, mosaic: Path, raster: Path, character: str) -> None:
    store = FolderStore(tmp_path / f"a{character}store")
    release(store, BUILD, mosaic, raster)
    with serving(tmp_path / f"a{character}server", {"MOSAIC_STORE": str(store.root)}) as server:
        server.serves(BUILD)
        assert json.loads(server.ask(VECTOR, "/globalcoverage").content)["build"] == BUILD
        assert server.ask(RASTER, "/15/0/0.png").status == 200, "a file of the server's own"
        assert server.ask(VECTOR, "/globalcoverage/0/0/0").status == 200
        part = server.ask(VIEWER, f"/mosaic/builds/{BUILD}/global-mosaic.pmtiles", Range="bytes=0-6")
        assert (part.status, part.content) == (206, b"PMTiles")


@pytest.mark.parametrize(("which", "path"), [(VECTOR, "/globalcoverage/0/0/0"), (RASTER, "/0/0/0.png")])
def test_a_tile_that_a_client_has_is_not_sent_again(served: Serving, which: int, path: str) -> None:
    first = served.ask(which, path, Accept_Encoding="gzip")
    assert first.headers["cache-control"] == "public, max-age=60, must-revalidate"
    again = served.ask(which, path, Accept_Encoding="gzip", If_None_Match=first.headers["etag"])
    assert (again.status, again.content) == (304, b"")
    assert again.headers["access-control-allow-origin"] == "*"
    assert served.ask(which, path, If_None_Match='"another"').status == 200


@pytest.mark.parametrize(("which", "path"), [(VECTOR, "/globalcoverage/0/0/0"), (RASTER, "/0/0/0.png")])
def test_head_is_a_get_without_content(served: Serving, which: int, path: str) -> None:
    told = [served.ask(which, path, method, Accept_Encoding="gzip") for method in ("GET", "HEAD")]
    for name in ("etag", "content-type", "cache-control", "x-mosaic-build"):
        assert told[0].headers[name] == told[1].headers[name]
    assert told[1].content == b""


@pytest.mark.parametrize("which", [VECTOR, RASTER, VIEWER])
def test_what_may_be_asked_is_said(served: Serving, which: int) -> None:
    preflight = served.ask(which, "/0/0/0.png", "OPTIONS", Origin="https://map.example.org")
    assert (preflight.status, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    assert preflight.headers["access-control-allow-origin"] == "*"
    refused = served.ask(which, "/0/0/0.png", "POST")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("path", "tiles", "last"),
    [
        ("/globalcoverage", "https://t.org/v/globalcoverage/{z}/{x}/{y}", LAST),
        ("/global-mosaic.json", "https://t.org/v/globalcoverage/{z}/{x}/{y}", LAST),
        ("/raster.json", "{raster}/{z}/{x}/{y}.png", 22),
    ],
)
def test_a_tilejson_is_what_the_specification_says_and_tells_of_this_release(
    served: Serving, path: str, tiles: str, last: int
) -> None:
    answer = served.ask(VECTOR, path)
    assert answer.headers["content-type"] == "application/json"
    told: dict[str, Any] = json.loads(answer.content)
    Draft7Validator(SCHEMA).validate(told)
    raster = f"http://127.0.0.1:{served.ports[RASTER]}"
    assert told["tiles"] == [tiles.replace("{raster}", raster)]
    assert (told["minzoom"], told["maxzoom"]) == (0, last)
    assert told["build"] == BUILD
    assert told["attribution"]


def test_the_tilejson_has_the_mosaics_own_bounds_and_fields(served: Serving, mosaic: Path) -> None:
    told = json.loads(served.ask(VECTOR, "/globalcoverage").content)
    with mosaic.open("rb") as file:
        header, stated = Reader(MmapSource(file)).header(), Reader(MmapSource(file)).metadata()
    sides = ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7")
    assert told["bounds"] == pytest.approx([header[side] / 1e7 for side in sides], abs=1e-5)
    (layer,), (expected,) = told["vector_layers"], stated["vector_layers"]
    assert layer["id"] == expected["id"] == "globalcoverage"
    assert layer["fields"] == expected["fields"]


@pytest.mark.parametrize(
    ("listens_on", "host"),
    [
        ("192.0.2.5", "192.0.2.5"),
        ("2001:db8::5", "[2001:db8::5]"),
        ("::1", "[::1]"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104
        ("::", "127.0.0.1"),
    ],
)
def test_clients_are_told_an_address_that_is_listened_on(listens_on: str, host: str) -> None:
    told = Addresses.of(Settings.read({"SERVE_ADDRESS": listens_on}))
    assert told.vector == f"http://{host}:3004"
    assert told.raster == f"http://{host}:8084"
    assert told.viewer == f"http://{host}:8085"


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])  # noqa: S104
def test_that_other_machines_are_sent_to_themselves_is_remarked_on(address: str) -> None:
    (remark,) = Settings.read({"SERVE_ADDRESS": address}).remarks()
    assert f"SERVE_ADDRESS is {address}, but SERVE_VECTOR_URL, " in remark
    stated = {"SERVE_ADDRESS": address, "SERVE_VECTOR_URL": "https://tiles.example.org"}
    assert not Settings.read(stated).remarks()
    assert not Settings.read({"SERVE_ADDRESS": "192.0.2.5"}).remarks()


@pytest.mark.parametrize("name", ["WMTSCapabilities.xml", "josm.xml", "qgis.xml", "qgis-vector.xml"])
def test_what_other_clients_load_is_whole(served: Serving, name: str) -> None:
    answer = served.ask(RASTER, f"/{name}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/xml")
    ElementTree.fromstring(answer.content)  # noqa: S314  # our own document
    own = "https://t.org/v/" if "vector" in name else f"http://127.0.0.1:{served.ports[RASTER]}/"
    assert own in answer.content.decode()


def test_the_page_is_found_from_every_port(served: Serving) -> None:
    page = "mosaic/viewer/index.html"
    for which, path, expected in (
        (VIEWER, "/", page),
        (VIEWER, f"/?build={BUILD}", f"{page}?build={BUILD}"),
        (VIEWER, "/mosaic/viewer", "viewer/index.html"),
        (VIEWER, "/mosaic/viewer/", "index.html"),
        (VIEWER, f"/mosaic/viewer/?build={BUILD}", f"index.html?build={BUILD}"),
        (VECTOR, "/viewer", f"http://127.0.0.1:{served.ports[VIEWER]}/{page}"),
        (RASTER, "/viewer/", f"http://127.0.0.1:{served.ports[VIEWER]}/{page}"),
    ):
        answer = served.ask(which, path)
        assert (answer.status, answer.headers["location"]) == (302, expected)


def test_the_page_and_the_public_files_are_served(served: Serving) -> None:
    index = "/mosaic/viewer/index.html"
    missing = served.ask(VIEWER, index)
    assert (missing.status, missing.headers["content-type"]) == (404, "text/plain")
    assert b"The page is not published" in missing.content
    folder = served.log.parent / "store" / "mosaic" / "viewer"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>viewer</title>")
    (folder / "assets" / "a-1.js").write_text("1;")
    page = served.ask(VIEWER, index)
    assert (page.status, page.headers["content-type"]) == (200, "text/html")
    assert page.headers["cache-control"] == "public, max-age=60, must-revalidate"
    asset = served.ask(VIEWER, "/mosaic/viewer/assets/a-1.js")
    assert asset.headers["cache-control"].endswith("immutable")
    part = served.ask(VIEWER, f"/mosaic/builds/{BUILD}/global-mosaic.pmtiles", Range="bytes=0-6")
    assert (part.status, part.content) == (206, b"PMTiles")
    assert json.loads(served.ask(VIEWER, "/mosaic/latest.json").content)["build"] == BUILD
    for private in ("/mosaic/cache/footprints/x.parquet", "/mosaic/staging/x", "/mosaic/builds/foreign-1/x"):
        assert served.ask(VIEWER, private).status == 404


def test_every_answer_names_its_build(served: Serving) -> None:
    for which, path in ((VECTOR, "/globalcoverage/0/0/0"), (RASTER, "/16/0/0.png"), (VIEWER, "/nowhere")):
        assert served.ask(which, path).headers["x-mosaic-build"] == BUILD

"""Clients are told what the raster coverage's tiles are: their size, 256 or 512 pixels, and their zooms."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from oam_mosaic_assets.core.archive import BrokenArchive
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.picture_tiles import tile_pixels
from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.serving.documents import COVERAGE, HALF_WORLD, Addresses, documents_of
from oam_mosaic_assets.serving.generation import transparent_tile
from oam_mosaic_assets_tests.core.pictures import covered
from oam_mosaic_assets_tests.core.scene import PLAIN

WMTS = {"w": "http://www.opengis.net/wmts/1.0", "ows": "http://www.opengis.net/ows/1.1"}
JOSM = {"j": "http://josm.openstreetmap.de/maps-1.0"}
PIXEL = 0.00028
"""Pixel size of the display that WMTS assumes, metres."""

POINTER = Pointer(
    build="20260115T030000Z-3f9c2a7d41be", digest="", snapshot_taken_at="", checked_at="", published_at="",
    source="sample", images=1, set_aside=0, archive="a", manifest="m", size=1, sha256="", etags={},
)  # fmt: skip


def told(pixels: int, first: int = 0) -> dict[str, bytes]:
    addresses = Addresses(vector="http://v", raster="http://r", viewer="http://p")
    described = {"minzoom": first, "maxzoom": 15}
    return documents_of(POINTER, described, described, None, addresses, replace(COVERAGE, pixels=pixels))


def text_of(document: bytes, path: str, names: dict[str, str]) -> list[str]:
    return [f"{each.text}" for each in ElementTree.fromstring(document).findall(path, names)]  # noqa: S314


@pytest.mark.parametrize("pixels", [256, 512])
def test_a_tile_says_how_large_all_are(tmp_path: Path, pixels: int) -> None:
    plan = CoveragePlan(way="exact", zoom_min=2, zoom_max=9, pixels=pixels)
    content = covered(PLAIN, tmp_path / "it", plan).archive.read_bytes()
    assert tile_pixels(lambda start, length: content[start : start + length]) == pixels


@pytest.mark.parametrize("tile", [b"", b"\x89PNG\r\n\x1a\n", b"RIFF" + bytes(40)])
def test_a_tile_that_is_no_png_says_nothing(tmp_path: Path, tile: bytes) -> None:
    content = covered(PLAIN, tmp_path / "it", CoveragePlan(way="whole", zoom_max=3)).archive.read_bytes()
    content = content[: content.index(b"\x89PNG")] + tile
    with pytest.raises(BrokenArchive, match="not a PNG"):
        tile_pixels(lambda start, length: content[start : start + length])


@pytest.mark.parametrize("pixels", [256, 512])
def test_every_client_is_told(pixels: int) -> None:
    documents = told(pixels)
    capabilities = documents["WMTSCapabilities.xml"]
    for side in ("Width", "Height"):
        assert {*text_of(capabilities, f".//w:TileMatrix/w:Tile{side}", WMTS)} == {f"{pixels}"}
    zooms = text_of(capabilities, ".//w:TileMatrix/ows:Identifier", WMTS)
    # deeper tiles are TiTiler's, of 256 pixels
    assert zooms == [f"{zoom}" for zoom in range(23 if pixels == 256 else 16)]
    for zoom, scale in enumerate(text_of(capabilities, ".//w:ScaleDenominator", WMTS)):
        assert float(scale) * PIXEL * pixels * 2**zoom == pytest.approx(2 * HALF_WORLD)
    (linked,) = text_of(capabilities, ".//w:TileMatrixSetLink/w:TileMatrixSet", WMTS)
    assert text_of(capabilities, ".//w:Contents/w:TileMatrixSet/ows:Identifier", WMTS) == [linked]
    # the well-known scale set is that of 256 pixels
    assert len(text_of(capabilities, ".//w:WellKnownScaleSet", WMTS)) == (pixels == 256)
    assert text_of(documents["josm.xml"], ".//j:tile-size", JOSM) == [f"{pixels}"]
    assert json.loads(documents["raster.json"])["tileSize"] == pixels
    (connection,) = ElementTree.fromstring(documents["qgis.xml"])  # noqa: S314
    assert connection.get("tilePixelRatio") == f"{pixels // 256}"


@pytest.mark.parametrize("pixels", [256, 512])
def test_every_client_is_told_the_first_zoom(pixels: int) -> None:
    documents = told(pixels, first=5)
    capabilities = documents["WMTSCapabilities.xml"]
    assert text_of(capabilities, ".//w:TileMatrix/ows:Identifier", WMTS)[0] == "5"
    scale = float(text_of(capabilities, ".//w:ScaleDenominator", WMTS)[0])
    assert scale * PIXEL * pixels * 2**5 == pytest.approx(2 * HALF_WORLD)
    # the well-known scale set begins at z0
    assert text_of(capabilities, ".//w:WellKnownScaleSet", WMTS) == []
    assert text_of(documents["josm.xml"], ".//j:min-zoom", JOSM) == ["5"]
    assert json.loads(documents["editor-layer-index.geojson"])["properties"]["min_zoom"] == 5
    assert json.loads(documents["raster.json"])["minzoom"] == 5
    for name in ("qgis.xml", "qgis-vector.xml"):
        (connection,) = ElementTree.fromstring(documents[name])  # noqa: S314
        assert connection.get("zmin") == "5"


@pytest.mark.parametrize("pixels", [256, 512])
def test_what_shows_nothing_is_as_large(pixels: int) -> None:
    with Image.open(io.BytesIO(transparent_tile(pixels))) as picture:
        assert picture.size == (pixels, pixels)
        assert picture.convert("RGBA").getchannel("A").getextrema() == (0, 0)

"""The raster address with imagery: its own tiles down to their finest zoom, and TiTiler's below."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pmtiles.tile import tileid_to_zxy

from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, FINEST, Tile
from oam_mosaic_assets.core.imagery.fragment import above, tiles_of_block, write_tiles
from oam_mosaic_assets.core.imagery.pixels import decoded
from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets_tests.servers.tiles import JSON, Serving, release, serving

WITH, WITHOUT = "20260115T030000Z-3f9c2a7d41be", "20260116T030000Z-3f9c2a7d41be"
RASTER = 1
KEYS = Keys()
BLOCK = Tile(2219, 1500)


@pytest.fixture(scope="module")
def tiles() -> dict[tuple[int, int, int], bytes]:
    """The tiles of one block of imagery, and of all zooms above it."""
    noise = np.random.default_rng(1).integers(0, 256, (1024, 1024, 4), np.uint8)
    noise[..., 3] = 255
    of_block = tiles_of_block(BLOCK, noise)
    made, _ = above(0, [BLOCK], BLOCK_ZOOM, lambda tile: decoded(of_block[tile.id(BLOCK_ZOOM)]))
    return {tileid_to_zxy(each): tile for each, tile in (of_block | made).items()}


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    mosaic: Path,
    raster: Path,
    tiles: dict[tuple[int, int, int], bytes],
) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serve")
    imagery = folder / "imagery.pmtiles"
    by_id = {Tile(x, y).id(z): tile for (z, x, y), tile in tiles.items()}
    write_tiles(imagery, [], by_id, {"name": "imagery"}, zooms=(0, FINEST))
    store = FolderStore(folder / "store")
    release(store, WITH, mosaic, raster, imagery=imagery)
    with serving(folder, {"MOSAIC_STORE": str(folder / "store")}, SERVE_RASTER="imagery") as server:
        server.serves(WITH)
        yield server


def test_every_tile_of_the_imagery_is_the_archives_own(
    served: Serving, tiles: dict[tuple[int, int, int], bytes]
) -> None:
    assert {z for z, _, _ in tiles} == set(range(FINEST + 1))
    for (z, x, y), tile in tiles.items():
        answer = served.ask(RASTER, f"/{z}/{x}/{y}.png")
        assert (answer.status, answer.content) == (200, tile)
        assert answer.headers["content-type"] == "image/webp"


def test_where_no_image_is_a_tile_shows_nothing(served: Serving) -> None:
    answer = served.ask(RASTER, f"/{FINEST}/0/0.png")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")


@pytest.mark.parametrize("zoom", [FINEST + 1, FINEST + 2, 22])
def test_deeper_tiles_are_handed_over_to_titiler(served: Serving, zoom: int) -> None:
    answer = served.ask(RASTER, f"/{zoom}/5/7.png")
    assert answer.status == 302
    assert answer.headers["location"].startswith(f"https://titiler.example.org/{zoom}/5/7.png?")


def test_clients_are_told_that_it_is_imagery(served: Serving) -> None:
    told = json.loads(served.ask(RASTER, "/raster.json").content)
    assert (told["format"], told["minzoom"], told["maxzoom"]) == ("webp", 0, 22)
    for name in ("josm.xml", "qgis.xml", "WMTSCapabilities.xml", "editor-layer-index.geojson"):
        assert b"OpenAerialMap imagery" in served.ask(RASTER, f"/{name}").content
    wmts = served.ask(RASTER, "/WMTSCapabilities.xml").content
    assert (wmts.count(b"image/webp"), wmts.count(b"image/png")) == (2, 0)


def test_where_a_release_has_no_imagery_its_coverage_is_served(
    served: Serving, mosaic: Path, raster: Path
) -> None:
    """For example after a rollback to a build that predates the imagery."""
    store = FolderStore(served.log.parent / "store")
    before = store.get_bytes(KEYS.pointer)
    assert before is not None
    release(store, WITHOUT, mosaic, raster)
    served.serves(WITHOUT)
    try:
        assert served.ask(RASTER, "/0/0/0.png").headers["content-type"] == "image/png"
        assert served.ask(RASTER, "/15/0/0.png").status == 200
        assert json.loads(served.ask(RASTER, "/raster.json").content)["format"] == "png"
    finally:
        store.put_bytes(KEYS.pointer, before[0], JSON, public=True)
        served.serves(WITH)

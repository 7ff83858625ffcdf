"""Archives to serve: mosaics of the small world, and a raster coverage that the tests make up."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer

from oam_mosaic_assets_tests.core.scene import IMAGES, PLAIN, made_from

RASTER_ZOOMS = range(16)


def raster_tiles() -> dict[tuple[int, int, int], bytes]:
    """Some tiles of each zoom, each of its own colour."""
    chance, tiles = random.Random(5), {}
    for zoom in RASTER_ZOOMS:
        for _ in range(min(4**zoom, 12)):
            place = zoom, chance.randrange(2**zoom), chance.randrange(2**zoom)
            written = io.BytesIO()
            Image.new("RGB", (256, 256), (*place[1:], zoom) if zoom < 8 else chance.randrange(1 << 24)).save(
                written, "PNG"
            )
            tiles[place] = written.getvalue()
    return tiles


def world_of_png() -> tuple[dict[str, Any], dict[str, str]]:
    """Header and metadata of a raster coverage."""
    header = {
        "tile_type": TileType.PNG,
        "tile_compression": Compression.NONE,
        "min_lon_e7": -1_800_000_000,
        "min_lat_e7": -850_511_287,
        "max_lon_e7": 1_800_000_000,
        "max_lat_e7": 850_511_287,
        "center_zoom": 0,
        "center_lon_e7": 0,
        "center_lat_e7": 0,
    }
    return header, {"name": "coverage", "attribution": "somebody"}


def write_raster(path: Path) -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        for place, tile in sorted(raster_tiles().items(), key=lambda each: zxy_to_tileid(*each[0])):
            writer.write_tile(zxy_to_tileid(*place), tile)
        writer.finalize(*world_of_png())
    return path


@pytest.fixture(scope="session")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mosaic of the whole small world, z0-10."""
    return made_from(IMAGES, tmp_path_factory.mktemp("served") / "mosaic").archive


@pytest.fixture(scope="session")
def smaller_mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of three of its images."""
    return made_from(PLAIN[:3], tmp_path_factory.mktemp("served") / "smaller").archive


@pytest.fixture(scope="session")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raster coverage, z0-15."""
    return write_raster(tmp_path_factory.mktemp("served") / "raster.pmtiles")

"""What `docs/recipes.md` tells clients, with the addresses of the tests' own server."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from affine import Affine
from PIL import Image

from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.grid import to_tiles
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets_tests.chain import REPOSITORY
from oam_mosaic_assets_tests.core.pictures import covered
from oam_mosaic_assets_tests.core.scene import IMAGES
from oam_mosaic_assets_tests.images import ImageOf, Writing, write_image
from oam_mosaic_assets_tests.servers.tiles import Serving, release, serving
from oam_mosaic_assets_tests.servers.titiler import TILES, running_titiler

BUILD: Final = "20260115T030000Z-3f9c2a7d41be"

HILL: Final = next(image for image in IMAGES if image.id == "a hill")
"""The image that clients look at; it stands alone, and covers more than one tile from z10 on."""

MIDDLE: Final = (HILL.geometry.centroid.x, HILL.geometry.centroid.y)
"""Longitude and latitude of the hill's centroid, degrees."""

SEA: Final = (0.0, -45.0)
"""Longitude and latitude of a place far from every image, degrees."""

BUCKET: Final = "https://oin-hotosm-temp.s3.us-east-1.amazonaws.com"

COVERAGE: Final = (215, 63, 63)
IMAGERY: Final = (20, 160, 60)
"""The colour of the image that TiTiler shows."""


def recipe(language: str, title: str) -> str:
    """The page's fenced block in this language that begins with this title."""
    blocks = re.findall(rf"```{language}\n(.*?)```", page(), flags=re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(title)]
    return str(found)


def entered(client: str) -> list[str]:
    """What the page's table says to enter in a client: only the parts set as code."""
    (row,) = re.findall(rf"^\| {re.escape(client)} \|(.*)\|$", page(), flags=re.MULTILINE)
    return re.findall(r"`([^`]+)`", row)


def page() -> str:
    return (REPOSITORY / "docs" / "recipes.md").read_text()


def at(served: Serving, recipe: str) -> str:
    """The recipe with this server's addresses; its viewer address stands in for the bucket."""
    recipe = recipe.replace(BUCKET, "http://127.0.0.1:8085")
    for port, own in zip((3004, 8084, 8085), served.ports, strict=True):
        recipe = recipe.replace(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{own}")
    return recipe


def pixel(zoom: int, place: tuple[float, float]) -> tuple[int, int, int, int]:
    """Column and row of the tile at a place, then of the pixel in it (of 256 x 256)."""
    x, y = to_tiles(np.array([place]), zoom)[0]
    return int(x), int(y), int(x % 1 * 256), int(y % 1 * 256)


@contextmanager
def served_recipes(folder: Path, mosaic: Path) -> Iterator[Serving]:
    """A server with the small world, a raster coverage of the hill, and a TiTiler with an image of it."""
    store = FolderStore(folder / "store")
    plan = CoveragePlan(way="exact", colour=COVERAGE)
    release(store, BUILD, mosaic, covered([HILL], folder / "exact", plan=plan).archive)
    with (
        running_titiler() as titiler,
        serving(
            folder / "serve",
            {"MOSAIC_STORE": str(store.root)},
            TITILER_URL=f"{titiler}{TILES.replace('{url}', str(image_of_the_hill(folder)))}",
        ) as server,
    ):
        server.serves(BUILD)
        yield server


def image_of_the_hill(folder: Path) -> Path:
    """A COG of one colour, some eight kilometres wide around the middle of the hill."""
    size, pixel = 800, 1e-4
    west, north = MIDDLE[0] - size / 2 * pixel, MIDDLE[1] + size / 2 * pixel
    hill = ImageOf(crs="EPSG:4326", transform=Affine(pixel, 0.0, west, 0.0, -pixel, north), size=(size, size))
    bands = np.broadcast_to(np.array(IMAGERY, np.uint8)[:, None, None], (3, size, size)).copy()
    return write_image(folder / "hill.tif", hill, Writing(bands=bands))


def kind_of(colour: tuple[int, ...]) -> str:
    """What a pixel shows on a map with a white background; its colour where that is unclear."""
    red, green, blue = colour[:3]
    if min(red, green, blue) > 250:
        return "nothing"
    return "imagery" if green > red + 25 else "coverage" if red > green + 25 else f"{colour}"


def looked_up(picture: bytes, points: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """What a picture shows at each of the named points."""
    with Image.open(io.BytesIO(picture)) as opened:
        seen = opened.convert("RGB")
    return {name: kind_of(tuple(seen.getpixel(point))) for name, point in points.items()}

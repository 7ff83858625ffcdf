"""Images of a scene that every test knows: smooth colours that depend only on longitude and latitude.

So a test knows what any image of it must show at a place without reading it.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.warp import transform
from rio_cogeo.cogeo import cog_translate
from rio_cogeo.profiles import cog_profiles

from oam_mosaic_assets.core.geometry import Area, drawable

WAVE: Final = 0.05
"""Degrees after which colours repeat; a few hundred pixels at the finest zoom."""


def scene(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Red, green and blue, 20 to 235, shape (3, ...)."""
    x, y = 2 * np.pi * longitude / WAVE, 2 * np.pi * latitude / WAVE
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + 2 * y)])
    return 127.5 + 107.5 * waves


@dataclass(frozen=True, kw_only=True)
class ImageOf:
    """An image of the scene.

    Attributes:
        crs: of the file.
        transform: from its pixels to the CRS.
        size: width and height, pixels.
    """

    crs: str
    transform: Affine
    size: tuple[int, int]

    def places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitude and latitude of the centres of its pixels."""
        width, height = self.size
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        to = self.transform
        east = to.a * columns + to.b * rows + to.c
        north = to.d * columns + to.e * rows + to.f
        found = transform(self.crs, "EPSG:4326", east.ravel().tolist(), north.ravel().tolist())
        longitude, latitude = (np.array(each).reshape(height, width) for each in found)
        return longitude, latitude

    def colours(self) -> NDArray[np.uint8]:
        """The colours it shows, shape (3, height, width)."""
        return (scene(*self.places()) + 0.5).astype(np.uint8)

    def footprint(self, shrunk: float = 0.0) -> Area:
        """Its outline in EPSG:4326, moved inwards by `shrunk` pixels."""
        width, height = self.size
        along = np.linspace(0.0, 1.0, 9)
        x = np.concatenate([along, np.ones(9), along[::-1], np.zeros(9)]) * (width - 2 * shrunk) + shrunk
        y = np.concatenate([np.zeros(9), along, np.ones(9), along[::-1]]) * (height - 2 * shrunk) + shrunk
        to = self.transform
        east, north = to.a * x + to.b * y + to.c, to.d * x + to.e * y + to.f
        if not CRS.from_string(self.crs).is_geographic:
            found = transform(self.crs, "EPSG:4326", east.tolist(), north.tolist())
            east, north = np.array(found[0]), np.array(found[1])
            if np.ptp(east) > 180.0:  # across the antimeridian
                east = np.where(east < 0.0, east + 360.0, east)
        ring = np.unique(np.column_stack([east, north]).round(9), axis=0, return_index=True)[1]
        outline = shapely.Polygon(np.column_stack([east, north])[np.sort(ring)])
        return drawable(json.loads(shapely.to_geojson(outline)))


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How a file is written.

    Attributes:
        bands: (n, height, width).
        mask: an internal mask; None writes none.
        nodata: the value that the file declares.
        colours: colour interpretations of the bands.
        table: a colour table for the first band.
        profile: a rio-cogeo profile; None writes a plain striped GeoTIFF without overviews.
        options: further creation options.
    """

    bands: NDArray[Any]
    mask: NDArray[np.uint8] | None = None
    nodata: float | None = None
    colours: tuple[ColorInterp, ...] | None = None
    table: dict[int, tuple[int, int, int, int]] | None = None
    profile: str | None = "deflate"
    options: dict[str, Any] = field(default_factory=dict)


def write_image(path: Path, image: ImageOf, writing: Writing) -> Path:
    """Write an image, with rio-cogeo unless `writing.profile` is None."""
    width, height = image.size
    stated = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": len(writing.bands),
        "dtype": writing.bands.dtype,
        "crs": image.crs,
        "transform": image.transform,
        "nodata": writing.nodata,
    }
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        plain = writing.profile is None
        place = path if plain else memory.name
        with rasterio.open(place, "w", **stated, **(writing.options if plain else {})) as made:
            if writing.colours:
                made.colorinterp = writing.colours
            if writing.table:
                made.write_colormap(1, writing.table)
            made.write(writing.bands)
            if writing.mask is not None:
                made.write_mask(writing.mask)
        if writing.profile is not None:
            warnings.simplefilter("ignore", UserWarning)  # that not every reader supports the profile
            profile = (
                cog_profiles.get(writing.profile) | {"blockxsize": 256, "blockysize": 256} | writing.options
            )
            cog_translate(
                memory.name,
                path,
                profile,
                nodata=writing.nodata,
                add_mask=writing.mask is not None,
                colormap=writing.table,
                in_memory=True,
                quiet=True,
                config={"GDAL_TIFF_INTERNAL_MASK": True},
            )
    return path


def utm(zone: int, east: float, north: float, pixel: float, size: tuple[int, int]) -> ImageOf:
    """An image in a northern UTM zone, by its north-western corner and its pixel size, both in metres."""
    return ImageOf(
        crs=f"EPSG:{32600 + zone}", transform=Affine(pixel, 0.0, east, 0.0, -pixel, north), size=size
    )

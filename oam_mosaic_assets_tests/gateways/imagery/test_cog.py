"""Reading images of every kind: what the grid shows is compared with the scene and with GDAL."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject, transform

from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.imagery.blocks import WORLD, Window, in_pixels, window_of
from oam_mosaic_assets.core.imagery.chip import within
from oam_mosaic_assets.core.imagery.outcome import NO_MEMORY, Reason, Unreadable
from oam_mosaic_assets.core.imagery.pixels import straightened
from oam_mosaic_assets.core.imagery.warp import HALF_WORLD
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.imagery.cog import MOST_PIXELS, Cog
from oam_mosaic_assets.gateways.imagery.hosts import Hosts
from oam_mosaic_assets.gateways.imagery.source import Limits, Source
from oam_mosaic_assets_tests.images import ImageOf, Writing, scene, utm, write_image
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.image_hosts import Nginx

RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
PLACE = utm(33, 500_000, 5_000_000, 4.0, (700, 600))
ROTATED = ImageOf(
    crs="EPSG:32633",
    transform=Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(4, -4),
    size=(700, 600),
)


def opened(nginx: Nginx, name: str, render: str | None = None) -> Cog:
    hosts = Hosts(Rules(private_hosts=frozenset({nginx.host})))
    return Cog(Source(nginx.address(name), hosts, Limits(wait=0.0)), render)


def expected(window: Window) -> np.ndarray:
    """The scene at the centres of a window's pixels: (height, width, 3)."""
    metres = 2 * HALF_WORLD / WORLD
    x = (np.arange(window.x0, window.x1) + 0.5) * metres - HALF_WORLD
    y = HALF_WORLD - (np.arange(window.y0, window.y1) + 0.5) * metres
    places = np.meshgrid(x, y)
    longitude, latitude = transform("EPSG:3857", "EPSG:4326", *(each.ravel().tolist() for each in places))
    return np.moveaxis(scene(np.array(longitude), np.array(latitude)).reshape(3, *window.shape), 0, -1)


def seen(cog: Cog, footprint: Area) -> tuple[Window, np.ndarray]:
    """The footprint's window, and what the grid shows in it of the footprint, with straight alpha."""
    area = in_pixels(footprint)
    window = window_of(area)
    pixels = cog.seen_in(window)
    assert pixels is not None
    return window, straightened(within(pixels, window, area))


def black_outside(image: ImageOf, share: float = 0.2) -> np.ndarray:
    """A mask: true in the middle of an image, false in a collar around it."""
    width, height = image.size
    inside = np.zeros((height, width), bool)
    inside[int(height * share) : int(height * (1 - share)), int(width * share) : int(width * (1 - share))] = (
        True
    )
    return inside


def grey(image: ImageOf) -> np.ndarray:
    return image.colours()[:1]


COLLARED = PLACE.colours() * black_outside(PLACE)
WIDE = (PLACE.colours().astype(np.uint16) - 20) * 14 + 200
TABLE = {0: (0, 0, 0, 0)} | {value: (value, 255 - value, 128, 255) for value in range(1, 256)}


def with_alpha(opaque: int) -> Writing:
    """An image of 16 bits whose alpha is at most `opaque`."""
    alpha = (opaque * black_outside(PLACE)).astype(np.uint16)
    return Writing(bands=np.concatenate([WIDE, alpha[None]]), colours=RGBA)


KINDS: dict[str, tuple[ImageOf, Callable[[], Writing], str | None]] = {
    "three bands": (PLACE, lambda: Writing(bands=PLACE.colours()), None),
    "JPEG in YCbCr": (PLACE, lambda: Writing(bands=PLACE.colours(), profile="jpeg"), None),
    "WEBP inside": (PLACE, lambda: Writing(bands=PLACE.colours(), profile="webp"), None),
    "four bands with alpha": (
        PLACE,
        lambda: Writing(
            bands=np.concatenate([PLACE.colours(), 255 * black_outside(PLACE)[None]]).astype(np.uint8),
            colours=RGBA,
        ),
        None,
    ),
    "internal mask": (
        PLACE,
        lambda: Writing(
            bands=PLACE.colours(), mask=(255 * black_outside(PLACE)).astype(np.uint8), profile="jpeg"
        ),
        None,
    ),
    "nodata 0": (PLACE, lambda: Writing(bands=COLLARED, nodata=0), None),
    "black collar without nodata": (PLACE, lambda: Writing(bands=COLLARED), None),
    "rotated": (ROTATED, lambda: Writing(bands=ROTATED.colours()), None),
    "no overviews, no tiles": (PLACE, lambda: Writing(bands=PLACE.colours(), profile=None), None),
    "bands one after another": (
        PLACE,
        lambda: Writing(bands=PLACE.colours(), profile="deflate", options={"INTERLEAVE": "BAND"}),
        None,
    ),
    "BigTIFF": (PLACE, lambda: Writing(bands=PLACE.colours(), options={"BIGTIFF": "YES"}), None),
    "more bands than colours": (
        PLACE,
        lambda: Writing(bands=np.concatenate([PLACE.colours(), PLACE.colours()[:2]])),
        None,
    ),
    "bands in another order, as the catalogue says": (
        PLACE,
        lambda: Writing(bands=PLACE.colours()[::-1]),
        "bidx=3&bidx=2&bidx=1",
    ),
    "16 bits, as the catalogue says": (PLACE, lambda: Writing(bands=WIDE), "rescale=-80,3490"),
    "16 bits with alpha": (PLACE, lambda: with_alpha(65_535), "rescale=-80,3490"),
    "16 bits with the alpha of a byte": (PLACE, lambda: with_alpha(255), "rescale=-80,3490"),
    "degrees": (
        ImageOf(crs="EPSG:4326", transform=Affine(4e-5, 0, 15.0, 0, -4e-5, 45.0), size=(700, 600)),
        lambda: Writing(bands=KINDS["degrees"][0].colours()),
        None,
    ),
    "Web Mercator": (
        ImageOf(crs="EPSG:3857", transform=Affine(5, 0, 1_670_000, 0, -5, 5_620_000), size=(700, 600)),
        lambda: Writing(bands=KINDS["Web Mercator"][0].colours()),
        None,
    ),
    "Lambert's conformal conic": (
        ImageOf(crs="EPSG:2154", transform=Affine(5, 0, 652_000, 0, -5, 6_862_000), size=(700, 600)),
        lambda: Writing(bands=KINDS["Lambert's conformal conic"][0].colours()),
        None,
    ),
    "polar stereographic": (
        ImageOf(crs="EPSG:3995", transform=Affine(5, 0, 900_000, 0, -5, -900_000), size=(250, 200)),
        lambda: Writing(bands=KINDS["polar stereographic"][0].colours()),
        None,
    ),
    "at the edge of its zone": (
        utm(33, 166_000, 100_000, 4.0, (700, 600)),
        lambda: Writing(bands=KINDS["at the edge of its zone"][0].colours()),
        None,
    ),
    "coarser than the grid": (
        utm(33, 500_000, 5_000_000, 24.0, (300, 200)),
        lambda: Writing(bands=KINDS["coarser than the grid"][0].colours()),
        None,
    ),
    "much finer than the grid": (
        utm(33, 500_000, 5_000_000, 0.4, (1500, 1200)),
        lambda: Writing(bands=KINDS["much finer than the grid"][0].colours(), profile="jpeg"),
        None,
    ),
    "much finer than the grid, without overviews": (
        utm(33, 500_000, 5_000_000, 0.4, (1500, 1200)),
        lambda: Writing(bands=KINDS["much finer than the grid"][0].colours(), profile=None),
        None,
    ),
}
"""The image, how it is written, and how the catalogue says it is to be rendered."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_grid_shows_the_scene(nginx: Nginx, kind: str) -> None:
    image, writing, render = KINDS[kind]
    write_image(nginx.root / f"{kind}.tif", image, writing())
    footprint = image.footprint()
    with opened(nginx, f"{kind}.tif", render) as cog:
        window, pixels = seen(cog, footprint)
    whole = pixels[..., 3] == 255
    off = np.abs(pixels[whole][:, :3].astype(float) - expected(window)[whole])
    assert whole.sum() > 0.3 * in_pixels(footprint).area
    assert off.mean() < 2.0
    assert np.percentile(off, 99) < 8.0


@pytest.mark.parametrize(
    "kind",
    [
        "four bands with alpha",
        "16 bits with alpha",
        "16 bits with the alpha of a byte",
        "internal mask",
        "nodata 0",
        "black collar without nodata",
    ],
)
def test_a_mask_is_exact_to_a_pixel(nginx: Nginx, kind: str) -> None:
    image, writing, _ = KINDS[kind]
    write_image(nginx.root / f"{kind}.tif", image, writing())
    with opened(nginx, f"{kind}.tif") as cog:
        window, pixels = seen(cog, image.footprint())
    inner = ImageOf(crs=image.crs, transform=image.transform @ Affine.translation(140, 120), size=(420, 360))
    area = in_pixels(inner.footprint())
    columns, rows = np.meshgrid(np.arange(window.x0, window.x1) + 0.5, np.arange(window.y0, window.y1) + 0.5)
    middles = shapely.points(columns, rows)
    inside, distance = shapely.contains(area, middles), shapely.distance(area.exterior, middles)
    assert (pixels[..., 3] > 127)[inside & (distance > 1.0)].all()
    assert not (pixels[..., 3] > 127)[~inside & (distance > 1.0)].any()


@pytest.mark.parametrize("pixel", [4.0, 1.0], ids=["read whole", "read from an overview"])
@pytest.mark.parametrize(("kind", "big"), [("uint8", "NO"), ("uint16", "YES")])
def test_a_mask_that_is_younger_than_the_overviews_counts(
    nginx: Nginx, kind: str, big: str, pixel: float
) -> None:
    image = utm(33, 500_000, 5_000_000, pixel, (1400, 1201))
    inside = black_outside(image)
    bands = np.where(inside, image.colours(), 255).astype(kind)
    mask = (255 * inside).astype(np.uint8)
    write_image(nginx.root / "early.tif", image, Writing(bands=bands, mask=mask, options={"BIGTIFF": big}))
    path = write_image(nginx.root / "late.tif", image, Writing(bands=bands, options={"BIGTIFF": big}))
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file,
    ):
        file.write_mask(mask)
    shown = []
    for name in ("early.tif", "late.tif"):
        with opened(nginx, name) as cog:
            shown.append(seen(cog, image.footprint())[1].astype(float))
    early, late = shown
    whole = (early[..., 3] == 255) & (late[..., 3] == 255)
    assert ((early[..., 3] > 127) != (late[..., 3] > 127)).mean() < 0.01
    assert 0.2 < whole.mean() < 0.4
    assert np.abs(early - late)[whole].mean() < 1.0


@pytest.mark.parametrize(
    "kind",
    [
        "three bands",
        "rotated",
        "JPEG in YCbCr",
        "degrees",
        "no overviews, no tiles",
        "much finer than the grid",
    ],
)
def test_it_agrees_with_gdals_own_warp(nginx: Nginx, kind: str) -> None:
    image, writing, _ = KINDS[kind]
    path = write_image(nginx.root / f"{kind}.tif", image, writing())
    with opened(nginx, f"{kind}.tif") as cog:
        window, pixels = seen(cog, image.footprint(shrunk=8))
    metres = 2 * HALF_WORLD / WORLD
    to = Affine(metres, 0, window.x0 * metres - HALF_WORLD, 0, -metres, HALF_WORLD - window.y0 * metres)
    warped = np.zeros((3, *window.shape), np.uint8)
    with rasterio.open(path) as file:
        for band in range(3):
            reproject(
                rasterio.band(file, band + 1),
                warped[band],
                dst_transform=to,
                dst_crs="EPSG:3857",
                resampling=Resampling.average,
            )
    whole = pixels[..., 3] == 255
    off = np.abs(pixels[whole][:, :3].astype(float) - np.moveaxis(warped, 0, -1)[whole])
    assert whole.any()
    assert off.mean() < 2.0


def test_windows_fit_together_without_seams(nginx: Nginx) -> None:
    image = utm(33, 500_000, 5_000_000, 1.3, (1500, 1200))
    for profile in ("deflate", None):
        write_image(nginx.root / "seams.tif", image, Writing(bands=image.colours(), profile=profile))
        window = window_of(in_pixels(image.footprint()))
        with opened(nginx, "seams.tif") as cog:
            whole = cog.seen_in(window)
            assert whole is not None
            for y in range(window.y0, window.y1, 128):
                for x in range(window.x0, window.x1, 128):
                    part = Window(x, y, x + 128, y + 128) & window
                    pixels = cog.seen_in(part)
                    rows = slice(part.y0 - window.y0, part.y1 - window.y0)
                    columns = slice(part.x0 - window.x0, part.x1 - window.x0)
                    shown = np.zeros((*part.shape, 4), np.uint8) if pixels is None else pixels
                    assert np.array_equal(shown, whole[rows, columns])


@pytest.mark.parametrize(
    "image",
    [
        utm(60, 832_000, 100_000, 4.0, (700, 600)),
        utm(1, 166_000, 100_000, 4.0, (700, 600)),
        ImageOf(crs="EPSG:4326", transform=Affine(4e-5, 0, 179.99, 0, -4e-5, 1.0), size=(700, 600)),
        ImageOf(crs="EPSG:4326", transform=Affine(4e-5, 0, -180.01, 0, -4e-5, 1.0), size=(700, 600)),
        ImageOf(crs="EPSG:3857", transform=Affine(4, 0, 20_037_000, 0, -4, 100_000), size=(700, 600)),
        ImageOf(crs="EPSG:3395", transform=Affine(4, 0, 20_037_000, 0, -4, 5_500_000), size=(700, 600)),
        ImageOf(crs="EPSG:6933", transform=Affine(4, 0, -17_369_000, 0, -4, 100_000), size=(700, 600)),
    ],
    ids=[
        "zone 60",
        "zone 1",
        "degrees beyond 180",
        "degrees beyond -180",
        "Web Mercator beyond the map",
        "World Mercator beyond the map",
        "EASE-Grid beyond the map",
    ],
)
def test_an_image_across_the_antimeridian_is_seen_at_both_ends_of_the_map(
    nginx: Nginx, image: ImageOf
) -> None:
    write_image(nginx.root / "across.tif", image, Writing(bands=image.colours()))
    footprint = image.footprint()
    assert len(footprint.geoms) == 2
    with opened(nginx, "across.tif") as cog:
        for part in footprint.geoms:
            window, pixels = seen(cog, part)
            whole = pixels[..., 3] == 255
            assert whole.sum() > 0.7 * in_pixels(part).area - 200
            assert np.abs(pixels[whole][:, :3] - expected(window)[whole]).mean() < 2.0


def test_an_image_one_pixel_wide_is_seen(nginx: Nginx) -> None:
    image = utm(33, 500_000, 5_000_000, 10.0, (1, 300))
    write_image(nginx.root / "thin.tif", image, Writing(bands=image.colours(), profile=None))
    with opened(nginx, "thin.tif") as cog:
        window, pixels = seen(cog, image.footprint())
    assert (pixels[..., 3] > 0).any(axis=1).sum() > 300
    shown = pixels[..., 3] > 200
    assert np.abs(pixels[shown][:, :3] - expected(window)[shown]).mean() < 8.0


def test_an_image_smaller_than_a_pixel_is_seen(nginx: Nginx) -> None:
    image = utm(33, 500_000, 5_000_000, 0.05, (20, 20))
    write_image(nginx.root / "small.tif", image, Writing(bands=image.colours(), profile=None))
    with opened(nginx, "small.tif") as cog:
        _, pixels = seen(cog, image.footprint())
    assert pixels[..., 3].any()


def test_a_single_band_is_grey(nginx: Nginx) -> None:
    write_image(nginx.root / "grey.tif", PLACE, Writing(bands=grey(PLACE)))
    with opened(nginx, "grey.tif") as cog:
        window, pixels = seen(cog, PLACE.footprint())
    whole = pixels[..., 3] == 255
    assert np.abs(pixels[whole][:, :3] - expected(window)[whole][:, :1]).mean() < 2.0


def test_a_palette_is_looked_up(nginx: Nginx) -> None:
    bands = np.full((1, 600, 700), 0, np.uint8)
    bands[0, :300] = 77
    write_image(nginx.root / "palette.tif", PLACE, Writing(bands=bands, table=TABLE, nodata=0, profile=None))
    with opened(nginx, "palette.tif") as cog:
        _, pixels = seen(cog, PLACE.footprint())
    whole = pixels[..., 3] == 255
    assert np.unique(pixels[whole], axis=0).tolist() == [[77, 178, 128, 255]]
    assert 0.4 < whole.sum() / in_pixels(PLACE.footprint()).area < 0.52


def test_a_colour_table_of_the_catalogue_is_looked_up(nginx: Nginx) -> None:
    write_image(nginx.root / "classes.tif", PLACE, Writing(bands=np.full((1, 600, 700), 3, np.uint8)))
    with opened(nginx, "classes.tif", 'colormap={"3":[200,100,50,255]}') as cog:
        _, pixels = seen(cog, PLACE.footprint())
    assert np.unique(pixels[pixels[..., 3] == 255], axis=0).tolist() == [[200, 100, 50, 255]]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32"])
def test_a_palette_without_colours_is_grey(nginx: Nginx, kind: str) -> None:
    bands = grey(PLACE).astype(kind)
    writing = Writing(bands=bands, colours=(ColorInterp.palette,), profile=None)
    write_image(nginx.root / f"blank-{kind}.tif", PLACE, writing)
    with rasterio.open(nginx.root / f"blank-{kind}.tif") as made:
        assert made.colorinterp == (ColorInterp.palette,)
    with opened(nginx, f"blank-{kind}.tif") as cog:
        _, pixels = seen(cog, PLACE.footprint())
    shown = pixels[pixels[..., 3] == 255]
    assert len(np.unique(shown[:, 0])) > 50
    assert (shown[:, :1] == shown[:, :3]).all()


@pytest.mark.parametrize("kind", ["uint16", "int16", "float32"])
def test_values_beyond_a_byte_are_stretched_by_their_percentiles(nginx: Nginx, kind: str) -> None:
    bands = (grey(PLACE).astype(np.float64) * 11 - 100).astype(kind)
    bands[0, :10, :10] = np.iinfo(kind).max if kind != "float32" else 1e30  # a few extreme outliers
    if kind == "float32":
        bands[0, 100:120] = np.nan
    write_image(nginx.root / "wide.tif", PLACE, Writing(bands=bands))
    with opened(nginx, "wide.tif") as cog:
        window, pixels = seen(cog, PLACE.footprint(shrunk=15))
    whole = pixels[..., 3] == 255
    shown, wanted = pixels[whole][:, 0].astype(float), expected(window)[whole][:, 0]
    low, high = np.percentile(grey(PLACE), [2, 98])
    stretched = np.clip((wanted - low) / (high - low), 0, 1) * 255
    assert np.abs(shown - stretched).mean() < 4.0
    height, width = window.shape
    middle = pixels[height // 8 : height // 2, width // 3 : width * 2 // 3, 3]
    assert (kind == "float32") == bool((middle == 0).any())


@pytest.mark.parametrize(
    "render", ["rescale=5,1&colormap=[", "bidx=99&rescale=a,b", "bidx=0&nodata=x", "rescale=nan,nan"]
)
def test_nonsense_in_the_catalogue_costs_no_image(nginx: Nginx, render: str) -> None:
    write_image(nginx.root / "plain.tif", PLACE, Writing(bands=PLACE.colours()))
    with opened(nginx, "plain.tif", render) as cog:
        _, pixels = seen(cog, PLACE.footprint())
    assert (pixels[..., 3] == 255).any()


def test_an_image_elsewhere_than_its_footprint_shows_nothing(nginx: Nginx) -> None:
    write_image(nginx.root / "elsewhere.tif", PLACE, Writing(bands=PLACE.colours()))
    with opened(nginx, "elsewhere.tif") as cog:
        assert cog.seen_in(Window(0, 0, 1024, 1024)) is None


@pytest.mark.parametrize("kind", ["complex64", "cfloat"])
def test_pixels_that_are_no_brightness_are_told(nginx: Nginx, kind: str) -> None:
    bands = np.ones((1, 100, 100), np.complex64 if kind == "complex64" else np.complex128)
    image = utm(33, 500_000, 5_000_000, 4.0, (100, 100))
    write_image(nginx.root / "complex.tif", image, Writing(bands=bands, profile=None))
    with pytest.raises(Unreadable) as refused:
        opened(nginx, "complex.tif")
    assert refused.value.reason is Reason.UNSUPPORTED


def test_an_image_that_does_not_say_where_it_lies_is_told(nginx: Nginx) -> None:
    path = nginx.root / "nowhere.tif"
    image = {"driver": "GTiff", "width": 50, "height": 50, "count": 3, "dtype": "uint8"}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path, "w", **image) as made:
        made.write(np.ones((3, 50, 50), np.uint8))
    with pytest.raises(Unreadable) as refused:
        opened(nginx, "nowhere.tif")
    assert refused.value.reason is Reason.NO_GEOREFERENCE


def test_a_large_cog_costs_few_requests(nginx: Nginx) -> None:
    image = utm(33, 500_000, 5_000_000, 0.1, (5000, 5000))
    noise = np.random.default_rng(1).integers(1, 256, (3, 500, 500), dtype=np.uint8)
    write_image(nginx.root / "large.tif", image, Writing(bands=np.tile(noise, (1, 10, 10)), profile="jpeg"))
    with opened(nginx, "large.tif") as cog:
        seen(cog, image.footprint())
        assert cog.source.requests <= 3
        assert cog.source.bytes < 300_000


def test_a_tiled_image_without_overviews_costs_few_requests(nginx: Nginx) -> None:
    image = utm(33, 500_000, 5_000_000, 0.1, (6000, 6000))
    noise = np.random.default_rng(1).integers(1, 256, (3, 600, 600), dtype=np.uint8)
    tiles = {"TILED": "YES", "INTERLEAVE": "PIXEL", "COMPRESS": "JPEG", "PHOTOMETRIC": "YCBCR"}
    writing = Writing(bands=np.tile(noise, (1, 10, 10)), profile=None, options=tiles)
    path = write_image(nginx.root / "bare.tif", image, writing)
    with opened(nginx, "bare.tif") as cog:
        seen(cog, image.footprint())
        assert cog.source.requests <= 80
        assert cog.source.bytes < 1.1 * path.stat().st_size


@pytest.mark.parametrize("opaque", [65_535, 255])
def test_to_open_an_image_without_overviews_takes_a_piece_of_it(nginx: Nginx, opaque: int) -> None:
    """It may be larger than what is read of one, but not where a window is."""
    image = utm(33, 500_000, 5_000_000, 4.0, (1400, 1200))
    bands = np.concatenate(
        [image.colours().astype(np.uint16) * 14, np.full((1, 1200, 1400), opaque, np.uint16)]
    )
    tiles = {"TILED": "YES", "INTERLEAVE": "PIXEL"}
    writing = Writing(bands=bands, colours=RGBA, profile=None, options=tiles)
    path = write_image(nginx.root / "wide.tif", image, writing)
    with opened(nginx, "wide.tif", "rescale=0,3570") as cog:
        assert cog.source.bytes < 0.1 * path.stat().st_size
        window, pixels = seen(cog, image.footprint())
    whole = pixels[..., 3] == 255
    assert whole.sum() > 0.9 * in_pixels(image.footprint()).area
    assert np.abs(pixels[whole][:, :3] - expected(window)[whole]).mean() < 2.0


def test_percentiles_are_not_taken_of_more_pixels_than_may_be_read(nginx: Nginx) -> None:
    side = math.isqrt(MOST_PIXELS) + 1
    image = utm(33, 500_000, 5_000_000, 0.1, (side, side))
    with rasterio.open(
        nginx.root / "vast.tif",
        "w",
        driver="GTiff",
        width=side,
        height=side,
        count=1,
        dtype="uint16",
        crs=image.crs,
        transform=image.transform,
        TILED="YES",
        SPARSE_OK="YES",
    ):
        pass  # no tile is stored, so that it is small
    with pytest.raises(Unreadable) as refused:
        opened(nginx, "vast.tif")
    assert refused.value.reason is Reason.TOO_LARGE


def test_an_image_in_wide_strips_is_read_once_and_costs_few_requests(nginx: Nginx) -> None:
    """GDAL reads them one by one, and caches less than a thousand rows."""
    image = utm(33, 500_000, 5_000_000, 0.5, (12_000, 1500))
    writing = Writing(
        bands=np.full((3, 1500, 12_000), 99, np.uint8), profile=None, options={"INTERLEAVE": "PIXEL"}
    )
    path = write_image(nginx.root / "strips.tif", image, writing)
    with opened(nginx, "strips.tif") as cog:
        seen(cog, image.footprint())
        assert cog.source.requests <= 100
        assert cog.source.bytes < 1.1 * path.stat().st_size


def test_an_image_in_a_bucket_is_read_as_a_stranger_reads_it(ceph: CephServer, tmp_path: Path) -> None:
    """What is not public there is not shown, even if we had the right to read it."""
    path = write_image(tmp_path / "image.tif", PLACE, Writing(bands=PLACE.colours()))
    bucket, client = new_bucket(ceph), client_of(ceph)
    client.upload_file(str(path), bucket, "2026/an image.tif", ExtraArgs={"ACL": "public-read"})
    client.upload_file(str(path), bucket, "private.tif")
    rules = Rules(frozenset({ceph.endpoint.removeprefix("http://")}), ceph.endpoint)
    with Cog(Source(f"s3://{bucket}/2026/an image.tif", Hosts(rules))) as cog:
        window, pixels = seen(cog, PLACE.footprint())
    whole = pixels[..., 3] == 255
    assert np.abs(pixels[whole][:, :3] - expected(window)[whole]).mean() < 2.0
    for name, reason in (("private.tif", Reason.FORBIDDEN), ("nothing.tif", Reason.MISSING)):
        with pytest.raises(Unreadable) as refused:
            Source(f"s3://{bucket}/{name}", Hosts(rules)).opened()
        assert refused.value.reason in {reason, Reason.FORBIDDEN}


def test_what_fails_for_lack_of_memory_is_not_said_to_lack_a_georeference(
    nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(*_: object) -> None:
        raise MemoryError

    write_image(nginx.root / "starved.tif", PLACE, Writing(bands=PLACE.colours()))
    monkeypatch.setattr("oam_mosaic_assets.gateways.imagery.cog.project", starved)
    with pytest.raises(Unreadable) as refused:
        opened(nginx, "starved.tif")
    assert (refused.value.reason, refused.value.detail) == (Reason.TOO_LARGE, NO_MEMORY)

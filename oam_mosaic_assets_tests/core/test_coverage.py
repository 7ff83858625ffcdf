"""Coverage as pictures: the pixels that footprints overlap and no others, compared with GEOS and GDAL."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.geometry import Undrawable, drawable
from oam_mosaic_assets.core.grid import project
from oam_mosaic_assets.core.reach import polygons_of
from oam_mosaic_assets_tests.core.pictures import (
    Bits,
    Covered,
    Tile,
    bits_of,
    covered,
    gdal_bits,
    judged,
    pixels_of,
    true_bits,
)
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAIN, footprint
from oam_mosaic_assets_tests.core.strategies import examples

EXACT = CoveragePlan(way="exact", zoom_max=10)
WHOLE = CoveragePlan(way="whole", zoom_max=10)

CONTINENT = footprint("a continent", 2.0, 3.0, 12.0, 13.0)
"""Four fifths of the largest area that an image may have."""

corners = st.tuples(st.floats(0, 1), st.floats(0, 1))


@st.composite
def areas(draw: st.DrawFn) -> list[Footprint]:
    """Up to three images near each other, from part of a pixel to tens of pixels, ragged, some with holes."""
    west, south = draw(
        st.sampled_from([(0.0, 0.0), (-180.0, 12.0), (179.9995, -30.0), (33.0, 85.0505), (-70.0, -85.0512)])
        | st.tuples(st.floats(-180, 179), st.floats(-80, 80))
    )
    found = []
    for number in range(draw(st.integers(1, 3))):
        size = draw(st.sampled_from([1e-6, 1e-4, 1e-3, 4e-3]))
        flat = draw(st.sampled_from([1.0, 1.0, 1e-3]))  # slivers too
        dx, dy = draw(corners)
        outline = draw(st.lists(corners, min_size=3, max_size=8))
        ring, hole = (
            [[west + (dx + x) * size, south + (dy + y * flat) * size] for x, y in points]
            for points in (outline, [(0.5, 0.5), (0.75, 0.5), (0.5, 0.75)])
        )
        rings = [ring, hole] if draw(st.booleans()) else [ring]
        try:
            geometry = drawable({"type": "Polygon", "coordinates": rings})
        except Undrawable:
            continue
        found.append(Footprint(id=f"{number}", geometry=geometry))
    return found


@examples(60)
@given(images=areas())
def test_every_pixel_and_tile_that_an_image_has_something_in_is_covered_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, images: list[Footprint]
) -> None:
    if not images:
        return
    folder = tmp_path_factory.mktemp("areas")
    exact = bits_of(covered(images, folder / "exact", CoveragePlan(way="exact")).archive)
    whole = bits_of(covered(images, folder / "whole", CoveragePlan(way="whole")).archive)
    geometries = [each.geometry for each in images]
    for zoom in range(16):
        inside, near = true_bits(geometries, 256 << zoom)
        assert inside <= pixels_of(exact, zoom) <= near
        inside, near = true_bits(geometries, 1 << zoom)
        for tiles in (exact, whole):
            assert inside <= {(x, y) for z, x, y in tiles if z == zoom} <= near
    assert all(bits.all() for bits in whole.values())


def aligned(zoom: int, column: int, row: int) -> Footprint:
    """An image that is exactly a tile, in degrees as other programs write them."""
    side = 1 << zoom
    south, north = (
        math.degrees(math.atan(math.sinh(math.pi * (1.0 - 2.0 * each / side)))) for each in (row + 1, row)
    )
    west, east = (each / side * 360.0 - 180.0 for each in (column, column + 1))
    return footprint(f"{zoom}/{column}/{row}", west, south, east, north)


@pytest.mark.parametrize("way", ["exact", "whole"])
def test_an_image_aligned_with_tiles_covers_them_and_not_their_neighbours(
    tmp_path: Path, way: Literal["exact", "whole"]
) -> None:
    chance = np.random.default_rng(3)
    columns, rows = chance.integers(0, 512, 60), chance.integers(64, 448, 60)
    places = set(zip(columns.tolist(), rows.tolist(), strict=True))
    images = [aligned(9, *each) for each in places]
    made = covered(images, tmp_path / "it", CoveragePlan(way=way, zoom_max=10))
    tiles = bits_of(made.archive)
    assert {(x, y) for zoom, x, y in tiles if zoom == 9} == places
    assert sum(int(bits.sum()) for (zoom, _, _), bits in tiles.items() if zoom == 10) == len(places) * 512**2
    assert all(each.passed for each in judged(made))


def test_images_that_all_but_coincide_cover_no_pixels_beside_them(tmp_path: Path) -> None:
    """Along the sides of pixels, and so near each other that GEOS joins them only by moving corners."""
    rings = [
        [
            (11.399087905883789, -0.9453821337743133),
            (11.4347505569458, -0.9453821337743133),
            (11.4347505569458, -0.9584695072575005),
            (11.399087905883789, -0.9584695072575005),
        ],
        [
            (11.39908790588052, -0.9453821337686386),
            (11.434750556950348, -0.9453821337768711),
            (11.434750556944238, -0.9584695072573407),
            (11.399087905877906, -0.9584695072524653),
        ],
        [
            (11.399087905877508, -0.9453821337668803),
            (11.434750556947364, -0.9453821337751126),
            (11.434750556941253, -0.9584695072555824),
            (11.399087905874921, -0.958469507250707),
        ],
    ]
    images = [Footprint(id=f"{n}", geometry=shapely.Polygon(ring)) for n, ring in enumerate(rings)]
    made = covered(images, tmp_path / "it", CoveragePlan(way="exact"))
    assert [each.text for each in judged(made) if not each.passed] == []


def test_the_thinnest_image_there_may_be_survives_rounding() -> None:
    threads = [shapely.box(west, 3.0, west + 3e-11, 4.0) for west in np.linspace(0.0, 1e-9, 100)]
    parts = polygons_of(np.array([drawable(json.loads(shapely.to_geojson(each))) for each in threads]))
    assert len(parts) == len(threads)
    assert (shapely.area(parts) > 0.0).all()


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Covered:
    """The images of the scene, and a continent."""
    return covered([*IMAGES, CONTINENT], tmp_path_factory.mktemp("exact") / "it", EXACT)


@pytest.fixture(scope="module")
def tiles(exact: Covered) -> dict[Tile, Bits]:
    return bits_of(exact.archive)


@pytest.mark.parametrize("zoom", range(EXACT.zoom_max + 1))
def test_gdal_burns_the_same_pixels(tiles: dict[Tile, Bits], zoom: int) -> None:
    """Where they differ, GEOS decides: GDAL burns what an edge merely touches, and misses tips of dots."""
    images = [each.geometry for each in (*IMAGES, CONTINENT)]
    pixel = 1.0 / (256 << zoom)
    whole = shapely.union_all(project(np.array(images), 0))
    differing = 0
    for part in shapely.get_parts(images):
        west, south, east, north = shapely.bounds(part)
        (left, top), (right, bottom) = tile_of(west, north, zoom), tile_of(east, south, zoom)
        burnt = gdal_bits(images, zoom, 256, (left, top, right + 1, bottom + 1))
        ours = np.zeros_like(burnt)
        for x, y in product(range(left, right + 1), range(top, bottom + 1)):
            if (zoom, x, y) in tiles:
                ours[(y - top) * 256 :, (x - left) * 256 :][:256, :256] = tiles[zoom, x, y]
        row, column = np.nonzero(ours != burnt)
        differing += len(row)
        x, y = (column + left * 256) * pixel, (row + top * 256) * pixel
        inside = shapely.area(shapely.intersection(whole, shapely.box(x, y, x + pixel, y + pixel)))
        assert (inside[ours[row, column]] > 0.0).all()
        assert (inside[burnt[row, column]] < 1e-9 * pixel**2).all()
    assert differing < 300


def tile_of(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    y = 0.5 - math.asinh(math.tan(math.radians(lat))) / math.tau
    column, row = (min(max(int(part * (1 << zoom)), 0), (1 << zoom) - 1) for part in (lon / 360 + 0.5, y))
    return column, row


def test_both_ways_have_the_same_tiles(tiles: dict[Tile, Bits], tmp_path: Path) -> None:
    whole = bits_of(covered([*IMAGES, CONTINENT], tmp_path / "whole", WHOLE).archive)
    assert whole.keys() == tiles.keys()


def test_a_continent_is_a_few_entries(exact: Covered, tmp_path: Path) -> None:
    with open_archive(covered([CONTINENT], tmp_path / "it", CoveragePlan(way="exact")).archive) as archive:
        assert archive.header["addressed_tiles_count"] > 1_000_000
        assert archive.header["tile_contents_count"] < 12_000
        assert archive.size < 3e6


@pytest.mark.parametrize("zooms", [(0, 0), (0, 3), (4, 9), (9, 9)])
def test_any_zooms_may_be_asked_for(tiles: dict[Tile, Bits], tmp_path: Path, zooms: tuple[int, int]) -> None:
    first, last = zooms
    plan = CoveragePlan(way="exact", zoom_min=first, zoom_max=last)
    some = bits_of(covered([*IMAGES, CONTINENT], tmp_path / "it", plan).archive)
    assert some.keys() == {tile for tile in tiles if first <= tile[0] <= last}
    assert all((some[tile] == tiles[tile]).all() for tile in some)


def test_tiles_of_512_pixels_are_those_of_256_a_zoom_deeper(tmp_path: Path) -> None:
    large = bits_of(covered(PLAIN, tmp_path / "a", CoveragePlan(way="exact", zoom_max=8, pixels=512)).archive)
    small = bits_of(covered(PLAIN, tmp_path / "b", CoveragePlan(way="exact", zoom_max=9)).archive)
    for zoom in range(9):
        assert pixels_of(large, zoom) == pixels_of(small, zoom + 1)


def test_the_colour_and_the_opacity_are_those_of_the_plan(tmp_path: Path) -> None:
    plan = CoveragePlan(way="whole", zoom_max=0, colour=(255, 102, 0), opacity=0.5)
    path = covered(PLAIN, tmp_path / "it", plan).archive
    with open_archive(path) as archive:
        content = archive.tile(0, 0, archive.header["tile_data_length"])
    (tmp_path / "tile.png").write_bytes(content)
    with Image.open(tmp_path / "tile.png") as picture:
        assert picture.mode == "P"
        assert picture.convert("RGBA").getcolors() == [(256 * 256, (255, 102, 0, 128))]


def test_header_and_metadata_say_what_it_is(exact: Covered) -> None:
    with open_archive(exact.archive) as archive:
        assert archive.bounds == pytest.approx(exact.snapshot.bounds, abs=1e-7)
        assert (archive.header["min_zoom"], archive.header["max_zoom"]) == (0, 10)
        assert archive.header["tile_type"].name == "PNG"
        assert archive.header["tile_compression"].name == "NONE"
        assert archive.header["clustered"]
        assert archive.metadata["snapshot"] == exact.snapshot.digest
        assert "OpenAerialMap" in archive.metadata["attribution"]

"""The picture shows images where they are, anywhere on Earth, and stays small enough to show in a log."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from numpy.typing import NDArray
from PIL import Image
from shapely import MultiPolygon, Polygon

from oam_mosaic_assets.core.land import CUT, LAND, WATER
from oam_mosaic_assets.core.picture import HEIGHT, MAX_BYTES, WIDTH, as_markdown, project, world_picture

REACH = 12
"""How far from its place an image may light up pixels: a dot, its glow, and half a cell's diagonal."""

KATHMANDU = (85.3, 27.7)


def image_at(lon: float, lat: float, size: float = 0.02) -> Polygon:
    return shapely.box(lon, lat, lon + size, lat + size)


def picture_of(*footprints: Polygon | MultiPolygon) -> bytes:
    return world_picture(np.array(footprints, dtype=object))


def spread(count: int, seed: int = 1) -> NDArray[np.object_]:
    """Small images, spread evenly over the world, including seas and poles."""
    random = np.random.default_rng(seed)
    lon = random.uniform(-180.0, 179.9, count)
    lat = np.degrees(np.arcsin(random.uniform(-0.99, 0.99, count)))
    footprints: NDArray[np.object_] = shapely.box(lon, lat, lon + 0.01, lat + 0.01)
    return footprints


def pixels(png: bytes) -> NDArray[np.int64]:
    """Red, green, blue, opacity; shape (rows, columns, 4)."""
    with Image.open(BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGBA")).astype(np.int64)


def warm(png: bytes) -> NDArray[np.bool_]:
    """Where an image glows: land and sea are bluish."""
    colours = pixels(png)
    glowing: NDArray[np.bool_] = (colours[..., 0] > colours[..., 2]) & (colours[..., 3] == 255)
    return glowing


def around(lon: float, lat: float, reach: int = REACH) -> NDArray[np.bool_]:
    """The pixels near a place."""
    (x, y) = project(np.array([[(lon - CUT) % 360.0 + CUT, lat]]))[0]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    near: NDArray[np.bool_] = np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= reach
    return near


def test_an_image_glows_where_it_is_and_nowhere_else() -> None:
    glowing = warm(picture_of(image_at(*KATHMANDU)))
    assert glowing[around(*KATHMANDU)].any()
    assert not glowing[~around(*KATHMANDU)].any()
    assert not glowing[around(134.0, -25.0, reach=60)].any(), "Australia"


@settings(max_examples=20)
@given(lon=st.floats(-180.0, 179.9), lat=st.floats(-85.0, 85.0))
@example(lon=CUT, lat=0.0)
@example(lon=CUT - 0.1, lat=60.0)
@example(lon=0.0, lat=85.0)
@example(lon=-180.0, lat=-85.0)
def test_a_single_image_is_seen_wherever_it_is_also_at_half_the_size(lon: float, lat: float) -> None:
    png = picture_of(image_at(lon, lat))
    glowing = warm(png)
    assert not glowing[~around(lon, lat)].any()
    halved = pixels(png)[:, :, :3].reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    assert (halved[..., 0] - halved[..., 2]).max() > 100


def test_a_dot_lies_no_farther_from_its_image_than_half_a_cell() -> None:
    """A cell is 5 pixels by 4, and leans with the meridians far from the central one."""
    random = np.random.default_rng(1)
    places = [
        (lon + random.uniform(-3.0, 3.0), lat + random.uniform(-3.0, 3.0))
        for lon in range(-150, 171, 20)
        for lat in range(-45, 46, 15)
    ]
    glowing = warm(picture_of(*(image_at(*place) for place in places)))
    for place in places:
        dot = np.argwhere(glowing & around(*place)).mean(axis=0) + 0.5
        row, column = np.abs(dot - project(np.array([place]))[0, ::-1])
        assert row < 2.5, place
        assert column < 4.0, place


def test_an_image_across_the_antimeridian_glows_on_both_sides_of_it_and_not_round_the_world() -> None:
    fiji = MultiPolygon([shapely.box(177.0, -19.0, 180.0, -16.0), shapely.box(-180.0, -19.0, -177.0, -16.0)])
    glowing = warm(picture_of(fiji))
    assert glowing[around(178.0, -17.5, reach=2)].all()
    assert glowing[around(-178.0, -17.5, reach=2)].all()
    assert not glowing[~around(180.0, -17.5, reach=2 * REACH)].any()


def test_an_image_across_the_pictures_own_cut_glows_at_both_edges() -> None:
    glowing = warm(picture_of(shapely.box(CUT - 3.0, -1.0, CUT + 3.0, 1.0)))
    assert glowing[around(CUT - 2.0, 0.0, reach=2)].any()
    assert glowing[around(CUT + 2.0, 0.0, reach=2)].any()
    assert not glowing[:, 3 * REACH : WIDTH - 3 * REACH].any()


def test_an_image_round_the_whole_world_glows_all_along() -> None:
    glowing = warm(picture_of(shapely.box(-180.0, 40.0, 180.0, 50.0)))
    for lon in range(-180, 180, 5):
        assert glowing[around(lon, 45.0, reach=3)].any(), lon


def test_a_large_image_glows_in_all_its_area() -> None:
    glowing = warm(picture_of(shapely.box(10.0, 5.0, 30.0, 25.0)))
    for lon in range(11, 30, 2):
        for lat in range(6, 25, 2):
            assert glowing[around(lon, lat, reach=2)].any(), (lon, lat)


def test_the_more_images_the_larger_and_the_brighter() -> None:
    pictures = [world_picture(np.array([image_at(*KATHMANDU)] * count)) for count in (1, 30, 1000)]
    areas = [int(warm(png).sum()) for png in pictures]
    lights = [int(pixels(png)[around(*KATHMANDU)].sum(axis=1).max()) for png in pictures]
    assert areas == sorted(set(areas))
    assert lights == sorted(set(lights))


@pytest.mark.parametrize("footprints", [np.array([], dtype=object), [], [np.array([], dtype=object)]])
def test_without_images_it_is_the_world_alone(footprints: list[NDArray[np.object_]]) -> None:
    png = world_picture(footprints)
    assert pixels(png).shape == (HEIGHT, WIDTH, 4)
    assert not warm(png).any()


def test_around_the_world_it_is_transparent() -> None:
    opacity = pixels(picture_of())[..., 3]
    assert opacity[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 0, 0, 0]
    assert opacity[HEIGHT // 2, 10 : WIDTH - 10].min() == 255


def test_images_all_over_the_world_make_it_smaller_but_not_heavy() -> None:
    png = world_picture(spread(20_000))
    assert len(png) <= MAX_BYTES
    assert len(as_markdown(png, "caption")) < 60_000
    assert WIDTH // 2 <= pixels(png).shape[1] < WIDTH
    assert pixels(world_picture(spread(20_000), max_bytes=200_000)).shape[1] == WIDTH


def test_the_same_images_give_the_same_bytes_in_any_order_and_in_any_batches() -> None:
    footprints = spread(500)
    png = world_picture(footprints)
    assert world_picture(footprints[::-1]) == png
    assert world_picture(footprints[start : start + 7] for start in range(0, 500, 7)) == png
    assert world_picture(spread(500, seed=2)) != png


@pytest.mark.parametrize(
    "caption",
    [
        "21,000 images, 20260115T030000Z-3f9c2a7d41be",
        "](http://example.org) [x](y)",
        "<script>alert(1)</script> &amp; <!-- -->",
        r"\ ends with a backslash \\",
        "`code` *bold* _under_ ~~gone~~ ![image](z) https://example.org",
        "Ünïcode 東京",
    ],
)
def test_a_caption_is_shown_as_it_is(caption: str) -> None:
    png = picture_of()
    picture, below = (
        token.children or []
        for token in MarkdownIt().parse(as_markdown(png, caption))
        if token.type == "inline"
    )
    (image,) = picture
    assert image.type == "image"
    assert str(image.attrs["src"]).startswith("data:image/png;base64,")
    assert {each.type for each in below} <= {"text", "text_special"}
    assert "".join(each.content for each in below) == caption


def test_a_caption_of_several_lines_becomes_one() -> None:
    assert as_markdown(b"", "one\n\n# two\r\n").endswith("\n\none \\# two")


def test_land_has_one_colour_far_from_that_of_images() -> None:
    """So that nobody takes land for data; sampled inside Australia, the Sahara and Siberia."""
    plain, lit = (pixels(png)[..., :3] for png in (picture_of(), picture_of(image_at(*KATHMANDU))))
    (land,) = {
        tuple(colour)
        for lon, lat in ((134.0, -25.0), (5.0, 24.0), (100.0, 63.0))
        for colour in plain[around(lon, lat, reach=8)].tolist()
    }
    brightest = lit[around(*KATHMANDU)].sum(axis=1).max()
    assert brightest > 2 * sum(land)
    assert land[0] < land[2], "bluish, where images are reddish"


@given(lon=st.floats(CUT, CUT + 358.0), lat=st.floats(-89.0, 87.0))
def test_the_projection_keeps_areas_true(lon: float, lat: float) -> None:
    """A square of two degrees, compared with the area of the same piece of a sphere."""
    outline = shapely.segmentize(shapely.box(lon, lat, lon + 2.0, lat + 2.0), 0.1)
    drawn = shapely.area(shapely.transform(outline, project))
    world = shapely.transform(shapely.segmentize(shapely.box(CUT, -90, CUT + 360, 90), 0.1), project)
    band = np.sin(np.radians(lat + 2.0)) - np.sin(np.radians(lat))
    assert drawn / shapely.area(world) == pytest.approx(2.0 / 360.0 * band / 2.0, rel=0.002)


def is_land(lon: float, lat: float) -> bool:
    place = shapely.Point((lon - CUT) % 360.0 + CUT, lat)
    return any(outline.covers(place) for outline in LAND.values()) and not any(
        outline.covers(place) for outline in WATER.values()
    )


@pytest.mark.parametrize(
    ("city", "lon", "lat"),
    [
        ("Kathmandu", 85.3, 27.7),
        ("Nairobi", 36.8, -1.3),
        ("Ouagadougou", -1.5, 12.4),
        ("Antananarivo", 47.5, -18.9),
        ("Johannesburg", 28.0, -26.2),
        ("Cairo", 31.2, 30.0),
        ("Riyadh", 46.7, 24.7),
        ("Ankara", 32.9, 39.9),
        ("Madrid", -3.7, 40.4),
        ("Paris", 2.35, 48.85),
        ("Rome", 12.6, 41.9),
        ("Birmingham", -1.9, 52.5),
        ("Moscow", 37.6, 55.8),
        ("Novosibirsk", 82.9, 55.0),
        ("Anadyr's hinterland", 172.0, 66.0),
        ("Uelen's hinterland", -172.0, 66.3),
        ("Delhi", 77.2, 28.6),
        ("Kandy", 80.6, 7.3),
        ("Beijing", 116.4, 39.9),
        ("Kyoto", 135.8, 35.0),
        ("Chiang Mai", 99.0, 18.8),
        ("Baguio", 120.6, 16.4),
        ("Bandung", 107.6, -6.9),
        ("Mount Hagen", 144.2, -5.9),
        ("Alice Springs", 133.9, -23.7),
        ("Taupo", 176.1, -38.7),
        ("Denver", -105.0, 39.7),
        ("Mexico City", -99.1, 19.4),
        ("Santiago de los Caballeros", -70.7, 19.45),
        ("Bogotá", -74.1, 4.7),
        ("Brasília", -47.9, -15.8),
        ("La Paz", -68.1, -16.5),
        ("the ice of Greenland", -40.0, 72.0),
        ("the South Pole", 0.0, -90.0),
    ],
)
def test_cities_lie_on_land(city: str, lon: float, lat: float) -> None:
    assert is_land(lon, lat), city


@pytest.mark.parametrize(
    ("sea", "lon", "lat"),
    [
        ("North Atlantic", -40.0, 40.0),
        ("South Atlantic", -15.0, -30.0),
        ("Gulf of Guinea", 0.0, 0.0),
        ("Indian Ocean", 80.0, -25.0),
        ("North Pacific", -150.0, 35.0),
        ("South Pacific", -130.0, -40.0),
        ("Southern Ocean", 100.0, -58.0),
        ("North Pole", 0.0, 89.0),
        ("Mediterranean", 18.0, 35.0),
        ("Adriatic", 15.5, 42.8),
        ("Baltic", 19.5, 57.0),
        ("North Sea", 3.5, 56.0),
        ("Black Sea", 34.0, 43.3),
        ("Caspian Sea", 51.0, 42.0),
        ("Red Sea", 38.0, 21.0),
        ("Persian Gulf", 51.5, 27.3),
        ("Bay of Bengal", 88.0, 15.0),
        ("South China Sea", 114.0, 13.0),
        ("Sea of Japan", 135.0, 40.0),
        ("Sea of Okhotsk", 150.0, 54.0),
        ("Hudson Bay", -85.0, 60.0),
        ("Gulf of Mexico", -91.0, 25.0),
        ("Gulf of California", -111.0, 26.8),
        ("Gulf of Carpentaria", 139.0, -14.0),
        ("Lake Victoria", 33.0, -1.0),
        ("Lake Superior", -87.5, 47.6),
    ],
)
def test_seas_and_lakes_lie_on_water(sea: str, lon: float, lat: float) -> None:
    assert not is_land(lon, lat), sea


def test_outlines_are_whole_and_lie_between_the_cuts() -> None:
    for name, outline in {**LAND, **WATER}.items():
        assert outline.is_valid, name
        west, _, east, _ = outline.bounds
        assert CUT <= west < east <= CUT + 360.0, name
    for name, outline in WATER.items():
        assert any(land.contains(outline) for land in LAND.values()), name

"""Reading vector tiles: with the same result as another decoder, and without crashing on anything else."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oam_mosaic_assets.core.vector_tile import (
    POLYGON,
    BrokenTile,
    Feature,
    Layer,
    area,
    read_feature,
    read_layers,
)
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets_tests.core.archives import pieces_of
from oam_mosaic_assets_tests.core.scene import PLAN, Scene
from oam_mosaic_assets_tests.core.strategies import examples


@pytest.fixture(scope="session")
def real_tiles(scene: Scene) -> list[bytes]:
    """The inflated tiles of a small mosaic."""
    pieces = pieces_of(scene.archive)
    return [gzip.decompress(pieces.packed(entry)) for entry in pieces.entries]


def read_whole(tile: bytes) -> None:
    """Read everything in a tile."""
    for layer in read_layers(tile):
        for feature in layer.features:
            area(read_feature(layer, feature))


def decoded(archive: Path) -> list[dict[str, Any]]:
    """The tiles of an archive as tippecanoe-decode reads them, in longitudes and latitudes."""
    decoder = find_tippecanoe().with_name("tippecanoe-decode")
    if not decoder.exists():
        pytest.skip("tippecanoe is here without its decoder")
    answer = subprocess.run([decoder, archive], capture_output=True, check=True)
    tiles: list[dict[str, Any]] = json.loads(answer.stdout)["features"]
    return tiles


def test_tiles_are_read_as_another_decoder_reads_them(scene: Scene) -> None:
    pieces, compared = pieces_of(scene.archive), 0

    for tile in decoded(scene.archive):
        zoom, column, row = (tile["properties"][name] for name in ("zoom", "x", "y"))
        layers = read_layers(gzip.decompress(pieces.packed(pieces.at(zoom, column, row))))
        assert [layer.name for layer in layers] == [each["properties"]["layer"] for each in tile["features"]]
        for layer, other in zip(layers, tile["features"], strict=True):
            assert (layer.version, layer.extent) == (
                other["properties"]["version"],
                other["properties"]["extent"],
            )
            features = [read_feature(layer, each) for each in layer.features]
            assert [f.properties for f in features] == [o["properties"] for o in other["features"]]
            for feature, its_other in zip(features, other["features"], strict=True):
                assert feature.kind == POLYGON
                found = shapely.normalize(on_the_globe(area(feature), zoom, column, row))
                expected = shapely.make_valid(shapely.from_geojson(json.dumps(its_other["geometry"])))
                # the decoder writes six places, 1/80 of a tile's unit at the last zoom
                assert found.symmetric_difference(expected).area <= 4e-6 * (found.length + 1e-6)
                compared += 1

    assert compared > 200


def on_the_globe(units: shapely.Geometry, zoom: int, column: int, row: int) -> shapely.Geometry:
    """From units of a tile to degrees."""

    def unprojected(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        x, y = (points / 4096 + [column, row]).T / 2**zoom
        return np.column_stack([x * 360 - 180, np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y))))])

    return shapely.transform(units, unprojected)


def test_the_decoder_and_the_plan_agree_on_the_tiles(scene: Scene) -> None:
    zooms = {tile["properties"]["zoom"] for tile in decoded(scene.archive)}

    assert zooms == set(range(PLAN.zoom_max + 1))


# The smallest message of each kind: a layer, its name, its one key and value, one feature, its square.
SQUARE = bytes([9, 0, 0, 26, 20, 0, 0, 20, 19, 0, 15])
FEATURE = bytes([0x12, 2, 0, 0, 0x18, 3, 0x22, len(SQUARE), *SQUARE])
NAME, KEY, VALUE = b"\x0a\x01L", b"\x1a\x02id", b"\x22\x03\x0a\x01A"


def a_tile(*fields: bytes) -> bytes:
    content = b"".join(fields)
    return bytes([0x1A, len(content)]) + content


def a_feature(content: bytes) -> bytes:
    return bytes([0x12, len(content)]) + content


def the_layer(*fields: bytes) -> Layer:
    return read_layers(a_tile(NAME, KEY, VALUE, *fields))[0]


def test_the_smallest_tile_is_read() -> None:
    layer = the_layer(a_feature(FEATURE), b"\x28\x80\x20", b"\x78\x02")

    assert (layer.name, layer.version, layer.extent, list(layer.keys), layer.values) == (
        "L",
        2,
        4096,
        ["id"],
        ["A"],
    )
    feature = read_feature(layer, layer.features[0])
    assert (feature.kind, feature.properties) == (3, {"id": "A"})
    assert area(feature).equals(shapely.box(0, 0, 10, 10))


def test_an_empty_tile_has_no_layers() -> None:
    assert read_layers(b"") == []


def test_what_the_specification_leaves_to_others_is_passed_over() -> None:
    """Unknown fields, a feature's id, fixed-width numbers."""
    unknown = b"\x78\x02" + b"\xfd\x01" + b"\0" * 4 + b"\xf9\x01" + b"\0" * 8 + b"\xfa\x01\x02xx"

    layer = the_layer(unknown, a_feature(b"\x08\x07" + FEATURE))

    assert layer.version == 2
    assert read_feature(layer, layer.features[0]).properties == {"id": "A"}


@pytest.mark.parametrize(
    "value",
    [b"\x22\x02\x20\x01", b"\x22\x09\x19" + b"\0" * 8, b"\x22\x02\x38\x01"],
    ids=["int", "double", "bool"],
)
def test_a_value_that_is_no_text_stands_as_none(value: bytes) -> None:
    assert read_layers(a_tile(NAME, KEY, value))[0].values == [None]


@pytest.mark.parametrize(
    "tile",
    [
        b"\x1a",
        b"\x1a\x05",
        b"\x1a\x80",
        b"\x1b\x00",
        b"\x1d\x00",
        b"\x19\x00",
        b"\xff",
        a_tile(b"\x0a\x02\xff\xfe"),
        a_tile(KEY, b"\x22\x03\x0a\x01\xff"),
        a_tile(b"\x1a\x09id"),
        a_tile(b"\x78"),
    ],
    ids=[
        "a tag alone",
        "shorter than it says",
        "a length that does not end",
        "a group",
        "half a number of 32 bits",
        "half a number of 64 bits",
        "a tag that does not end",
        "a name that is no text",
        "a value that is no text",
        "a key beyond the layer",
        "a version without a number",
    ],
)
def test_a_broken_tile_is_broken(tile: bytes) -> None:
    with pytest.raises(BrokenTile):
        read_layers(tile)


@pytest.mark.parametrize(
    "feature",
    [
        b"\x12\x01\x00",
        b"\x12\x02\x01\x00",
        b"\x12\x02\x00\x01",
        b"\x12\x0b" + b"\xff" * 10 + b"\x7f",
        b"\x12\x7f",
    ],
    ids=["a key without a value", "no such key", "no such value", "a number of 77 bits", "too long"],
)
def test_a_broken_feature_is_broken(feature: bytes) -> None:
    with pytest.raises(BrokenTile):
        read_whole(a_tile(NAME, KEY, VALUE, a_feature(feature)))


@pytest.mark.parametrize(
    "commands",
    [
        [15],
        [9, 0, 0, 18, 1, 1],
        [9, 0],
        [9, 0, 0, 26, 2, 2],
        [9, 0, 0, (2**29 << 3) | 2, 1, 1, 15],
        [9, 0, 0, 3, 15],
        [0],
    ],
    ids=[
        "closed at once",
        "left open",
        "half a point",
        "too few points",
        "too many",
        "no such command",
        "zero",
    ],
)
def test_commands_that_draw_no_polygon_are_broken(commands: list[int]) -> None:
    with pytest.raises(BrokenTile):
        area(Feature(POLYGON, {}, commands))


def test_a_hole_is_a_ring_that_runs_the_other_way() -> None:
    outline = [9, 0, 0, 26, 40, 0, 0, 40, 39, 0, 15]
    hole = [9, 10, 29, 26, 0, 20, 20, 0, 0, 19, 15]

    drawn = area(Feature(POLYGON, {}, outline + hole))

    assert drawn.equals(shapely.difference(shapely.box(0, 0, 20, 20), shapely.box(5, 5, 15, 15)))


def test_an_island_in_a_hole_is_drawn() -> None:
    outline = [9, 0, 0, 26, 60, 0, 0, 60, 59, 0, 15]
    hole = [9, 10, 49, 26, 0, 40, 40, 0, 0, 39, 15]
    island = [9, 29, 10, 26, 20, 0, 0, 20, 19, 0, 15]

    drawn = area(Feature(POLYGON, {}, outline + hole + island))

    lake = shapely.difference(shapely.box(0, 0, 30, 30), shapely.box(5, 5, 25, 25))
    assert drawn.equals(shapely.union(lake, shapely.box(10, 10, 20, 20)))


def test_two_outlines_are_two_areas() -> None:
    first = [9, 0, 0, 26, 20, 0, 0, 20, 19, 0, 15]
    second = [9, 40, 19, 26, 20, 0, 0, 20, 19, 0, 15]

    drawn = area(Feature(POLYGON, {}, first + second))

    assert drawn.equals(shapely.union(shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10)))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_what_is_no_polygon_draws_no_area(kind: int) -> None:
    with pytest.raises(BrokenTile, match="no polygon"):
        area(Feature(kind, {}, [*SQUARE]))


def test_a_ring_without_area_draws_nothing() -> None:
    assert area(Feature(POLYGON, {}, [9, 0, 0, 10, 2, 2, 15])).is_empty
    assert area(Feature(POLYGON, {}, [])).is_empty


numbers = st.integers(0, 7) | st.integers(0, 2**14) | st.integers(0, 2**64 - 1)


@examples(300)
@given(st.lists(st.sampled_from([9, 15, 10, 18, 26, 34]) | numbers, max_size=30))
@example([9, 565, 7, 50, 6, 2, 5, 7, 3536, 2**62, 969, 0, 6, 5582, 3, 3, 15])
@example([9, 0, 0, 42, 2**63, 5, 6516758115540163662, 0, 2, 13, 0, 5, 12, 26, 5, 5, 15])
def test_whatever_the_commands_they_draw_an_area_or_are_broken(commands: list[int]) -> None:
    try:
        drawn = area(Feature(POLYGON, {}, commands))
    except BrokenTile:
        return
    assert drawn.area >= 0


@examples(300)
@given(
    st.lists(
        st.lists(st.tuples(numbers, numbers), min_size=2, max_size=7).map(
            lambda steps: [
                9,
                *steps[0],
                (len(steps) - 1) << 3 | 2,
                *(n for step in steps[1:] for n in step),
                15,
            ]
        ),
        max_size=3,
    )
)
def test_whatever_rings_are_drawn_make_an_area_or_are_broken(rings: list[list[int]]) -> None:
    try:
        drawn = area(Feature(POLYGON, {}, [number for ring in rings for number in ring]))
    except BrokenTile:
        return
    assert drawn.area >= 0


@examples(300)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_tile_or_broken(tile: bytes) -> None:
    try:
        read_whole(tile)
    except BrokenTile as broken:
        assert str(broken)  # noqa: PT017  # any other error is a failure


@settings(examples(400), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_real_tile_with_changed_bytes_is_a_tile_or_broken(real_tiles: list[bytes], seed: int) -> None:
    chance = random.Random(seed)
    tile = bytearray(chance.choice(real_tiles))
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = chance.randrange(len(tile) + 1)
        tile[at : at + chance.choice([0, 1, 1, 4])] = chance.choice(
            [b"", b"\xff", b"\xff" * 11, chance.randbytes(1), chance.randbytes(4)]
        )
    try:
        read_whole(bytes(tile))
    except BrokenTile as broken:
        assert str(broken)  # noqa: PT017  # any other error is a failure


@pytest.mark.parametrize(
    "tile", [b"\xff" * 2**22, b"\x80" * 2**22, b"\x1a" + b"\xff" * 2**22], ids=["ones", "zeros", "a length"]
)
def test_a_number_without_an_end_is_given_up_at_once(tile: bytes) -> None:
    """Decoding four megabytes of it would take minutes."""
    before = time.process_time()

    with pytest.raises(BrokenTile, match="not a vector tile"):
        read_layers(tile)

    assert time.process_time() - before < 1

"""Messages assembled from bytes are what a Protocol Buffers library writes and reads."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from oam_mosaic_assets.core.tile_writing import (
    VARINT,
    Value,
    feature_of_layer,
    field,
    shapes,
    tile_of_layer,
    value_of_layer,
)
from oam_mosaic_assets.core.vector_tile import (
    POLYGON,
    Layer,
    area,
    polygon_rings,
    read_feature,
    read_layers,
    value_of,
)
from oam_mosaic_assets_tests.core.messages import new_layer
from oam_mosaic_assets_tests.core.outlines import outlines
from oam_mosaic_assets_tests.core.strategies import examples

numbers = st.integers(0, 2**60) | st.sampled_from([0, 1, 127, 128, 2**14 - 1, 2**14, 2**56, 2**60, 2**63])


def varints(content: bytes) -> Iterator[int]:
    number = place = 0
    for byte in content:
        number |= (byte & 127) << place
        place += 7
        if byte < 128:
            yield number
            number = place = 0
    assert place == 0


@given(number=numbers)
def test_a_number_is_written_with_no_byte_too_many(number: int) -> None:
    written = VARINT[number]
    assert [*varints(written)] == [number]
    assert len(written) == max(1, math.ceil(number.bit_length() / 7))


@given(number=st.integers(0, 2**32 - 1))
def test_a_number_is_written_as_protocol_buffers_do(number: int) -> None:
    assert new_layer(extent=number).SerializeToString() == (b"\x28" + VARINT[number] if number else b"")


@examples(40)
@given(name=st.text(max_size=99) | st.integers(0, 20_000).map("x".__mul__))
def test_a_field_is_written_as_protocol_buffers_do(name: str) -> None:
    assert new_layer(name=name).SerializeToString() == (field(1, name.encode()) if name else b"")


corners = st.integers(-(2**29), 2**29)


@given(boxes=st.lists(st.tuples(corners, corners, st.integers(1, 2**28), st.integers(1, 2**28)), max_size=9))
def test_steps_of_any_length_are_encoded(boxes: list[tuple[int, int, int, int]]) -> None:
    west, north, wide, high = np.array(boxes, np.int64).reshape(-1, 4).T
    found = shapes(shapely.box(west, north, west + wide, north + high), np.arange(len(boxes)))
    assert len(found) == len(boxes)
    for shape, (x, y, width, height) in zip(found, boxes, strict=True):
        kind, polygon, number, size, *commands = varints(shape)
        assert (kind, polygon, number) == (3 << 3, POLYGON, 4 << 3 | 2)
        assert size == len(b"".join(VARINT[each] for each in commands))
        move, *first, line = commands[:4]
        assert (move, line, commands[-1]) == (1 << 3 | 1, 3 << 3 | 2, 1 << 3 | 7)
        steps = [(each >> 1) ^ -(each & 1) for each in (*first, *commands[4:-1])]
        path = np.cumsum(np.array(steps).reshape(-1, 2), axis=0).tolist()
        assert sorted(path) == sorted([[x, y], [x + width, y], [x, y + height], [x + width, y + height]])


def layer_of(features: list[bytes], values: tuple[Value, ...] = ()) -> Layer:
    head = new_layer(name="images", version=2, extent=4096, keys=["id", "size"]).SerializeToString()
    (layer,) = read_layers(tile_of_layer([head, *features, *map(value_of_layer, values)]))
    return layer


def on_the_grid(shape: BaseGeometry) -> BaseGeometry:
    return shapely.set_precision(shapely.transform(shape, lambda at: 2000 * at), 1.0)


@examples(50)
@given(areas=st.lists(outlines.map(on_the_grid).filter(lambda shape: not shape.is_empty), max_size=8))
def test_polygons_are_read_as_they_were_given(areas: list[BaseGeometry]) -> None:
    polygons, of = shapely.get_parts(np.array(areas, object), return_index=True)
    written = shapes(polygons, np.flatnonzero(np.diff(of, prepend=-1)))
    layer = layer_of([feature_of_layer(b"", shape) for shape in written])
    found = [read_feature(layer, message) for message in layer.features]
    assert len(found) == len(areas)
    assert all(each.kind == POLYGON and each.properties == {} for each in found)
    assert all(area(each).equals(given) for each, given in zip(found, areas, strict=True))
    _, sizes, owners = polygon_rings(layer.features)
    rings, ring_of = shapely.get_rings(polygons, return_index=True)
    assert owners.tolist() == of[ring_of].tolist()
    assert sizes.tolist() == (shapely.get_num_coordinates(rings) - 1).tolist()


def test_an_outline_goes_round_clockwise_and_its_holes_do_not() -> None:
    holed = shapely.box(0, 0, 90, 90) - shapely.box(10, 10, 20, 20) - shapely.box(30, 30, 40, 40)
    for polygon in (holed, shapely.orient_polygons(holed), holed.reverse()):
        layer = layer_of([feature_of_layer(b"", *shapes(np.array([polygon]), np.zeros(1, np.int64)))])
        points, sizes, _ = polygon_rings(layer.features)
        rings = np.split(points, np.cumsum(sizes)[:-1])
        assert [shapely.LinearRing(ring).is_ccw for ring in rings] == [True, False, False]


def test_points_that_are_given_twice_are_written_once() -> None:
    twice = shapely.Polygon([[0, 0], [0, 0], [9, 0], [9, 9], [9, 9], [9, 9], [0, 0]])
    once = shapely.Polygon([[0, 0], [9, 0], [9, 9], [0, 0]])
    begins = np.zeros(1, np.int64)
    assert shapes(np.array([twice]), begins) == shapes(np.array([once]), begins)


def test_nothing_is_written_of_no_polygons() -> None:
    assert shapes(np.zeros(0, object), np.zeros(0, np.int64)) == []


finite = st.floats(allow_nan=False)


@given(values=st.lists(st.text() | finite | st.integers(-(2**53), 2**53), min_size=1, max_size=150))
def test_values_are_read_as_they_were_given(values: list[Value]) -> None:
    shape = shapes(np.array([shapely.box(0, 0, 1, 1)]), np.zeros(1, np.int64))[0]
    tags = b"".join(VARINT[1] + VARINT[number] for number in range(len(values)))
    layer = layer_of([feature_of_layer(tags, shape)], tuple(values))
    assert [value_of(each) for each in layer.stated] == values
    assert [*layer.features[0].tags[1::2]] == list(range(len(values)))


@pytest.mark.parametrize("corner", [-80, 0, 4176])
def test_a_feature_begins_at_the_tiles_corner(corner: int) -> None:
    boxes = np.array([shapely.box(corner, corner, east, 8000) for east in (5000, 6000, 7000)])
    together = shapes(boxes, np.array([0, 1, 2]))
    alone = [shapes(boxes[[each]], np.zeros(1, np.int64))[0] for each in range(3)]
    assert together == alone

"""Reading Mapbox Vector Tiles (version 2): layers, features, polygons.

The audit reads every tile of an archive, a quarter of a million; decoders that make a dictionary of each
feature need minutes. Here the compiled Protocol Buffers parser reads a whole tile, and whatever is not needed
stays in its message. Source: the Vector Tile Specification 2.1, the schema in its appendix A.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

MOVE_TO: Final = 1
LINE_TO: Final = 2
CLOSE_PATH: Final = 7
"""Drawing commands of the specification."""

POINT: Final = 1
POLYGON: Final = 3
"""Geometry types of the specification."""

_SCHEMA: Final = {
    "Value": "1 string_value: string, 2 float_value: float, 3 double_value: double, 4 int_value: int64, "
    "5 uint_value: uint64, 6 sint_value: sint64, 7 bool_value: bool",
    "Feature": "2 tags: uint32*, 3 type: uint32, 4 geometry: uint32*",
    "Layer": "1 name: string, 2 features: Feature*, 3 keys: string*, 4 values: Value*, 5 extent: uint32, "
    "15 version: uint32",
    "Tile": "3 layers: Layer*",
    "RawFeature": "2 tags: uint32*, 3 type: uint32, 4 geometry: bytes",
    "RawLayer": "1 name: string, 2 features: RawFeature*, 3 keys: string*, 4 values: bytes*",
    "RawTile": "3 layers: RawLayer*",
}
"""The fields that are used, by message; a star marks repeated fields. Other fields are ignored. The raw
messages are the same ones with values and geometries left encoded."""

_NUMBERS: Final = frozenset({"float_value", "double_value", "int_value", "uint_value", "sint_value"})

_DEFAULT_EXTENT: Final = 4096


class BrokenTile(ValueError):
    """The bytes are not a valid vector tile; the message says why."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Attributes:
        extent: units along a tile's edge.
        keys: names of properties.
        values: the distinct property values; only text and unsigned numbers are read, anything else is None,
            including empty text and 0.
        features: the features as messages, for `read_feature`; in drawing order.
        stated: the values as messages, for `kind_of` and `value_of`.
    """

    name: str
    version: int
    extent: int
    keys: Sequence[str]
    values: list[str | int | None]
    features: Sequence[Any]
    stated: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature.

    Attributes:
        kind: geometry type of the specification; `POLYGON` is 3.
        properties: text and unsigned numbers by name; any other value is None.
        commands: the encoded geometry.
    """

    kind: int
    properties: dict[str, str | int | None]
    commands: Sequence[int]


def _messages() -> dict[str, Any]:
    """The Protocol Buffers message classes, by name."""
    file = FileDescriptorProto(name="vector_tile.proto", syntax="proto3")  # checks that text is UTF-8
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        if name == "Value":  # so that `WhichOneof` can tell which is set
            message.oneof_decl.add(name="kind")
        for stated in fields.split(", "):
            number, field, kind = stated.replace(":", "").split(" ")
            is_many, kind = kind.endswith("*"), kind.removesuffix("*")
            message.field.add(
                name=field,
                number=int(number),
                label=FieldDescriptorProto.LABEL_REPEATED if is_many else FieldDescriptorProto.LABEL_OPTIONAL,
                oneof_index=0 if name == "Value" else None,
                **(
                    {"type": FieldDescriptorProto.TYPE_MESSAGE, "type_name": kind}
                    if kind in _SCHEMA
                    else {"type": FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")}
                ),
            )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: GetMessageClass(pool.FindMessageTypeByName(name)) for name in _SCHEMA}


MESSAGES: Final = _messages()
"""The message classes that tiles consist of: `Tile`, `Layer`, `Feature`, `Value`, and the raw ones."""

_TILE: Final = MESSAGES["Tile"]


def read_layers(tile: bytes) -> list[Layer]:
    """The layers of an inflated tile.

    Raises:
        BrokenTile: the bytes are not a vector tile.
    """
    try:
        return [
            Layer(
                layer.name,
                layer.version,
                layer.extent or _DEFAULT_EXTENT,
                layer.keys,
                [value.string_value or value.uint_value or None for value in layer.values],
                layer.features,
                layer.values,
            )
            for layer in _TILE.FromString(tile).layers
        ]
    except DecodeError as error:
        raise BrokenTile(f"not a vector tile: {error}") from None


def kind_of(value: Any) -> str:
    """`String`, `Number` or `Boolean`, as TileJSON calls the kinds of a layer's fields; empty if not set."""
    kind = value.WhichOneof("kind")
    return "String" if kind == "string_value" else "Number" if kind in _NUMBERS else "Boolean" if kind else ""


def value_of(value: Any) -> str | float | None:
    """The value that a message holds; None if it holds none."""
    kind = value.WhichOneof("kind")
    found: str | float | None = getattr(value, kind) if kind else None
    return found


def read_feature(layer: Layer, feature: Any) -> Feature:
    """Decode one of the layer's features: look up its properties.

    Raises:
        BrokenTile: it refers to a key or value that the layer does not have, or has a key without a value.
    """
    try:
        pairs = zip(feature.tags[::2], feature.tags[1::2], strict=True)
        properties = {layer.keys[key]: layer.values[value] for key, value in pairs}
    except (IndexError, ValueError) as error:
        raise BrokenTile(f"not a feature: {error}") from None
    return Feature(feature.type, properties, feature.geometry)


def area(feature: Feature) -> BaseGeometry:
    """The feature's polygons in tile units, x to the east and y to the south, origin at the north-west.

    Raises:
        BrokenTile: the feature is no polygon, or its commands do not draw any.
    """
    if feature.kind != POLYGON:
        raise BrokenTile("a feature is no polygon")
    polygons: list[list[shapely.Polygon]] = []
    for ring in _rings(feature.commands):
        if len(ring) > 3:
            polygon = shapely.Polygon(ring)
            # Winding tells holes from outlines; a hole belongs to the outline before it.
            if _clockwise_on_screen(polygon):
                polygons.append([polygon])
            elif polygons:
                polygons[-1].append(polygon)
    try:
        whole, *others = [_without_holes(*each) for each in polygons] or [shapely.Polygon()]
        return shapely.union_all([whole, *others]) if others else whole
    except shapely.errors.GEOSException as error:  # coordinates too far apart to be added
        raise BrokenTile(f"its rings do not form an area: {error}") from None


def _without_holes(outline: shapely.Polygon, *holes: shapely.Polygon) -> BaseGeometry:
    whole = shapely.make_valid(outline)
    return shapely.difference(whole, shapely.union_all(shapely.make_valid([*holes]))) if holes else whole


def polygon_rings(
    features: Sequence[Any],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The rings of all polygons of a layer at once, for layers with too many to build an area for each.

    Args:
        features: the layer's features, as messages.

    Returns:
        Points in tile units, ring after ring, none of them closed, shape (n, 2); the number of points in each
        ring; the index of each ring's feature.

    Raises:
        BrokenTile: a feature is no polygon, or its commands do not draw any with one command of each kind
            per ring.
    """
    numbers, begins, sizes, of = array("q"), array("q"), array("q"), array("q")
    for index, feature in enumerate(features):
        commands, at = list(feature.geometry), 0
        if feature.type != POLYGON or not commands:
            raise BrokenTile("a feature is no polygon")
        while at < len(commands):
            size = (commands[at + 3] >> 3) + 1 if at + 3 < len(commands) else 0
            end = at + 2 * size + 2
            if not (
                size > 2  # fewer points enclose nothing
                and end < len(commands)
                and commands[at] == 1 << 3 | MOVE_TO
                and commands[at + 3] & 7 == LINE_TO
                and commands[end] == 1 << 3 | CLOSE_PATH
            ):
                raise BrokenTile("its commands do not draw polygons")
            begins.append(len(numbers) + at)
            sizes.append(size)
            of.append(index)
            at = end + 1
        numbers.extend(commands)
    whole, offsets, counts, owners = (np.frombuffer(each, np.int64) for each in (numbers, begins, sizes, of))
    starts = np.cumsum(counts) - counts
    places = 2 * np.arange(counts.sum()) + np.repeat(offsets - 2 * starts + 2, counts)
    places[starts] -= 1
    steps = np.column_stack([whole[places], whole[places + 1]])
    points = np.cumsum((steps >> 1) ^ -(steps & 1), axis=0)
    # each feature starts at the tile's origin
    firsts = starts[np.flatnonzero(np.diff(owners, prepend=-1))]
    before = np.concatenate([np.zeros((1, 2), np.int64), points])[firsts]
    points -= np.repeat(before, np.diff(firsts, append=len(points)), axis=0)
    return points.astype(np.float64), counts, owners


def _clockwise_on_screen(polygon: shapely.Polygon) -> bool:
    """Outlines have a positive area by the surveyor's formula with y pointing down; holes a negative one."""
    return bool(shapely.is_ccw(polygon.exterior))


def _rings(commands: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    x = y = at = 0
    ring: list[tuple[int, int]] = []
    try:
        while at < len(commands):
            command, repeat = commands[at] & 7, commands[at] >> 3
            at += 1
            if command == CLOSE_PATH:
                ring.append(ring[0])
                yield ring
                ring = []
                continue
            if command not in (MOVE_TO, LINE_TO) or at + 2 * repeat > len(commands):
                raise BrokenTile(f"unknown drawing command: {command} x {repeat}")
            for _ in range(repeat):
                x += (commands[at] >> 1) ^ -(commands[at] & 1)
                y += (commands[at + 1] >> 1) ^ -(commands[at + 1] & 1)
                ring.append((x, y))
                at += 2
    except IndexError:
        raise BrokenTile("a ring is closed before it begins") from None
    if ring:
        raise BrokenTile("a ring is not closed")

"""Well-known binary: what shapely writes is read, and malformed input raises nothing."""

from __future__ import annotations

import json
import struct
from typing import Any, Literal

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.gateways.catalogue.wkb import geojson_from_wkb

SHAPES = [
    "POINT (1 2)",
    "POINT Z (1 2 3)",
    "LINESTRING (0 0, 1 2, 3 4)",
    "POLYGON ((0 0, 9 0, 9 9, 0 9, 0 0), (1 1, 2 1, 2 2, 1 1))",
    "POLYGON Z ((0 0 5, 9 0 5, 9 9 5, 0 0 5))",
    "MULTIPOINT ((0 0), (1 2))",
    "MULTILINESTRING ((0 0, 1 2), (3 4, 5 6))",
    "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((5 5, 6 5, 6 6, 5 5)))",
    "MULTIPOLYGON Z (((0 0 1, 1 0 1, 1 1 1, 0 0 1)))",
    "GEOMETRYCOLLECTION (POINT (1 2), POLYGON ((0 0, 1 0, 1 1, 0 0)))",
    "POINT EMPTY",
    "LINESTRING EMPTY",
    "POLYGON EMPTY",
    "MULTIPOLYGON EMPTY",
    "GEOMETRYCOLLECTION EMPTY",
]


def as_lists(geometry: Any) -> dict[str, Any]:
    """GeoJSON as it comes out of JSON, with lists instead of tuples."""
    found: dict[str, Any] = json.loads(json.dumps(shapely.geometry.mapping(geometry)))
    return found


@pytest.mark.parametrize("byte_order", [0, 1])
@pytest.mark.parametrize("flavor", ["iso", "extended"])
@pytest.mark.parametrize("text", SHAPES)
def test_every_shape_is_read_in_both_dialects_and_byte_orders(
    text: str, flavor: Literal["iso", "extended"], byte_order: int
) -> None:
    geometry = shapely.set_srid(shapely.from_wkt(text), 4326)
    for include_srid in {False, flavor == "extended"}:
        wkb = shapely.to_wkb(geometry, byte_order=byte_order, include_srid=include_srid, flavor=flavor)

        assert geojson_from_wkb(wkb) == as_lists(geometry)


@given(st.lists(st.tuples(*[st.floats(allow_nan=False)] * 2), min_size=2, max_size=9))
def test_numbers_are_read_to_the_last_digit(positions: list[tuple[float, float]]) -> None:
    wkb = shapely.to_wkb(shapely.LineString(positions))

    assert geojson_from_wkb(wkb)["coordinates"] == [list(position) for position in positions]


def test_a_fourth_ordinate_comes_along() -> None:
    for code in (3001, 0xC0000001):
        wkb = struct.pack("<BI4d", 1, code, 1, 2, 3, 4)

        assert geojson_from_wkb(wkb) == {"type": "Point", "coordinates": [1, 2, 3, 4]}


def test_a_ring_that_is_not_closed_is_read_as_it_is() -> None:
    wkb = struct.pack("<BIII4d", 1, 3, 1, 2, 0, 0, 1, 1)

    assert geojson_from_wkb(wkb) == {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}


@pytest.mark.parametrize(
    "wkb",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x01", id="only a byte order"),
        pytest.param(shapely.to_wkb(shapely.box(0, 0, 1, 1))[:-1], id="cut short"),
        pytest.param(struct.pack("<BI", 1, 8) + bytes(12), id="a curve"),
        pytest.param(struct.pack("<BI", 1, 4003) + bytes(12), id="a fifth dimension"),
        pytest.param(struct.pack("<BII", 1, 3, 2**32 - 1), id="four milliard rings"),
        pytest.param(struct.pack("<BIII", 1, 3, 1, 2**32 - 1), id="four milliard positions"),
        pytest.param(struct.pack("<BII", 1, 7, 1) * 10_000, id="nested without end"),
        pytest.param(
            struct.pack("<BII", 1, 6, 1) + shapely.to_wkb(shapely.GeometryCollection()),
            id="parts that are none",
        ),
    ],
)
def test_what_is_no_geometry_is_said_to_be_none(wkb: bytes) -> None:
    assert geojson_from_wkb(wkb) == {"type": "unreadable WKB", "wkb": wkb[:64].hex()}


@given(st.binary(max_size=200))
def test_no_bytes_raise(wkb: bytes) -> None:
    assert "type" in geojson_from_wkb(wkb)

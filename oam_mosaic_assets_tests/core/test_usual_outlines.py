"""Outlines that are read together are read as one at a time, to the last bit, and nearly all are."""

from __future__ import annotations

from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.core.geometry import MERCATOR_LATITUDE, drawable
from oam_mosaic_assets.core.usual_outlines import usual_areas
from oam_mosaic_assets_tests.chain import some_items
from oam_mosaic_assets_tests.core.strategies import examples, geometries, misshapen

SQUARE = [[0.0, 0.0], [0.1, 0.0], [0.1, 0.1], [0.0, 0.1], [0.0, 0.0]]


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def moved(east: float, north: float, times: float = 1.0) -> list[list[float]]:
    return [[lon * times + east, lat * times + north] for lon, lat in SQUARE]


small = st.tuples(
    st.floats(-180, 180), st.floats(-90, 90), st.lists(st.tuples(*[st.integers(0, 6)] * 2), max_size=7)
).map(
    lambda given: polygon(
        [[given[0] + column / 10, given[1] + row / 10] for column, row in [*given[2], *given[2][:1]]]
    )
)
"""Closed rings of points that often coincide, so that they touch and cross; anywhere."""


@given(st.lists(geometries | misshapen | small, max_size=6))
@examples(200)
def test_whatever_there_is_is_read_as_alone_or_left_out(given: list[Any]) -> None:
    areas = usual_areas(given)

    assert len(areas) == len(given)
    for geometry, area in zip(given, areas, strict=True):
        assert area is None or shapely.to_wkb(area) == shapely.to_wkb(drawable(geometry))


@pytest.mark.parametrize(
    "geometry",
    [
        polygon(SQUARE),
        polygon(SQUARE[::-1]),
        polygon([[*point, 12.5] for point in SQUARE]),
        polygon(moved(179.9, 0.0)),
        polygon(moved(-180.0, -MERCATOR_LATITUDE)),
    ],
    ids=["a square", "clockwise", "with heights", "at the antimeridian", "in the map's corner"],
)
def test_one_that_needs_no_repair_is_read_in_the_midst_of_others(geometry: dict[str, Any]) -> None:
    before, area, behind = usual_areas([polygon(SQUARE), geometry, polygon(SQUARE)])

    assert before == behind == drawable(polygon(SQUARE))
    assert shapely.to_wkb(area) == shapely.to_wkb(drawable(geometry))


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {"type": "MultiPolygon", "coordinates": [[SQUARE]]},
        polygon(),
        polygon([]),
        polygon(SQUARE, moved(0.02, 0.02, 0.2)),
        polygon(SQUARE[:-1]),
        polygon([SQUARE[0], *SQUARE]),
        polygon([*SQUARE[:2], SQUARE[1], *SQUARE[2:]]),
        polygon([SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3], SQUARE[0]]),
        polygon([SQUARE[0], SQUARE[1], SQUARE[1], SQUARE[0]]),
        polygon([[0, 0], *SQUARE[1:]]),
        polygon([[False, 0.0], *SQUARE[1:]]),
        polygon([["0", 0.0], *SQUARE[1:]]),
        polygon([[0.0], *SQUARE[1:]]),
        polygon([*SQUARE[:2], [float("nan"), 0.1], *SQUARE[3:]]),
        polygon([*SQUARE[:2], [float("inf"), 0.1], *SQUARE[3:]]),
        polygon(moved(179.95, 0.0)),
        polygon(moved(0.0, MERCATOR_LATITUDE - 0.05)),
        polygon(moved(0.0, 0.0, 11.0)),
        polygon(moved(0.0, 0.0, 1e-4)),
    ],
)
def test_one_that_is_not_as_usual_is_left_to_be_read_alone(geometry: object) -> None:
    before, area, behind = usual_areas([polygon(SQUARE), geometry, polygon(SQUARE)])

    assert area is None
    assert before == behind == drawable(polygon(SQUARE))


def test_nearly_all_are_as_usual() -> None:
    areas = usual_areas(item["geometry"] for item in some_items(200))

    assert sum(area is not None for area in areas) > 190

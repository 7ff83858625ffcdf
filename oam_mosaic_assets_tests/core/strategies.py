"""Hypothesis strategies for this domain: any JSON, coordinates as catalogues hold them, clean areas."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st


def examples(count: int) -> settings:
    """Try this many."""
    return settings(max_examples=count)


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
"""Includes lone surrogates and control characters."""

any_number = st.integers() | st.floats() | st.sampled_from([10**400, 1e-320, -0.0, 180, -180, 90, 1e308])

any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | any_number | any_text,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(any_text, children, max_size=4),
    max_leaves=8,
)

longitudes = st.sampled_from(
    [-360, -181, -180, -179.9, -179, -90, -1e-20, 0, 0.1, 90, 179, 180, 180.1, 181, 270, 359, 360]
) | st.floats(-360, 360)

latitudes = st.sampled_from([-90, -85.05112878, -1, 0, 1, 2, 85.05112878, 85.1, 90]) | st.floats(-90, 90)

anywhere = st.tuples(longitudes, latitudes).map(list)

at_the_antimeridian = st.tuples(st.integers(176, 184), st.integers(-4, 4)).map(list)

jumping_there = at_the_antimeridian.map(lambda point: [(point[0] + 180) % 360 - 180, point[1]])

on_a_small_grid = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(list)
"""Points that often coincide, so that rings touch and cross."""

rings = st.one_of(
    *(
        st.lists(points, max_size=7)
        for points in (
            anywhere,
            at_the_antimeridian,
            jumping_there,
            at_the_antimeridian | jumping_there,
            on_a_small_grid,
        )
    )
)

polygons = st.lists(rings, max_size=3)

geometries = st.one_of(
    st.builds(lambda polygon: {"type": "Polygon", "coordinates": polygon}, polygons),
    st.builds(
        lambda parts: {"type": "MultiPolygon", "coordinates": parts},
        st.lists(polygons, min_size=1, max_size=3),
    ),
)
"""GeoJSON of the right structure; anything may be wrong with its coordinates."""

misshapen = st.one_of(
    any_json,
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["Polygon", "MultiPolygon", "GeometryCollection", "Point"]) | any_json,
            "coordinates": any_json | st.lists(st.lists(st.lists(any_number | any_json, max_size=3))),
            "geometries": any_json | st.lists(geometries | any_json, max_size=3),
        }
    ),
)


@st.composite
def clean_areas(draw: st.DrawFn) -> list[list[float]]:
    """A convex outline, counterclockwise and closed, a tenth of a degree to five degrees across.

    It is centred between 70 south and 65 north, and its longitudes may exceed 180.
    """
    west, south = draw(st.floats(-175, 185)), draw(st.floats(-70, 65))
    size = draw(st.floats(0.1, 5))
    corners = draw(st.integers(3, 12))
    turns = [2 * math.pi * (corner + draw(st.floats(0, 0.5))) / corners for corner in range(corners)]
    ring = [[west + size * math.cos(turn) / 2, south + size * math.sin(turn) / 2] for turn in turns]
    return [*ring, ring[0]]

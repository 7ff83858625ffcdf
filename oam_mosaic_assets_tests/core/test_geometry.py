"""Geometries as catalogues hold them are drawn, or set aside with a reason; nothing else happens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st

from oam_mosaic_assets.core.geometry import MERCATOR_LATITUDE, REASONS, Area, Undrawable, drawable
from oam_mosaic_assets.core.shortened import shortened
from oam_mosaic_assets_tests.core.strategies import clean_areas, examples, geometries, misshapen

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.json"))

# one hole is inside, one half outside; their winding is arbitrary
HOLES = [[[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]], [[-1, -1], [-1, 0.1], [0.3, 0.1]]]


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def as_json(area: Area) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shapely.to_geojson(area))
    return found


def equal(area: Area, other: shapely.Geometry) -> bool:
    """Whether two areas have the same points, wherever rings start and in whatever order parts come."""
    return bool(shapely.equals_exact(shapely.normalize(area), shapely.normalize(other), 1e-12))


def drawable_or_why_not(geometry: object) -> Area | Undrawable:
    try:
        return drawable(geometry)
    except Undrawable as why:
        return why


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_geometry_is_drawn_or_set_aside_as_expected(path: Path) -> None:
    golden = json.loads(path.read_text())

    if "reason" in golden:
        with pytest.raises(Undrawable) as refused:
            drawable(golden["geometry"])
        assert refused.value.reason == golden["reason"]
        assert refused.value.value
    else:
        area = drawable(golden["geometry"])
        expected = shapely.from_geojson(json.dumps(golden["expected"]))
        assert equal(area, expected), area.wkt
        assert_drawable(area)


def test_what_lies_beyond_the_edge_of_the_map_is_no_sliver_within() -> None:
    edge = math.degrees(math.atan(math.sinh(math.pi)))  # the value that tile libraries print
    for south, north in ((edge, 86.0), (-86.0, -edge)):
        refused = drawable_or_why_not(json.loads(shapely.to_geojson(shapely.box(10.0, south, 11.0, north))))
        assert isinstance(refused, Undrawable)
        assert refused.reason == "no_area"


def test_every_golden_geometry_says_what_it_shows() -> None:
    for path in GOLDEN:
        golden = json.loads(path.read_text())
        assert set(golden) - {"expected", "reason"} == {"shows", "geometry"}, path.name
        assert ("expected" in golden) != ("reason" in golden), path.name
        assert golden["shows"].endswith("."), path.name
        assert golden.get("reason", "no_area") in REASONS, path.name


def assert_drawable(area: Area) -> None:
    """What `Area` promises."""
    assert area.geom_type in {"Polygon", "MultiPolygon"}
    assert area.is_valid
    assert area.area > 0
    west, south, east, north = area.bounds
    assert -180 <= west < east <= 180
    assert -MERCATOR_LATITUDE <= south < north <= MERCATOR_LATITUDE
    for part in shapely.get_parts(area):
        assert not part.has_z
        assert part.exterior.is_ccw
        assert not any(hole.is_ccw for hole in part.interiors)


@examples(400)
@given(geometries)
@example(polygon([[-0.0, 0], [1, 0], [1, 1], [0, 0]], *HOLES))
@example(polygon([[358, 0], [2, 0], [2, 4], [358, 4]], [[359, 1], [1, 1], [1, 3], [359, 3]]))
@example(polygon([[176, -2], [177, -1], [176, 0]], [[177, -3], [182, -4], [184, 2], [176, 3], [184, -2]]))
@example(polygon([[-100, 0], [0, 0], [100, 0], [100, 0.1], [0, 0.1], [-100, 0.1]]))
@example(
    polygon(  # round both poles, with holes that fit no outline
        [[27, 0], [181, -85], [90, -88], [178, 90], [-139, -85]],
        [[4, 3], [-36, 16], [0, 0], [178, -85]],
        [[360, 90], [-44, 1], [-1.5, 0], [180.1, -85], [180, 90]],
    )
)
@example(  # a hole of an outline without an area, beyond the antimeridian
    polygon([[-25.5, -90], [-173.3, -90], [125.5, -90]], [[-180.7, 0.3], [-180.3, 1.0], [180, 0.0]])
)
def test_a_geometry_is_drawable_or_refused_for_a_known_reason(geometry: dict[str, Any]) -> None:
    outcome = drawable_or_why_not(geometry)

    if isinstance(outcome, Undrawable):
        assert outcome.reason in REASONS
    else:
        assert_drawable(outcome)


@examples(400)
@given(misshapen)
@example({"type": "MultiPolygon", "coordinates": True})
@example({"type": "GeometryCollection", "geometries": [{"type": {}}, {"type": []}, None]})
@example(polygon([{"0": 1, "1": 2}] * 4))
@example(polygon(["ab", "cd", "ef", "ab"]))
def test_whatever_stands_for_a_geometry_is_refused_and_never_breaks_the_run(geometry: object) -> None:
    outcome = drawable_or_why_not(geometry)

    if isinstance(outcome, Undrawable):
        assert outcome.reason in REASONS
        outcome.value.encode()
        assert len(outcome.value) <= 160
    else:
        assert_drawable(outcome)


@pytest.mark.parametrize(
    "outline",
    [
        [[2.000000000000001, 1.1], [2, 2.1], [3, 0.1], [2, 0.1], [4, 2.1], [3, 1.1]],
        [
            *([1.999999999999999, -86.0], [2.000000000000001, -84], [1.999999999999999, -86], [4, -84]),
            *([2.000000000000001, -86.0], [4, -86.0], [2, -85], [3, -85], [4, -84]),
        ],
    ],
)
def test_what_the_geometry_library_cannot_resolve_is_refused(outline: list[list[float]]) -> None:
    """Edges that touch to within the last digit; another version of GEOS may well resolve these."""
    outcome = drawable_or_why_not(polygon(outline))

    assert isinstance(outcome, Undrawable)
    assert outcome.reason == "beyond_repair"
    assert "TopologyException" in outcome.value


def test_a_hole_is_no_area_though_its_outline_has_none() -> None:
    with pytest.raises(Undrawable) as refused:
        drawable(polygon([[-25.5, -90], [-173.3, -90], [125.5, -90]], [[10, 0.3], [11, 1.0], [12, 0.0]]))
    assert refused.value.reason == "no_way_round"


def test_a_tangle_is_refused_before_its_repair_takes_all_memory() -> None:
    chance = Random(1)  # the same every time
    tangle = [[chance.uniform(0, 1), chance.uniform(0, 1)] for _ in range(3_000)]
    turns = [math.tau * corner / 10_000 for corner in range(10_000)]
    ragged = [[math.cos(turn) / 3, math.sin(turn) / 3 * chance.uniform(1, 1.001)] for turn in turns]
    ragged[5], ragged[7] = ragged[7], ragged[5]
    assert_drawable(drawable(polygon(ragged)))
    with pytest.raises(Undrawable) as refused:
        drawable(polygon(tangle))
    assert refused.value.reason == "beyond_repair"
    assert refused.value.value == "it crosses itself more than 50,000 times"


def refused_soon(geometry: dict[str, Any]) -> Undrawable:
    """How it is refused, within three seconds of CPU."""
    clock = process_time()
    with pytest.raises(Undrawable) as refused:
        drawable(geometry)
    assert process_time() - clock < 3.0
    return refused.value


def strips(count: int) -> list[list[list[float]]]:
    """Rings: as many strips from west to east as from north to south, within one degree."""

    def strip(west: float, south: float, east: float, north: float) -> list[list[float]]:
        return [[west, south], [east, south], [east, north], [west, north]]

    places = [(number / count, (number + 1 / 3) / count) for number in range(count)]
    return [*(strip(at, 0, to, 1) for at, to in places), *(strip(0, at, 1, to) for at, to in places)]


AROUND = [[-1, -1], [2, -1], [2, 2], [-1, 2]]


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "MultiPolygon", "coordinates": [[each] for each in strips(400)]},
        {"type": "GeometryCollection", "geometries": [polygon(each) for each in strips(400)]},
        polygon(AROUND, *strips(400)),
        polygon([*AROUND[:2], *([2 - at / 500, 3 * (at % 2) - 1] for at in range(1500))], *strips(400)[400:]),
    ],
    ids=["parts", "members", "holes", "an outline and its holes"],
)
def test_so_is_a_tangle_of_several_rings(geometry: dict[str, Any]) -> None:
    refused = refused_soon(geometry)
    assert refused.reason == "beyond_repair"
    assert refused.value == "it crosses itself more than 50,000 times"


def test_parts_that_share_their_sides_are_no_tangle() -> None:
    """A mesh of squares, and one of triangles, of which up to eight meet in a corner."""
    lines = [(number / 80, (number + 1) / 80) for number in range(80)]
    squares = [[[w, s], [e, s], [e, n], [w, n]] for w, e in lines for s, n in lines]
    triangles = [
        [corner, each[number - 1], [(each[0][0] + each[2][0]) / 2, (each[0][1] + each[2][1]) / 2]]
        for each in squares
        for number, corner in enumerate(each)
    ]
    for mesh in (squares, triangles):
        whole = drawable({"type": "MultiPolygon", "coordinates": [[each] for each in mesh]})
        assert whole.area == pytest.approx(1.0)


CAP = [[-170, 84.9], [-90, 84.9], [0, 84.9], [90, 84.9], [170, 84.9]]


@pytest.mark.parametrize(
    "geometry",
    [
        polygon([*CAP, *([179 if at % 2 else -179, 84.9 + at / 40_000] for at in range(4000))]),
        polygon([[at * 100 % 360 - 180, 84.9 + at / 40_000] for at in range(4000)]),
        polygon(CAP, *([[179, at], [-179, at], [180, at + 0.00001]] for at in np.linspace(84.95, 85, 2000))),
    ],
    ids=["a zigzag", "hops", "holes"],
)
def test_an_outline_that_passes_the_antimeridian_all_the_time_is_refused(geometry: dict[str, Any]) -> None:
    refused = refused_soon(geometry)
    assert refused.reason == "no_way_round"
    assert refused.value == "its rings pass the antimeridian more than 100 times"


def test_an_outline_round_a_pole_may_pass_it_some_times() -> None:
    beyond_the_map = [[lon, 86] for lon, _ in CAP]
    ragged = [*beyond_the_map, *([179.9 if at % 2 else -179.9, 84.9 + at / 4000] for at in range(1, 10))]
    assert_drawable(drawable(polygon(ragged)))


def test_nesting_beyond_all_measure_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(50_000):
        nested = [nested]

    with pytest.raises(Undrawable) as refused:
        drawable({"type": "Polygon", "coordinates": [nested]})

    assert refused.value.value == "something that cannot be shown"


def test_an_area_in_many_parts_is_as_large_as_all_of_them_together() -> None:
    """A single part is within the limit; together they used to draw hundreds of millions of tiles."""
    corners = [(10 * column - 180, 10 * row - 50) for column in range(35) for row in range(11)]
    parts = [shapely.box(west, south, west + 9, south + 9) for west, south in corners]
    assert drawable(as_json(shapely.MultiPolygon(parts[:1]))).area == 81.0
    with pytest.raises(Undrawable) as refused:
        drawable(as_json(shapely.MultiPolygon(parts)))
    assert refused.value.reason == "too_large"


def zigzag(turns: int) -> list[list[float]]:
    """A strip of a millionth of a degree that goes to and fro within 50 by 25 degrees."""
    way = [(turn * 50 / turns - 25, 12.5 - 25 * (turn % 2)) for turn in range(turns)]
    return [*([lon, lat] for lon, lat in way), *([lon + 1e-6, lat] for lon, lat in reversed(way))]


def test_a_strip_without_end_is_as_large_as_the_tiles_that_it_passes() -> None:
    """The longer one would be drawn in three million tiles of z15, though its area is next to nothing."""
    assert_drawable(drawable(polygon(zigzag(40))))
    with pytest.raises(Undrawable) as refused:
        drawable(polygon(zigzag(1500)))
    assert refused.value.reason == "too_large"


@examples(200)
@given(geometries)
def test_what_is_drawable_stays_as_it_is(geometry: dict[str, Any]) -> None:
    once = drawable_or_why_not(geometry)
    if isinstance(once, Undrawable):
        return

    twice = drawable(as_json(once))

    assert once.symmetric_difference(twice).area <= 1e-12 * once.area


@examples(200)
@given(clean_areas())
def test_a_clean_area_loses_and_gains_nothing(ring: list[list[float]]) -> None:
    area = drawable(polygon(ring))

    assert area.area == pytest.approx(shapely.Polygon(ring).area, rel=1e-9)


@examples(200)
@given(ring=clean_areas(), turns=st.sampled_from([-360, 0, 360]), clockwise=st.booleans())
def test_however_an_area_at_the_antimeridian_is_counted_it_is_the_same(
    ring: list[list[float]], turns: int, *, clockwise: bool
) -> None:
    """Drawn continuously past 180, jumping to -180, or shifted by a full turn."""
    counted = [[lon + turns, lat] for lon, lat in ring]
    jumping = [[(lon + 180) % 360 - 180, lat] for lon, lat in ring]
    if any(abs(lon) > 360 for lon, _ in counted):
        counted = jumping
    if clockwise:
        counted = counted[::-1]

    first, second = drawable(polygon(counted)), drawable(polygon(jumping))

    assert first.symmetric_difference(second).area <= 1e-9 * first.area


@examples(100)
@given(
    ring=clean_areas(), points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=5, max_size=5)
)
def test_a_split_area_covers_the_points_that_its_unwrapped_twin_covers(
    ring: list[list[float]], points: list[tuple[float, float]]
) -> None:
    split, twin = drawable(polygon(ring)), shapely.Polygon(ring)
    west, south, east, north = twin.bounds

    for across, up in points:
        point = shapely.Point(west + across * (east - west), south + up * (north - south))
        if twin.exterior.distance(point) > 1e-9:
            turned = shapely.Point((point.x + 180) % 360 - 180, point.y)
            assert split.covers(turned) == twin.covers(point)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines", "'two\\nlines'"),
        ("\ud800", "'\\ud800'"),
        (None, "None"),
        ([1, "a"], "[1, 'a']"),
    ],
)
def test_a_flaw_is_shown_in_one_line_that_can_be_written(value: object, shown: str) -> None:
    assert shortened(value) == shown


def test_a_flaw_beyond_measure_is_cut_or_named_by_its_kind() -> None:
    assert shortened("x" * 161) == "x" * 159 + "…"
    assert shortened(10**5000) == "something that cannot be shown"

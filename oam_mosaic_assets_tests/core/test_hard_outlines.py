"""Outlines that rounding, jags or sheer extent make hard: each is drawn correctly and fast, or set aside."""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from oam_mosaic_assets.core import audit, examination, reexamination
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.cutting import cut_to_square
from oam_mosaic_assets.core.drawn import Piece
from oam_mosaic_assets.core.examination import examine
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.geometry import Undrawable, drawable
from oam_mosaic_assets.core.grid import project_mended, tile_ids, tiles_between, to_tiles
from oam_mosaic_assets.core.low_zooms import low_zoom_tiles
from oam_mosaic_assets.core.pieces import DRAWN, cut_to_tile
from oam_mosaic_assets.core.placement import TOLERANCE, Places, outline_differs, places_of, tiles_reached
from oam_mosaic_assets.core.reexamination import reexamine
from oam_mosaic_assets.core.snapshot import as_drawn
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT, MITRE, TilingPlan
from oam_mosaic_assets_tests.core.pictures import covered, judged
from oam_mosaic_assets_tests.core.scene import Scene, footprint, made_from, snapshot_of

ELSEWHERE = [footprint(f"elsewhere {number}", number, 1.0, number + 0.01, 1.01) for number in range(6)]

UNIT = 360.0 / 2**15 / EXTENT
"""One tile unit at z15, in degrees of longitude."""

SECONDS = 40.0
"""CPU time allowed: about four times what it takes; it used to take many minutes."""


def as_json(outline: shapely.Geometry) -> Any:
    return json.loads(shapely.to_geojson(outline))


def image(name: str, outline: shapely.Geometry) -> Footprint:
    return Footprint(id=name, geometry=drawable(as_json(outline)))


def faults(scene: Scene) -> dict[str, str]:
    assert scene.snapshot.bounds is not None
    found = examine(
        scene.archive,
        scene.footprints,
        scene.plan,
        snapshot=scene.snapshot.digest,
        extent=scene.snapshot.bounds,
    )
    return {each.name: each.text for each in found if not each.passed}


def reexamined(after: Scene, before: Scene) -> list[Verdict]:
    assert after.snapshot.bounds is not None
    return reexamine(
        after.archive,
        after.footprints,
        after.plan,
        before.before,
        snapshot=after.snapshot.digest,
        extent=after.snapshot.bounds,
    )


def jagged(points: int, west: float) -> shapely.Polygon:
    """Some ten metres across; crosses itself everywhere."""
    chance, angle = np.random.default_rng(points), np.linspace(0, 2 * np.pi, points)
    radius = 3e-5 * (1 + 0.1 * chance.normal(size=(2, points)))
    return shapely.Polygon(
        np.column_stack([west + radius[0] * np.cos(angle), 10 + radius[1] * np.sin(angle)])
    )


def jagged_strip(points: int, south: float, width: float, jag: float) -> shapely.Polygon:
    """A few kilometres long, and a few metres wide or much less."""
    chance, along = np.random.default_rng(points), np.linspace(20.0, 20.05, points)
    sides = south + jag * chance.uniform(size=(2, points))
    north = np.column_stack([along, sides[0] + width])
    return shapely.Polygon([*north, *np.column_stack([along, sides[1]])[::-1]])


VANISHING = {
    "a box as flat as rounding": [(12.0, 0.3), (12.4, 0.3), (12.4, 0.1 + 0.2), (12.0, 0.1 + 0.2)],
    "from west to east": [(10.0, 45.0), (10.3, 45.0), (10.2, math.nextafter(45.0, 46.0))],
    "from south to north": [(100.0, 5.0), (100.0, 5.3), (math.nextafter(100.0, 101.0), 5.2)],
    "a tenth of a micrometre": [(30.0, 1.0), (31.0, 1.0), (30.5, 1.000000000001)],
    "a hair along the edge of tiles": [(0.0, 10.0), (0.0, 10.2), (-1e-13, 10.1)],
}


@pytest.mark.parametrize("ring", VANISHING.values(), ids=VANISHING)
def test_what_vanishes_when_it_is_projected_has_no_area(ring: list[tuple[float, float]]) -> None:
    """Such outlines used to be drawn only where tippecanoe widens them, so that no audit passed."""
    flat, box = shapely.Polygon(ring), shapely.box(5.0, 5.0, 5.1, 5.1)
    assert flat.area > 0.0
    with pytest.raises(Undrawable) as raised:
        drawable(as_json(flat))
    assert raised.value.reason == "no_area"
    assert drawable(as_json(shapely.MultiPolygon([flat, box]))).equals(box)


def test_what_hardly_has_an_area_is_drawn_at_all_zooms(tmp_path: Path) -> None:
    thin = [
        shapely.Polygon([(0.1, 0.1), (0.2, 0.2), (0.3, 0.30000000000000004)]),
        shapely.Polygon([(30.0, 1.0), (31.0, 1.0), (30.5, 1.00000000005)]),
        shapely.Polygon([(0.0, 10.0), (0.0, 10.2), (-5e-11, 10.1)]),
        shapely.Polygon([(100.0, 5.0), (100.000000001, 5.0), (100.0, 5.000000001)]),
    ]
    images = [image(f"thin {number}", each) for number, each in enumerate(thin)]
    assert faults(made_from([*images, *ELSEWHERE], tmp_path / "m", plan=TilingPlan(zoom_max=13))) == {}
    drawn = covered(images, tmp_path / "exact", CoveragePlan(way="exact", zoom_max=13), processes=1)
    assert [each.text for each in judged(drawn) if not each.passed] == []


def test_jagged_outlines_hold_nothing_up(tmp_path: Path) -> None:
    outlines = [jagged(points, 20.0 + points / 1e5) for points in (400, 1000)]
    outlines += [jagged_strip(1500, 1.0, 2e-5, 4e-5), jagged_strip(3000, 2.0, 1e-7, 3e-7)]
    images = [image(f"jagged {number}", each) for number, each in enumerate(outlines)]
    clock = time.process_time()
    scene = made_from([*images, *ELSEWHERE], tmp_path / "mosaic", plan=TilingPlan())
    assert faults(scene) == {}
    assert time.process_time() - clock < SECONDS


@pytest.mark.parametrize("zoom_max", [10, 13], ids=["by tippecanoe", "here"])
def test_an_island_in_a_hole_passes(tmp_path: Path, zoom_max: int) -> None:
    tile = 360.0 / 2**zoom_max
    middle = shapely.Point(tile / 2, tile / 2)
    outline, hole, island = (middle.buffer(each * tile, cap_style="square") for each in (0.3, 0.2, 0.1))
    area = shapely.union(shapely.difference(outline, hole), island)
    made = made_from([image("an island", area)], tmp_path / "m", plan=TilingPlan(zoom_max=zoom_max))
    assert faults(made) == {}


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_of_an_outline_of_too_many_corners_to_compare_no_piece_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_taken_over: bool
) -> None:
    def ring(corners: int, west: float) -> shapely.Polygon:
        angle = np.linspace(0, 2 * np.pi, corners)[:-1]
        return shapely.Polygon(np.column_stack([west + 0.1 * np.cos(angle), 0.1 * np.sin(angle)]))

    images = [image("comparable", ring(1000, 40.0)), image("of more corners", ring(1001, 50.0))]
    module, plan, kept = reexamination if is_taken_over else examination, TilingPlan(zoom_max=13), []

    def watched(*given: Any, **more: Any) -> Places:
        batches, drawn, *others = given
        kept.append(len(drawn.pieces))
        return places_of(batches, drawn, *others, **more)

    monkeypatch.setattr(module, "places_of", watched)
    monkeypatch.setattr(reexamination, "SAMPLED", 0)
    monkeypatch.setattr(audit, "COMPARED_OUTLINES", 2)
    if is_taken_over:
        before = made_from(ELSEWHERE, tmp_path / "before", plan=plan)
        after = made_from([*images, *ELSEWHERE], tmp_path / "after", plan=plan, before=before.before)
        assert after.changed == len(images)
        assert [each.text for each in reexamined(after, before) if not each.passed] == []
    else:
        assert faults(made_from(images, tmp_path / "mosaic", plan=plan)) == {}
    assert kept == [1] * len(range(plan.whole_from, 14))


@pytest.mark.parametrize("width", [0.3, 0.5, 0.8])
def test_a_part_that_rounding_wipes_out_is_widened_no_farther_than_an_outline_may_lie(
    width: float, tmp_path: Path
) -> None:
    west, south, plan = 20.0, 3.0, TilingPlan(zoom_max=15)
    corners = np.array([(200.0, 0.0), (200.0 + width, 0.0), (207.0 + width / 2, 20.0)]) * UNIT
    whole = shapely.box(west, south, west + 100 * UNIT, south + 100 * UNIT)
    parts = shapely.MultiPolygon([whole, shapely.Polygon(corners + np.array([west, south]))])
    assert faults(made_from([image("two parts", parts), *ELSEWHERE], tmp_path / "mosaic", plan=plan)) == {}


def test_outlines_are_cut_into_tiles_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is copied for every tile that it reaches: strips across a continent used to fill gigabytes."""
    strips = []
    for number in range(4):
        along = np.linspace(0.0, 1.0, 1000)
        jags = 0.15 * (np.arange(1000) % 2)
        south = np.column_stack([45 * along - 100 + number, 44 * along - 22 + jags])
        strips.append(
            image(f"strip {number}", shapely.Polygon([*south, *(south + np.array([0.0, 1.0]))[::-1]]))
        )
    snapshot_of(strips, tmp_path / "s")
    corners = []

    def watched(local: np.ndarray) -> np.ndarray:
        corners.append(int(shapely.get_num_coordinates(local).sum()))
        return cut_to_tile(local)

    monkeypatch.setattr("oam_mosaic_assets.core.low_zooms.cut_to_tile", watched)
    tiles = list(low_zoom_tiles(tmp_path / "s" / "footprints.parquet", TilingPlan()))
    assert sum(corners) > 4 * max(corners)
    assert max(corners) < 70_000
    assert len(tiles) == 284


def test_a_sliver_by_the_pole_is_drawn_again_where_its_widened_tip_reaches(tmp_path: Path) -> None:
    plan, zoom = TilingPlan(zoom_max=10), 9
    column, row = np.floor(to_tiles(np.array([[10.0, 84.6]]), zoom))[0].tolist()

    def place(x: float, y: float) -> tuple[float, float]:
        latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * (row + y) / 2**zoom))))
        return (column + x) / 2**zoom * 360.0 - 180.0, latitude

    (middle, tip), (_, foot) = place(0.5, 1.0 + 160 / EXTENT), place(0.5, 1.1 + 160 / EXTENT)
    sliver = shapely.Polygon([(middle - 1e-5, foot), (middle + 1e-5, foot), (middle, tip)])

    def images(height: float) -> list[Footprint]:
        changing = shapely.box(*place(0.3, 0.5), *place(0.35, height))
        return [image("a sliver", sliver), image("what changes", changing), *ELSEWHERE]

    before = made_from(images(0.45), tmp_path / "before", plan=plan)
    after = made_from(images(0.46), tmp_path / "after", plan=plan, before=before.before)
    assert after.changed == 1
    anew = made_from(images(0.46), tmp_path / "anew", plan=plan)
    assert after.archive.read_bytes() == anew.archive.read_bytes()


def test_an_outline_that_crosses_itself_is_cut_to_no_more_than_its_part_of_the_square() -> None:
    crossing = [
        (1.1776482556535512, 0.12580843490929838),
        (0.562295052195499, -0.0587975239487655),
        (1.189627705569848, 0.12940227136865098),
        (0.8712099130504973, 0.03387693373048463),
        (-0.2546154158183663, -0.3038706646090431),
        (-0.27441323276228485, -0.30981001006949443),
        (0.5204139572193249, -0.07136185301852108),
    ]
    area = shapely.Polygon(crossing)
    assert shapely.clip_by_rect(area, 0.0, 0.0, 1.0, 1.0).area > 0.99, "GEOS leaves all of the square"
    (cut,) = cut_to_square(np.array([area], dtype=object), 0.0, 1.0)
    assert cut.area < 1e-9


def survey(corners: int, width: float) -> shapely.Polygon:
    """A half-circle of 25 km, driven along with a shaking hand, `width` degrees wide."""
    chance, angle = np.random.default_rng(corners), np.linspace(0.0, np.pi, corners)
    radius = 0.225 + width / 4 * chance.uniform(size=(2, corners)) + np.array([[0.0], [width]])
    sides = [np.column_stack([20.0 + each * np.cos(angle), 5.0 + each * np.sin(angle)]) for each in radius]
    return shapely.Polygon([*sides[1], *sides[0][::-1]])


def specks(count: int, west: float) -> shapely.MultiPolygon:
    """Squares of 11 m, strewn over a degree; longitudes may exceed 180."""
    chance = np.random.default_rng(count)
    x, y = west + chance.uniform(size=count), 5.0 + 0.1 * chance.uniform(size=count)
    return shapely.MultiPolygon([shapely.box(*each) for each in np.column_stack([x, y, x + 1e-4, y + 1e-4])])


def strewn(count: int) -> shapely.MultiPolygon:
    """Specks of a metre, which simplification wipes out, about one of 22 m, which it does not."""
    small = [shapely.transform(each, lambda p: p.round(4)) for each in specks(count, 60.0).geoms]
    grains = [
        shapely.box(each.bounds[0], each.bounds[1], each.bounds[0] + 1e-5, each.bounds[1] + 1e-5)
        for each in small
    ]
    return shapely.MultiPolygon([*grains, shapely.box(60.5, 5.2, 60.5002, 5.2002)])


MANY_CORNERS = {
    "a survey along a road": survey(6000, 3e-4),
    "specks": specks(500, 30.0),
    "grains and a speck": strewn(60),
    "specks on both sides of the antimeridian": specks(500, 179.5),
}


@pytest.mark.parametrize("outline", MANY_CORNERS.values(), ids=MANY_CORNERS)
def test_a_thin_outline_of_many_corners_is_drawn_where_it_lies_and_nowhere_else(
    outline: shapely.Geometry, tmp_path: Path
) -> None:
    """They used to become their hull: the ground inside a curve, or a belt around the world."""
    area, plan = drawable(as_json(outline)), TilingPlan(zoom_max=12)
    thinnest = plan.thinnest_at(plan.whole_from)
    clock = time.process_time()
    (drawn,) = as_drawn(np.array([area], dtype=object), thinnest)
    corners = shapely.points(shapely.get_coordinates(drawn))
    shapely.prepare(area)
    assert shapely.dwithin(area, corners, (MITRE + 1 / 16) * thinnest).all()
    assert drawn.area < area.convex_hull.area / 20
    middles = shapely.point_on_surface(shapely.get_parts(area))
    assert shapely.covers(drawn, middles).all()
    scene = made_from([Footprint(id="many corners", geometry=area), *ELSEWHERE], tmp_path / "m", plan=plan)
    assert faults(scene) == {}
    assert time.process_time() - clock < SECONDS


STRIP = shapely.Polygon([(-24.0, -24.0), (-23.99, -24.0), (24.01, 24.0), (24.0, 24.0)])
"""As long as an image may be, and a kilometre wide."""

LONG = {
    "a strip": STRIP,
    "a bend": shapely.Polygon([(-20.0, 5.0), (0.0, -30.0), (20.0, 5.0), (0.0, -29.98)]),
    "a frame": shapely.box(10.0, 0.0, 40.0, 20.0).boundary.buffer(0.01),
    "just east of the edge of a tile": shapely.box(0.002, 1.0, 30.0, 1.1),
    "two strips side by side": shapely.MultiPolygon(
        [STRIP, shapely.transform(STRIP, lambda p: p + np.array([1, 0]))]
    ),
}


@pytest.mark.parametrize("outline", LONG.values(), ids=LONG)
def test_what_has_a_large_frame_is_looked_for_in_all_tiles_that_it_reaches(outline: shapely.Geometry) -> None:
    given, zoom, margin = np.array([outline], dtype=object), 11, BUFFER + TOLERANCE
    (area,) = project_mended(given, zoom)
    shapely.prepare(area)
    west, north, east, south = np.floor(area.bounds).astype(np.int64)
    _, x, y = tiles_between(*(np.array([side]) for side in (west - 1, north - 1, east + 2, south + 2)))
    near = shapely.intersects(area, shapely.box(x - margin, y - margin, x + 1 + margin, y + 1 + margin))
    assert tiles_reached(given, zoom).tolist() == sorted(tile_ids(zoom, x[near], y[near]).tolist())


def test_a_long_strip_is_not_looked_for_in_its_whole_frame() -> None:
    """It holds 20 million tiles, and four times as many with each zoom more; all used to be examined."""
    clock = time.process_time()
    assert 13_000 < len(tiles_reached(np.array([STRIP], dtype=object), 15)) < 14_000
    assert time.process_time() - clock < 2.0


LARGE = 300
"""Columns and rows of tiles that a large image reaches."""


def comparison_of_a_large_outline(damage: shapely.Polygon | None) -> tuple[bool, int]:
    """Whether it differs if a tile in its midst lacks something, and the megabytes that it takes to find out.

    Args:
        damage: what that tile lacks, in tile units.
    """
    zoom, first = 15, 2**14 + 7
    corners = np.array([[first, first], [first + LARGE, first + LARGE]]) / 2**zoom
    longitudes = corners[:, 0] * 360 - 180
    latitudes = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * corners[:, 1]))))
    outline = shapely.box(longitudes[0], latitudes[1], longitudes[1], latitudes[0])
    pieces = [Piece(first + at % LARGE, first + at // LARGE, DRAWN) for at in range(LARGE**2)]
    if damage is not None:
        which = LARGE * (LARGE // 2) + LARGE // 2
        pieces[which] = replace(pieces[which], area=DRAWN - damage)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    differs = outline_differs(outline, pieces, zoom)
    return differs, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10


@pytest.mark.parametrize(
    ("damage", "differs"),
    [(None, False), (shapely.box(9, 9, 19, 19), True)],
    ids=["whole", "a hole"],
)
def test_a_large_outline_is_compared_in_little_memory(
    damage: shapely.Polygon | None, *, differs: bool
) -> None:
    """Of 90,000 tiles; it used to take more than 100 MB, and an image may have ten times as many tiles."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
        found, megabytes = own.submit(comparison_of_a_large_outline, damage).result()
    assert found == differs
    assert megabytes < 60


def ribbon(corners: int) -> shapely.Polygon:
    """65 km long and 300 m wide; a zigzag that does not cross itself."""
    chance, along = np.random.default_rng(corners), np.linspace(9.7, 10.3, corners // 2)
    side = np.column_stack([along, 10.0 + chance.uniform(-0.09, 0.09, corners // 2)])
    return shapely.Polygon([*side, *(side + np.array([0.0, 0.003]))[::-1]])


def cost_of_low_zooms(footprints: Path) -> tuple[int, float, int]:
    """The number of tiles, and the CPU seconds and the megabytes that it takes to draw them."""
    clock, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tiles = list(low_zoom_tiles(footprints, TilingPlan()))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return len(tiles), time.process_time() - clock, grown >> 10


def test_low_zooms_draw_a_long_zigzag_in_little_memory(tmp_path: Path) -> None:
    """Twice as many corners used to take four times the time and memory: here 25 seconds and 1.7 GB.

    It is more jagged than any that is read, so that the test is quick to notice.
    """
    snapshot_of([Footprint(id="ribbon", geometry=ribbon(6400))], tmp_path / "s")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
        costs = own.submit(cost_of_low_zooms, tmp_path / "s" / "footprints.parquet")
        tiles, seconds, megabytes = costs.result()
    assert tiles == 10
    assert megabytes < 300
    assert seconds < 20.0

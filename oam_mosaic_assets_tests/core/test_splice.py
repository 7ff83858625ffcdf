"""A mosaic in which only changes are made anew is, byte for byte, the one that is made from scratch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pmtiles.reader import MemorySource, all_tiles

from oam_mosaic_assets.core import changes as changes_module
from oam_mosaic_assets.core import splice as splice_module
from oam_mosaic_assets.core.changes import changes_between, reached_tiles
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.geometry import Undrawable
from oam_mosaic_assets.core.grid import Geometries, tile_ids
from oam_mosaic_assets.core.mbtiles import read_tiles
from oam_mosaic_assets.core.snapshot import write_geojson
from oam_mosaic_assets.core.splice import TooMuchChanged, splice_between
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways import mosaic_tiles
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe
from oam_mosaic_assets_tests.core.scene import (
    DIFFICULT,
    IMAGES,
    NOW,
    Scene,
    footprint,
    made_from,
    snapshot_of,
)
from oam_mosaic_assets_tests.core.strategies import examples

PLAN = TilingPlan(zoom_max=11)
DEEP_PLAN = TilingPlan(zoom_max=11, exact=10)
PLANS = pytest.mark.parametrize(
    "plan", [PLAN, details_plan(11), DEEP_PLAN], ids=["mosaic", "details", "deep zooms"]
)

STEPS = 10
"""Changes between two builds of the walk."""

PLACES = (
    (179.95, -17.0),
    (-180.0, 5.0),
    (20.0, 84.9),
    (20.0, -85.1),
    (10.1, 10.1),
    (0.0, 0.0),
    (30.0, -20.0),
)
"""West and south of where images appear: the antimeridian, the map's northern and southern edges, amid other
images, and corners of tiles."""

CELL = 360.0 / 2**PLAN.whole_from

places = st.sampled_from(PLACES)
nudges = st.tuples(st.floats(-CELL, CELL), st.floats(-CELL / 8, CELL / 8))
sizes = st.floats(0.0001, CELL / 2)
ages = st.integers(0, 3)
"""Days; images of the same age are drawn in the order of their ids."""

drawn = st.tuples(st.just("draw"), st.integers(0, 40), places, nudges, sizes, ages)
"""An image that is added, or moved if it already exists."""
dated = st.tuples(st.just("date"), st.integers(0, 60), ages)
deleted = st.tuples(st.just("delete"), st.integers(0, 60))
described = st.tuples(
    st.just("describe"),
    st.integers(0, 60),
    st.sampled_from(
        [
            {"title": "A title"},
            {"title": None},
            {"license": "CC-BY-4.0"},
            {"license": "CC-BY-4.0", "gsd": 0.05},
            {"updated": NOW},  # which no tile contains
        ]
    ),
)
changes = drawn | drawn | dated | deleted | described


def walked(world: dict[str, Footprint], change: tuple) -> None:  # type: ignore[type-arg]  # of four kinds
    """Apply one change."""
    match change:
        case "draw", number, (west, south), (east, north), size, age:
            name, west, south = f"image {number}", west + east, south + north
            with suppress(Undrawable):  # beyond the map's edge
                world[name] = footprint(
                    name, west, south, west + size, south + size, acquired_to=NOW - timedelta(days=age)
                )
        case "date", number, age:
            name = sorted(world)[number % len(world)]
            world[name] = replace(world[name], acquired_to=NOW - timedelta(days=age))
        case "describe", number, known:
            name = sorted(world)[number % len(world)]
            world[name] = replace(world[name], **known)
        case "delete", number:
            if len(world) > len(IMAGES) // 2:
                del world[sorted(world)[number % len(world)]]


@PLANS
@examples(2)
@given(walk=st.lists(changes, min_size=50, max_size=50))
def test_after_a_walk_of_changes_all_is_as_if_made_at_once(
    tmp_path_factory: pytest.TempPathFactory,
    plan: TilingPlan,
    walk: list[tuple],  # type: ignore[type-arg]
) -> None:
    folder = tmp_path_factory.mktemp("walk")
    world = {each.id: each for each in IMAGES}
    last = made_from(world.values(), folder / "start", plan=plan)
    for start in range(0, len(walk), STEPS):
        for change in walk[start : start + STEPS]:
            walked(world, change)
        last = made_from(world.values(), folder / f"{start}", plan=plan, before=last.before)
    anew = made_from(world.values(), folder / "anew", plan=plan)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mosaic_tiles, "WORTH_PARTING", 0)
        in_parts = made_from(world.values(), folder / "parts", plan=plan, processes=3)

    assert len([*(folder / "parts").glob("*.part-*.geojsonl")]) > 3
    assert in_parts.archive.read_bytes() == anew.archive.read_bytes()
    assert anew.archive.read_bytes() == last.archive.read_bytes()
    assert tiles_of(anew, plan.simplified_zooms) == one_run_of_tippecanoe(anew, folder)


def tiles_of(scene: Scene, zooms: range) -> dict[tuple[int, int, int], bytes]:
    every = all_tiles(MemorySource(scene.archive.read_bytes()))  # type: ignore[no-untyped-call]  # pmtiles has none
    return {tile: content for tile, content in every if tile[0] in zooms}


def one_run_of_tippecanoe(scene: Scene, folder: Path) -> dict[tuple[int, int, int], bytes]:
    whole = folder / "one-run.mbtiles"
    plan = scene.plan
    Tippecanoe().run([plan.arguments(source=str(scene.geojson), target=str(whole), temporary=str(folder))])
    return {(zoom, x, y): content for zoom, x, y, content in read_tiles(whole)}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return made_from(IMAGES, tmp_path_factory.mktemp("start") / "mosaic", plan=PLAN)


def test_one_more_image_leaves_the_rest_as_it_is(start: Scene, tmp_path: Path) -> None:
    more = footprint("one more", 10.3, 10.2, 10.6, 10.5, acquired_to=NOW)
    after = made_from([*IMAGES, more], tmp_path / "after", plan=PLAN, before=start.before)

    assert after.changed == 1
    assert 0 < after.made.tiles_made < after.made.tiles_reused
    assert (
        after.archive.read_bytes()
        == made_from([*IMAGES, more], tmp_path / "a", plan=PLAN).archive.read_bytes()
    )


def test_what_changed_may_lie_in_some_of_the_parts(
    start: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = footprint("one more", 10.1, 10.1, 10.2, 10.2)
    made = made_from([*IMAGES, more], tmp_path / "made", plan=PLAN, before=start.before)
    monkeypatch.setattr(mosaic_tiles, "WORTH_PARTING", 0)
    parted = made_from([*IMAGES, more], tmp_path / "parted", plan=PLAN, before=start.before, processes=3)
    lines = [each.stat().st_size for each in (tmp_path / "parted").glob("*.part-*.geojsonl")]
    assert 0 in lines
    assert any(lines)
    assert parted.archive.read_bytes() == made.archive.read_bytes()


def test_much_is_made_in_parts_even_one_after_another(
    start: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic_tiles, "WORTH_PARTING", 0)
    monkeypatch.setattr(mosaic_tiles, "LARGEST_PART", start.geojson.stat().st_size // 4)
    parted = made_from(IMAGES, tmp_path / "parted", plan=PLAN, processes=1)
    assert len([*(tmp_path / "parted").glob("*.part-*.geojsonl")]) >= 4
    assert parted.archive.read_bytes() == start.archive.read_bytes()


def test_the_last_image_of_a_place_takes_its_tiles_with_it(start: Scene, tmp_path: Path) -> None:
    left = [each for each in IMAGES if each.id != "a lake"]
    after = made_from(left, tmp_path / "after", plan=PLAN, before=start.before)

    assert after.changed == 1
    assert after.archive.read_bytes() == made_from(left, tmp_path / "anew", plan=PLAN).archive.read_bytes()


@pytest.fixture(scope="module")
def details(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return made_from(IMAGES, tmp_path_factory.mktemp("start") / "details", plan=details_plan(11))


@pytest.mark.parametrize(
    "known", [{"title": "Another title"}, {"license": "CC-BY-4.0"}, {"gsd": 0.05, "sensor": "A camera"}]
)
def test_what_is_said_of_an_image_changes_the_details_alone(
    start: Scene, details: Scene, tmp_path: Path, known: dict[str, Any]
) -> None:
    images = [replace(IMAGES[0], **known), *IMAGES[1:]]
    mosaic = made_from(images, tmp_path / "mosaic", plan=PLAN, before=start.before)
    after = made_from(images, tmp_path / "after", plan=details.plan, before=details.before)
    anew = made_from(images, tmp_path / "anew", plan=details.plan)

    assert (mosaic.changed, mosaic.made.tiles_made) == (0, 0)
    assert after.changed == 1
    assert 0 < after.made.tiles_made < after.made.tiles_reused
    assert after.archive.read_bytes() == anew.archive.read_bytes()
    assert tiles_of(anew, range(12)) != tiles_of(details, range(12))


@PLANS
def test_what_tiles_do_not_show_changes_no_tile(start: Scene, tmp_path: Path, plan: TilingPlan) -> None:
    updated = [replace(each, updated=NOW, acquired_from=NOW) for each in IMAGES]
    assert snapshot_of(updated, tmp_path).digest != start.snapshot.digest
    assert changes_between(start.footprints, tmp_path / "footprints.parquet", plan.columns).images == 0


def test_outlines_of_images_that_are_drawn_as_before_are_not_held(
    start: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All digests differ after an update that adds a column, and the outlines of all images fill memory."""
    collect, collected = pl.LazyFrame.collect, []

    def noted(rows: pl.LazyFrame, **options: Any) -> pl.DataFrame:
        collected.append(collect(rows, **options))
        return collected[-1]

    snapshot_of([replace(each, updated=NOW) for each in IMAGES], tmp_path)
    monkeypatch.setattr(pl.LazyFrame, "collect", noted)
    changes_between(start.footprints, tmp_path / "footprints.parquet", PLAN.columns)
    assert sum(len(each) for each in collected if "geometry" in each.columns) == 0


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        (lambda images: images[1:], (0, 1, 0)),
        (lambda images: [*images, footprint("new", 0, 0, 1, 1)], (1, 0, 0)),
        (lambda images: [replace(images[0], acquired_to=NOW), *images[1:]], (0, 0, 1)),
        (lambda images: [replace(images[0], acquired_to=None), *images[1:]], (0, 0, 1)),
        (lambda images: [replace(images[0], geometry=images[3].geometry), *images[1:]], (0, 0, 1)),
    ],
    ids=["gone", "new", "of another date", "of no date", "elsewhere"],
)
def test_what_changed_is_counted(start: Scene, tmp_path: Path, change, counted) -> None:  # type: ignore[no-untyped-def]
    snapshot_of(change(list(IMAGES)), tmp_path)
    found = changes_between(start.footprints, tmp_path / "footprints.parquet", PLAN.columns)

    assert (found.added, found.removed, found.altered) == counted
    assert len(found.areas) == counted[0] + counted[1] + 2 * counted[2]


def test_too_much_changed_is_made_anew(start: Scene, tmp_path: Path) -> None:
    others = [footprint(f"{number}", number, 0, number + 1, 1) for number in range(100)]
    snapshot_of(others, tmp_path)

    with pytest.raises(TooMuchChanged, match="images are new, gone or changed"):
        splice_between(start.footprints, tmp_path / "footprints.parquet", PLAN)
    after = made_from(others, tmp_path / "after", plan=PLAN, before=start.before)
    assert "images are new, gone or changed" in str(after.splice)
    assert after.made.tiles_reused == 0


def test_so_is_a_tenth_if_it_reaches_many_tiles(
    start: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenth = len(IMAGES) // 10
    snapshot_of(IMAGES[tenth:], tmp_path / "fewer")
    snapshot_of(IMAGES[tenth + 1 :], tmp_path / "fewer still")
    now = [tmp_path / each / "footprints.parquet" for each in ("fewer", "fewer still")]
    reached = len(splice_between(start.footprints, now[1], PLAN).tiles)
    monkeypatch.setattr(splice_module, "FEW_TILES", reached)
    assert splice_between(start.footprints, now[1], PLAN).changed == tenth + 1
    monkeypatch.setattr(splice_module, "FEW_TILES", reached - 1)
    assert splice_between(start.footprints, now[0], PLAN).changed == tenth
    with pytest.raises(TooMuchChanged, match=f"{tenth + 1} images are new, gone or changed"):
        splice_between(start.footprints, now[1], PLAN)


def test_the_tiles_reached_are_the_same_however_few_are_examined_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    areas = np.array([each.geometry for each in IMAGES], dtype=object)
    reached = reached_tiles(areas, PLAN)
    together, boxes = [], changes_module._boxes

    def noted(x: Numbers, y: Numbers, zoom: int) -> Geometries:
        together.append(len(x))
        return boxes(x, y, zoom)

    monkeypatch.setattr(changes_module, "_boxes", noted)
    monkeypatch.setattr(changes_module, "TOGETHER", 10)
    again = reached_tiles(areas, PLAN)
    assert np.array_equal(again.tile_ids, reached.tile_ids)
    assert max(together) <= 10


@pytest.mark.parametrize("image", DIFFICULT, ids=lambda each: each.id)
def test_every_tile_that_draws_an_image_is_one_that_it_reaches(image: Footprint, tmp_path: Path) -> None:
    snapshot_of([image], tmp_path / "one")
    table, geojson = tmp_path / "one" / "footprints.parquet", tmp_path / "one.geojsonl"
    write_geojson(table, geojson, plan=PLAN)
    made = tmp_path / "one.mbtiles"
    Tippecanoe().run([PLAN.arguments(source=str(geojson), target=str(made), temporary=str(tmp_path))])
    reached = reached_tiles(np.array([image.geometry], dtype=object), PLAN)
    drawn_in = np.array([tile_ids(z, np.array([x]), np.array([y]))[0] for z, x, y, _ in read_tiles(made)])

    assert reached.hold(drawn_in).all()
    assert len(reached) <= len(drawn_in) + 8 * (PLAN.zoom_max + 1)

"""The deep zooms, cut without tippecanoe, show what it would, however the work is batched and shared."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pmtiles.reader import MemorySource, all_tiles
from shapely.geometry.base import BaseGeometry

from oam_mosaic_assets.core import deep_zooms, line_blocks
from oam_mosaic_assets.core.deep_zooms import deep_zoom_tiles
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.geometry import Undrawable, drawable
from oam_mosaic_assets.core.grid import tile_ids
from oam_mosaic_assets.core.pieces import MARGIN
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import EXTENT, MITRE, TilingPlan
from oam_mosaic_assets.core.vector_tile import (
    area,
    polygon_rings,
    read_feature,
    read_layers,
)
from oam_mosaic_assets.gateways import mosaic_tiles
from oam_mosaic_assets.gateways.mosaic_tiles import Footprints, make_mosaic
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe, find_tippecanoe
from oam_mosaic_assets_tests.core.deep_zoom_oracle import (
    CELL,
    PLAN,
    WHOLE,
    Place,
    Tiles,
    apart,
    as_wide_as_may_be,
    cut,
    differences,
    everything,
    features,
    folds,
    geojson_of,
    is_thin,
    line_of,
    tippecanoes,
    truths,
)
from oam_mosaic_assets_tests.core.outlines import KINDS, outline, outlines, star
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, footprint, made_from
from oam_mosaic_assets_tests.core.strategies import examples
from oam_mosaic_assets_tests.core.test_splice import PLACES, drawn, nudges, places, walked


@st.composite
def placed(draw: st.DrawFn) -> tuple[BaseGeometry, int]:
    """A shape at one of the places, and its age in days."""
    (west, south), (east, north) = draw(places), draw(nudges)
    size = draw(st.floats(0.0005, 1.5)) * CELL
    shape = shapely.transform(draw(outlines), lambda at: at * size + [west + east, south + north])
    return shape, draw(st.integers(0, 3))


def images_of(shapes: Iterable[tuple[BaseGeometry, int]]) -> list[Footprint]:
    found = []
    for number, (shape, age) in enumerate(shapes):
        with suppress(Undrawable):  # beyond the map's edge
            area = drawable(json.loads(shapely.to_geojson(shape)))
            found.append(
                Footprint(id=f"shape {number}", geometry=area, acquired_to=NOW - timedelta(days=age))
            )
    return found


def test_the_scene_is_what_tippecanoe_draws(tmp_path: Path) -> None:
    lines = geojson_of(IMAGES, tmp_path / "s")
    assert differences(cut(lines), tippecanoes(lines, PLAN, tmp_path), lines) == []


@examples(5)
@given(
    walk=st.lists(drawn, min_size=1, max_size=10),
    shapes=st.lists(placed(), min_size=15, max_size=30),
)
def test_a_world_of_shapes_is_what_tippecanoe_draws(
    tmp_path_factory: pytest.TempPathFactory,
    walk: list[tuple],  # type: ignore[type-arg]
    shapes: list[tuple[BaseGeometry, int]],
) -> None:
    folder = tmp_path_factory.mktemp("world")
    world: dict[str, Footprint] = {}
    for change in walk:
        walked(world, change)
    lines = geojson_of([*world.values(), *images_of(shapes)], folder / "s")
    assert differences(cut(lines), tippecanoes(lines, PLAN, folder), lines) == []


def round_about(seed: int, corners: int, west: float, south: float, size: float) -> BaseGeometry:
    """A ragged outline with a hole; each has half of the corners."""
    chance = np.random.default_rng(seed)
    outer = star(chance, corners // 2)
    ragged = shapely.Polygon(outer, [outer * chance.uniform(0.1, 0.9)])
    return shapely.transform(ragged, lambda at: at * size + [west, south])


@examples(15)
@given(
    seed=st.integers(0, 2**32 - 1),
    corners=st.integers(6, 300),
    depth=st.sampled_from([12, 14, 18]),
    size=st.floats(0.1, 3.0),
    west=st.sampled_from([-180.0, 0.0, 10.123]),
    south=st.sampled_from([-85.0, 0.0, 45.6]),
)
def test_what_is_cut_zoom_by_zoom_is_what_is_cut_at_once(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    corners: int,
    depth: int,
    size: float,
    west: float,
    south: float,
) -> None:
    plan = TilingPlan(zoom_max=depth, exact=10)
    shape = round_about(seed, corners, west + 360.0 / 2**10 / 3, south, size * 360.0 / 2**depth)
    lines = tmp_path_factory.mktemp("shape") / "one.geojsonl"
    lines.write_text(line_of("one", shape))
    (truth,), tiles = truths(lines, plan), cut(lines, plan)
    for place, content in tiles.items():
        ((_, found),), exact = features(content), truth.in_tile(place)
        assert not apart(found, exact, 1.5) or (folds(exact) and as_wide_as_may_be(found, exact))
    reached = {place for place in neighbours([*tiles]) if not is_thin(truth.in_tile(place))}
    assert reached <= tiles.keys()


def neighbours(tiles: Iterable[Place]) -> set[Place]:
    """The tiles of the deepest zoom, and all their neighbours that are on the map."""
    deepest = max(zoom for zoom, _, _ in tiles)
    return {
        (zoom, x + east, y + south)
        for zoom, x, y in tiles
        for east, south in product((-1, 0, 1), repeat=2)
        if zoom == deepest and min(x + east, y + south) >= 0 and max(x + east, y + south) < 2**zoom
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines of the scene's images and a hundred others, many of them in the same places."""
    chance, shapes = np.random.default_rng(7), []
    for number in range(100):
        west, south = PLACES[number % len(PLACES)]
        size = 10 ** chance.uniform(-4, 0) * CELL
        shape = outline(KINDS[number % len(KINDS)], chance.uniform(0, 6), number)
        at = [west, south] + chance.uniform(-1, 1, 2) * [CELL, CELL / 8]
        shapes.append(
            (shapely.affinity.translate(shapely.affinity.scale(shape, size, size), *at), number % 4)
        )
    return geojson_of([*IMAGES, *images_of(shapes)], tmp_path_factory.mktemp("world") / "s")


@pytest.fixture(scope="module")
def whole(world: Path) -> Tiles:
    return cut(world)


@pytest.mark.parametrize(
    ("module", "name", "count"),
    [
        (deep_zooms, "_TOGETHER", 1),
        (deep_zooms, "_TOGETHER", 7),
        (line_blocks, "_TOGETHER", 1),
        (line_blocks, "_TOGETHER", 13),
        (line_blocks, "_SOME", 1),
        (line_blocks, "_SOME", 10**9),
    ],
)
def test_tiles_are_the_same_however_much_is_held_together(
    world: Path, whole: Tiles, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, count: int
) -> None:
    monkeypatch.setattr(module, name, count)
    assert cut(world) == whole


@pytest.mark.parametrize("of", [1, 2, 5, 50])
def test_shares_are_all_tiles_and_none_twice(
    world: Path, whole: Tiles, monkeypatch: pytest.MonkeyPatch, of: int
) -> None:
    monkeypatch.setattr(line_blocks, "_SOME", 8)
    shares = [cut(world, share=share, of=of) for share in range(of)]
    assert sum(map(len, shares)) == len(whole)
    assert {place: content for share in shares for place, content in share.items()} == whole
    assert of == 1 or sum(map(bool, shares)) > 1


@examples(20)
@given(chosen=st.sets(st.integers(0, 10**6), max_size=30), zooms=st.sets(st.sampled_from([9, 10, 11])))
def test_tiles_that_are_wanted_are_those_of_the_whole(
    world: Path, whole: Tiles, chosen: set[int], zooms: set[int]
) -> None:
    places = sorted(whole)
    some = {places[number % len(places)] for number in chosen} | {(11, 5, 5), (10, 1000, 3)}
    some = {place for place in some if place[0] in zooms}
    tiles = {place: content for place, content in whole.items() if place in some}
    assert cut(world, wanted=stretches_of(some)) == tiles


def stretches_of(places: Iterable[Place]) -> Stretches:
    ids = [tile_ids(zoom, np.array([x]), np.array([y])) for zoom, x, y in places]
    return Stretches.of(np.concatenate([np.zeros(0, np.int64), *ids]))


def test_lines_that_are_only_drawn_before_the_deep_zooms_are_not_read(
    world: Path, whole: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where few images changed, most lines are there for the zooms before."""
    before = [
        json.loads(line) | {"tippecanoe": {"minzoom": 9, "maxzoom": PLAN.deep_zooms[0] - 1}}
        for line in world.read_text("utf-8").splitlines()
    ]
    order = ("type", "tippecanoe", "properties", "geometry")
    mixed = tmp_path / "mixed.geojsonl"
    with mixed.open("w", encoding="utf-8") as lines:
        for limited, line in zip(before, world.read_text("utf-8").splitlines(), strict=True):
            written = json.dumps({name: limited[name] for name in order}, separators=(",", ":"))
            lines.write(f"{written}\n{line}\n")
    read = list[bytes]()
    parts_of = line_blocks.parts_of
    for module in (line_blocks, deep_zooms):
        monkeypatch.setattr(module, "parts_of", lambda lines: (read.extend(lines), parts_of(lines))[1])
    assert cut(mixed) == whole
    assert read
    assert not any(b'"maxzoom":9' in each for each in read)


def test_progress_does_not_fall_and_ends_with_all(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_blocks, "_SOME", 8)
    shares: list[float] = []
    assert list(deep_zoom_tiles(world, PLAN, everything(PLAN), on_progress=shares.append))
    assert len(shares) > 5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("zooms", "drawn_at"),
    [
        (None, {10, 11, 12}),
        ((9, 12), {10, 11, 12}),
        ((9, 9), set()),
        ((9, 10), {10}),
        ((10, 10), {10}),
        ((11, 11), {11}),
        ((11, 12), {11, 12}),
        ((12, 12), {12}),
    ],
)
def test_a_line_is_drawn_at_its_zooms_alone(
    tmp_path: Path, zooms: tuple[int, int] | None, drawn_at: set[int]
) -> None:
    lines = tmp_path / "lines.geojsonl"
    shapes = shapely.box(10.0, 10.0, 10.2, 10.2), shapely.box(30.0, 10.0, 30.2, 10.2)
    lines.write_text(line_of("some", shapes[0], zooms) + line_of("all", shapes[1]))
    zooms_of: dict[str, set[int]] = {"some": set(), "all": set()}
    for place, content in cut(lines, TilingPlan(zoom_max=12, exact=10)).items():
        ((stated, _),) = features(content)
        zooms_of[stated["id"]].add(place[0])
    assert zooms_of == {"some": drawn_at, "all": {10, 11, 12}}


def test_lines_of_some_zooms_are_what_tippecanoe_draws(tmp_path: Path) -> None:
    lines = geojson_of(IMAGES, tmp_path / "s")
    limited = [json.loads(line).get("tippecanoe", {}) for line in lines.read_text().strip().split("\n")]
    assert {(each.get("minzoom"), each.get("maxzoom")) for each in limited} >= {(9, 9), (10, 10), (11, 11)}
    assert differences(cut(lines), tippecanoes(lines, PLAN, tmp_path), lines) == []


KNOWN: tuple[dict[str, Any], ...] = (
    {"title": "A field", "license": "CC-BY-4.0", "gsd": 0.05, "file_size": 123_456_789_012},
    {"title": "A field", "license": "CC-BY-4.0", "gsd": 2.0, "file_size": 2},
    {"title": "", "provider": "0", "gsd": 0.0, "file_size": 0},
    {"title": "Größe “日本” \\ \u2028 \n end", "sensor": "0.05", "gsd": 1e-300},
    {"license": "CC-BY-4.0", "asset": "https://images.test/a.tif", "asset_name": "visual", "gsd": 1 / 3},
    {},
)


def known_images() -> list[Footprint]:
    return [
        footprint(
            f"image {number}", 10.0, 10.0, 10.3, 10.3, **known, acquired_to=NOW - timedelta(days=number)
        )
        for number, known in enumerate(KNOWN)
    ]


def test_details_say_what_tippecanoe_says(tmp_path: Path) -> None:
    plan = replace(details_plan(11), exact=10)
    lines = geojson_of([*known_images(), *IMAGES], tmp_path / "s", plan)
    tiles = cut(lines, plan)
    assert differences(tiles, tippecanoes(lines, plan, tmp_path), lines, plan) == []
    said = {
        each.properties["_id"]: each.properties for content in tiles.values() for each in features(content)
    }
    for number, known in enumerate(KNOWN):
        named = {{"asset": "uuid"}.get(name, name): value for name, value in known.items()}
        assert said[f"image {number}"].keys() == {"_id", "acquisition_end", *named}
        assert said[f"image {number}"].items() >= named.items()


def test_a_value_is_written_once_and_unused_ones_are_not(tmp_path: Path) -> None:
    plan = replace(details_plan(11), exact=10)
    tiles = cut(geojson_of([*known_images(), *IMAGES], tmp_path / "s", plan), plan)
    for content in tiles.values():
        (layer,) = read_layers(gzip.decompress(content))
        values = [each.SerializeToString() for each in layer.stated]
        used = {number for message in layer.features for number in message.tags[1::2]}
        assert len(set(values)) == len(values)
        assert used == set(range(len(values)))


def test_tiles_in_the_midst_of_images_are_alike(tmp_path: Path) -> None:
    plan = TilingPlan(zoom_max=13, exact=10)
    lines = geojson_of(
        [footprint("below", 10.0, 10.0, 12.0, 12.0), footprint("on top", 11.0, 10.0, 12.0, 12.0)],
        tmp_path / "s",
        plan,
    )
    tiles = cut(lines, plan)
    drawn_in = {content: features(content) for content in {*tiles.values()}}
    midst = {
        content: [each.properties["id"] for each in found]
        for content, found in drawn_in.items()
        if all(each.area.equals(WHOLE) for each in found)
    }
    counts = Counter(content for content in tiles.values() if content in midst)
    assert sorted(midst.values()) == [["below"], ["below", "on top"]]
    assert sum(counts.values()) > 0.8 * len(tiles)
    assert len(tiles) > 2000


def holes_in(found: BaseGeometry) -> int:
    assert isinstance(found, shapely.Polygon)
    return len(found.interiors)


def test_an_image_that_covers_the_whole_tile_hides_no_hole(tmp_path: Path) -> None:
    frame = shapely.box(10.0, 10.0, 11.0, 11.0) - shapely.box(10.5, 10.5, 10.5001, 10.5001)
    lines = tmp_path / "lines.geojsonl"
    lines.write_text(line_of("a frame", frame))
    (truth,) = truths(lines)
    holes = [place for place, content in cut(lines).items() if holes_in(features(content)[0].area)]
    assert {zoom for zoom, _, _ in holes} == {10, 11}
    assert all(holes_in(truth.in_tile(place)) for place in holes)


def a_coast(corners: int, size: float = 0.2) -> BaseGeometry:
    """An island that extends about `size` degrees from its middle, with bays of every size."""
    turns = 2 * np.pi * np.arange(corners) / corners
    reach = 0.8 + 0.1 * np.sin(5 * turns) + 0.05 * np.sin(37 * turns) + 0.01 * np.sin(501 * turns)
    reach += np.random.default_rng(3).uniform(0, 2 / corners, corners)
    return shapely.Polygon(10.0 + size * np.column_stack([reach * np.cos(turns), reach * np.sin(turns)]))


def test_an_outline_of_100_000_corners_is_cut(tmp_path: Path) -> None:
    plan = TilingPlan(zoom_max=13, exact=10)
    lines = tmp_path / "lines.geojsonl"
    lines.write_text(line_of("a coast", a_coast(100_000)))
    (truth,), tiles = truths(lines, plan), cut(lines, plan)
    assert len(tiles) > 80
    for place in sorted(tiles)[5::40]:
        ((_, found),), exact = features(tiles[place]), truth.in_tile(place)
        assert found.is_valid
        assert not apart(found, exact, 1.5) or (folds(exact) and as_wide_as_may_be(found, exact))


def test_an_outline_is_not_held_once_for_each_block_it_reaches(tmp_path: Path) -> None:
    corners, lines = 20_000, tmp_path / "lines.geojsonl"
    lines.write_text(line_of("an island", a_coast(corners, 4.0)))
    tracemalloc.start()
    tiles = sum(1 for _ in deep_zoom_tiles(lines, replace(PLAN, zoom_max=10), everything(PLAN)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tiles > 300
    assert peak < 2**26 < tiles * corners * 16


def test_of_no_lines_nothing_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "lines.geojsonl").touch()
    assert cut(tmp_path / "lines.geojsonl") == {}


def test_of_lines_elsewhere_nothing_is_drawn(tmp_path: Path) -> None:
    lines = geojson_of(IMAGES, tmp_path / "s")
    assert cut(lines, wanted=stretches_of([(11, 700, 1500), (10, 3, 700)])) == {}
    assert cut(lines, wanted=stretches_of([])) == {}


def test_a_plan_without_deep_zooms_draws_nothing(tmp_path: Path) -> None:
    lines = geojson_of(IMAGES, tmp_path / "s", TilingPlan(zoom_max=11))
    assert cut(lines, TilingPlan(zoom_max=11)) == {}


@pytest.mark.parametrize(("zoom_min", "zooms"), [(10, {10, 11}), (11, {11})])
def test_where_nothing_is_simplified_tippecanoe_is_not_called(
    tmp_path: Path, zoom_min: int, zooms: set[int]
) -> None:
    plan = TilingPlan(zoom_min=zoom_min, zoom_max=11, exact=10)
    program = tmp_path / "tippecanoe"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo tippecanoe v2.0.0 && exit\nexit 1\n')
    program.chmod(0o755)
    lines, archive = geojson_of(IMAGES, tmp_path / "s", plan), tmp_path / "mosaic.pmtiles"
    table = lines.with_name("footprints.parquet")
    shown = Footprints(table=table, geojson=lines, snapshot="", bounds=(-180.0, -85.0, 180.0, 85.0))
    made = make_mosaic(Tippecanoe(program), plan, shown, archive)
    every = dict(all_tiles(MemorySource(archive.read_bytes())))  # type: ignore[no-untyped-call]  # pmtiles has none
    assert every == cut(lines, plan)
    assert {zoom for zoom, _, _ in every} == zooms
    assert made.tiles_made == len(every)


def test_a_dot_is_drawn_down_to_the_last_zoom_there_is(tmp_path: Path) -> None:
    plan = TilingPlan(zoom_max=18)
    side = 360.0 / 2**18 * 1.5
    lines = geojson_of([footprint("a roof", 10.0, 10.0, 10.0 + side, 10.0 + side)], tmp_path / "s", plan)
    (truth,), tiles = truths(lines, plan), cut(lines, plan)
    assert {zoom for zoom, _, _ in tiles} == {*plan.deep_zooms}
    for place, content in tiles.items():
        ((_, found),) = features(content)
        assert not apart(found, truth.in_tile(place), 1.0)


def test_rings_wind_as_the_specification_has_it_and_stay_near_their_tile(whole: Tiles) -> None:
    tips = MARGIN + 2 * MITRE + 1
    for content in whole.values():
        (layer,) = read_layers(gzip.decompress(content))
        points, sizes, _ = polygon_rings(layer.features)
        assert points.min() >= -tips
        assert points.max() <= EXTENT + tips
        assert (sizes > 2).all()
        for feature in layer.features:
            assert area(read_feature(layer, feature)).area > 0.0


def test_parts_cut_by_several_processes_are_the_same_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = made_from(IMAGES, tmp_path / "alone", plan=PLAN)
    monkeypatch.setattr(mosaic_tiles, "WORTH_PARTING", 0)
    monkeypatch.setattr(mosaic_tiles, "WORTH_A_CUTTER", 1)
    together = made_from(IMAGES, tmp_path / "together", plan=PLAN)
    assert len([*(tmp_path / "together").glob("*.deep-*.npy")]) == mosaic_tiles.CUTTERS
    assert together.archive.read_bytes() == alone.archive.read_bytes()
    assert together.made == alone.made


def test_no_more_tippecanoe_run_at_once_than_asked_though_others_cut_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic_tiles, "WORTH_PARTING", 0)
    monkeypatch.setattr(mosaic_tiles, "WORTH_A_CUTTER", 1)
    at_work, counts, program = tmp_path / "at-work", tmp_path / "counts", tmp_path / "tippecanoe"
    at_work.mkdir()
    program.write_text(
        f"#!/bin/sh\nmkdir {at_work}/$$; sleep 0.3; ls {at_work} | wc -l >>{counts}\n"
        f'{find_tippecanoe()} "$@"; code=$?; rmdir {at_work}/$$; exit $code\n'
    )
    program.chmod(0o755)
    lines = geojson_of(IMAGES, tmp_path / "s", PLAN)
    table = lines.with_name("footprints.parquet")
    shown = Footprints(table=table, geojson=lines, snapshot="", bounds=(-180.0, -85.0, 180.0, 85.0))
    make_mosaic(Tippecanoe(program), PLAN, shown, tmp_path / "mosaic.pmtiles", processes=2)
    ran = [int(each) for each in counts.read_text().split()]
    assert len(ran) > 2
    assert max(ran) == 2

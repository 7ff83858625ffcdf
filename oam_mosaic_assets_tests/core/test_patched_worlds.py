"""Worlds of every kind of image, changed step by step: the archive is always the one made from scratch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import scale
from shapely.geometry.base import BaseGeometry

from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.geometry import Area, Undrawable, drawable
from oam_mosaic_assets.core.tiling import PIXELS, TilingPlan
from oam_mosaic_assets_tests.core.archives import pieces_of
from oam_mosaic_assets_tests.core.outlines import outlines
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, PLAIN, footprint, made_from
from oam_mosaic_assets_tests.core.strategies import examples
from oam_mosaic_assets_tests.core.test_patching import PLANS, is_as_from_scratch
from oam_mosaic_assets_tests.core.test_reexamination import failures
from oam_mosaic_assets_tests.core.test_splice import ages, dated, deleted, places

NAMES = (
    *("a", "aa", "a a", "A title", "ä", "a\u0308", "日本", "👩‍🚒", "a\u2028b", '"', "\\", "\\u0041"),
    *("null", "1.0", "id", "_id", "count", "x" * 1000),
    *(f"image {number}" for number in range(30)),
)
"""Ids that begin alike, look alike, or are what else a tile or its JSON may contain."""

SHARED: tuple[dict[str, Any], ...] = (
    {"title": "A title", "provider": "a", "platform": "a", "sensor": "a", "gsd": 5.0, "file_size": 5},
    {"gsd": 0.1 + 0.2, "file_size": 2**63 - 1, "license": "CC-BY-4.0"},
    {"gsd": 0.3, "file_size": 2**53 + 1, "title": "x" * 1000, "provider": None},
    {"title": None, "asset": "https://a.a/b", "thumbnail": "https://a.a/b", "asset_name": "visual"},
    {"tms": "https://a.a/{z}/{x}/{y}", "render_params": "a", "file_size": 2**53, "gsd": 0.5},
)
"""Every property, with values that images share, that are also their ids, or that only doubles or whole
numbers tell apart."""


@st.composite
def somewhere(draw: st.DrawFn) -> BaseGeometry:
    """An outline of any kind near one of `PLACES`, from less than a pixel at z8 to more than one at z0."""
    (west, south), size = draw(places), 10.0 ** draw(st.floats(-4.5, 0.4))
    nudge = draw(st.tuples(st.floats(-0.3, 0.3), st.floats(-0.1, 0.1)))
    return shapely.transform(draw(outlines), lambda at: size * at + [west + nudge[0], south + nudge[1]])


alterations = st.one_of(
    st.tuples(
        st.just("draw"), st.sampled_from(NAMES), somewhere(), ages | st.none(), st.sampled_from(SHARED)
    ),
    st.tuples(st.just("redraw"), st.integers(0, 99), somewhere()),
    st.tuples(st.just("resize"), st.integers(0, 99), st.sampled_from([0.001, 0.1, 0.9, 1.1, 3.0])),
    dated,
    deleted,
    st.tuples(st.just("describe"), st.integers(0, 99), st.sampled_from(SHARED)),
)


def alter(world: dict[str, Footprint], what: tuple[Any, ...]) -> None:
    """Apply one change, unless its outline is beyond the map's edge."""
    kind, which, *how = what
    name = which if isinstance(which, str) else sorted(world)[which % len(world)]
    with suppress(Undrawable):
        match kind, *how:
            case "draw", shape, age, known:
                date = None if age is None else NOW - timedelta(days=age)
                world[name] = Footprint(id=name, geometry=as_read(shape), acquired_to=date, **known)
            case "redraw", shape:
                world[name] = replace(world[name], geometry=as_read(shape))
            case "resize", factor:
                resized = scale(world[name].geometry, factor, factor)
                world[name] = replace(world[name], geometry=as_read(resized))
            case "date", age:
                world[name] = replace(world[name], acquired_to=NOW - timedelta(days=age))
            case "describe", known:
                world[name] = replace(world[name], **known)
            case ("delete",) if len(world) > 3:
                del world[name]


def as_read(shape: BaseGeometry) -> Area:
    return drawable(json.loads(shapely.to_geojson(shape)))


@pytest.mark.parametrize(
    "plan",
    [
        TilingPlan(zoom_max=11, exact=10),
        TilingPlan(zoom_min=3, zoom_max=9, exact=10),
        TilingPlan(zoom_min=3, zoom_max=8, exact=10),
        TilingPlan(zoom_min=9, zoom_max=10, exact=10),
        replace(details_plan(10), exact=10),
    ],
    ids=["z0-11", "z3-9", "z3-8", "z9-10", "details"],
)
@examples(2)
@given(
    start=st.lists(alterations, min_size=20, max_size=20),
    walk=st.lists(alterations, min_size=20, max_size=20),
)
def test_a_walk_among_shapes_of_every_kind_is_as_if_made_at_once(
    tmp_path_factory: pytest.TempPathFactory,
    plan: TilingPlan,
    start: list[tuple[Any, ...]],
    walk: list[tuple[Any, ...]],
) -> None:
    folder = tmp_path_factory.mktemp("walk")
    world = {each.id: each for each in PLAIN}
    for each in start:
        alter(world, each)
    last, spliced = made_from(world.values(), folder / "start", plan=plan), 0
    while walk:
        most = max(1, len(world) // 3)
        for each in walk[:most]:
            alter(world, each)
        walk = walk[most:]
        last = made_from(world.values(), folder / f"{len(walk)}", plan=plan, before=last.before)
        spliced += last.changed is not None
    assert spliced
    assert is_as_from_scratch(last, world.values(), folder)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_image_goes_whatever_its_id_is_like(tmp_path: Path, plan: TilingPlan, which: int) -> None:
    images = [replace(PLAIN[number % 2], id=name, title=NAMES[-number]) for number, name in enumerate(NAMES)]
    left = [each for number, each in enumerate(images) if number % 3 != which]
    start = made_from(images, tmp_path / "start", plan=plan)
    last = made_from(left, tmp_path / "last", plan=plan, before=start.before)
    assert last.changed == len(images) - len(left)
    assert is_as_from_scratch(last, left, tmp_path)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_as_many_as_may_change_go_and_come_back(tmp_path: Path, plan: TilingPlan) -> None:
    kept: list[Sequence[Footprint]] = [IMAGES]
    while len(kept[-1]) > 2:
        kept.append(kept[-1][len(kept[-1]) // 3 :])
    start = last = made_from(IMAGES, tmp_path / "start", plan=plan)
    for number, images in enumerate([*kept[1:], *kept[-2::-1]]):
        last = made_from(images, tmp_path / f"{number}", plan=plan, before=last.before)
        assert last.changed
        if images is kept[-1]:
            assert is_as_from_scratch(last, images, tmp_path)
    assert last.archive.read_bytes() == start.archive.read_bytes()


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("zoom", [0, 4, 7])
def test_an_image_may_grow_over_a_pixel_and_shrink_again(tmp_path: Path, plan: TilingPlan, zoom: int) -> None:
    """Until then it is counted together with others; afterwards the middle of its frame is elsewhere too."""
    pixel = 360.0 / PIXELS / 2**zoom
    box = partial(footprint, south=0.2 * pixel, north=0.5 * pixel)
    others = [box(f"{number}", west=0.1 * pixel, east=0.9 * pixel) for number in range(3)]
    others.append(box("beside them", west=1.1 * pixel, east=1.9 * pixel))
    small = [*others, box("it", west=0.5 * pixel, east=1.4 * pixel)]
    large = [*others, box("it", west=0.5 * pixel, east=1.7 * pixel)]
    start = made_from(small, tmp_path / "start", plan=plan)
    grown = made_from(large, tmp_path / "grown", plan=plan, before=start.before)
    again = made_from(small, tmp_path / "again", plan=plan, before=grown.before)
    assert (grown.changed, again.changed) == (1, 1)
    assert is_as_from_scratch(grown, large, tmp_path)
    assert again.archive.read_bytes() == start.archive.read_bytes()


EDGE = footprint("at the western edge", -179.998, 5.166, -179.992, 5.172)
"""It lies in one tile, and in the buffer of another one at the eastern edge of the map."""


def test_what_changed_at_the_western_edge_is_drawn_at_the_eastern_one_too(tmp_path: Path) -> None:
    plan = TilingPlan(zoom_max=10)
    start = made_from(PLAIN, tmp_path / "start", plan=plan)
    last = made_from([*PLAIN, EDGE], tmp_path / "last", plan=plan, before=start.before)
    assert last.changed == 1
    assert failures(last, start.before) == {}
    assert is_as_from_scratch(last, [*PLAIN, EDGE], tmp_path)


def test_so_is_all_there_is(tmp_path: Path) -> None:
    alone = made_from([EDGE], tmp_path / "alone", plan=TilingPlan(zoom_max=10))
    others = made_from([*PLAIN, EDGE], tmp_path / "others", plan=TilingPlan(zoom_max=10))
    place = (9, 511, 248)
    here, there = (pieces_of(each.archive) for each in (alone, others))
    assert here.packed(here.at(*place)) == there.packed(there.at(*place))

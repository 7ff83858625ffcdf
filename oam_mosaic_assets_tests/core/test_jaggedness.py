"""Outlines that could cross others too often are set aside, and no image's is taken for one of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
import shapely
from shapely import affinity

from oam_mosaic_assets.core.geometry import MOST_WITH_ITS_LIKE, Undrawable, drawable
from oam_mosaic_assets.core.jaggedness import could_cross
from oam_mosaic_assets_tests.core.density_world import grid_of, item

Outline = shapely.Polygon | shapely.MultiPolygon


def comb(teeth: int, length: float = 1.0) -> shapely.Polygon:
    """Teeth that point south, half as wide as they are apart, within one degree from west to east."""
    x = np.repeat(np.linspace(0.0, 1.0, 2 * teeth + 1), 2)[1:-1]
    y = np.resize([0.0, -length, -length, 0.0], len(x))
    return shapely.Polygon([*np.column_stack([x, y]), (1.0, 0.01), (0.0, 0.01)])


def turned(outline: Outline, degrees: float = 90.0) -> Any:
    return affinity.rotate(outline, degrees)


def as_json(outline: Outline) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shapely.to_geojson(outline))
    return found


def why_not(outline: Outline) -> str | None:
    try:
        drawable(as_json(outline))
    except Undrawable as flaw:
        return flaw.reason
    return None


def test_two_combs_that_cross_are_set_aside_before_they_cost_gigabytes(tmp_path: Path) -> None:
    combs = [
        item("a comb", geometry=as_json(comb(800))),
        item("another", geometry=as_json(turned(comb(800)))),
    ]
    clock = process_time()
    grid = grid_of([*combs, item("an image", 0.2, -0.8, 0.8, -0.2)], tmp_path)
    assert process_time() - clock < 5.0
    assert grid.snapshot.set_aside == {"too_jagged": 2}
    assert grid.counted.images == 1


@pytest.mark.parametrize(
    "made",
    [
        comb,
        lambda teeth: turned(comb(teeth)),
        lambda teeth: affinity.scale(comb(teeth), 1e-4, 1e-4),
        lambda teeth: affinity.translate(comb(teeth), 0.0, 80.0),
        # a frame that is wider or higher than the teeth hides nothing
        lambda teeth: comb(teeth).union(shapely.box(0.0, 0.0, 30.0, 1e-6)),
        lambda teeth: comb(teeth).union(shapely.box(-2.0, 0.0, 2.0, 4.0)),
        lambda teeth: shapely.MultiPolygon([comb(teeth), shapely.box(20.0, 20.0, 20.1, 20.1)]),
        lambda teeth: shapely.box(-1.0, -2.0, 2.0, 1.0).difference(comb(teeth)),
    ],
    ids=["comb", "turned", "tiny", "northern", "with a spike", "with a body", "with a part", "as a hole"],
)
def test_where_the_limit_lies(made: Callable[[int], Outline]) -> None:
    assert why_not(made(30)) is None
    assert why_not(made(40)) == "too_jagged"


def test_a_refusal_says_what_was_exceeded() -> None:
    with pytest.raises(Undrawable) as refused:
        drawable(as_json(comb(800)))
    assert refused.value.value == "two like it could cross more than 5,000 times"


@pytest.mark.parametrize("is_holes", [False, True])
@pytest.mark.parametrize(("along", "reason"), [(25, None), (100, "too_jagged")])
def test_many_parts_or_holes_count_together(along: int, reason: str | None, *, is_holes: bool) -> None:
    west, south = (np.indices((along, along)).reshape(2, -1) + 0.1) / along
    squares = shapely.box(west, south, west + 0.5 / along, south + 0.5 / along)
    whole = shapely.MultiPolygon([*squares])
    assert why_not(shapely.box(0.0, 0.0, 1.0, 1.0).difference(whole) if is_holes else whole) == reason


@pytest.mark.parametrize("corners", [400, 6_400, 20_000])
def test_an_edge_that_follows_pixels_is_not_jagged(corners: int) -> None:
    """As in outlines that are traced from the pixels of an image that are valid."""
    chance, pixels = np.random.default_rng(corners), corners // 2
    x = np.repeat(np.arange(pixels + 1), 2)[1:-1]
    y = np.repeat(chance.integers(0, 4, pixels), 2)
    image = shapely.Polygon([*np.column_stack([x, y]), (pixels, -pixels), (0, -pixels)])
    for degrees in (0.0, 30.0, 45.0):
        assert why_not(affinity.scale(turned(image, degrees), 1 / pixels, 1 / pixels, origin=(0, 0))) is None


def test_strips_beside_each_other_are_not_jagged() -> None:
    """Flight lines with gaps between them, each forty times as long as wide."""
    strips = [shapely.box(2.0 * strip, 0.0, 2.0 * strip + 1.0, 40.0) for strip in range(30)]
    assert why_not(affinity.scale(shapely.MultiPolygon(strips), 0.01, 0.01)) is None


@pytest.mark.parametrize("length", [1.0, 0.3, 0.1, 0.03])
@pytest.mark.parametrize("teeth", [20, 30, 60])
def test_outlines_cross_about_as_often_as_was_expected(teeth: int, length: float) -> None:
    """A comb, and bars from west to east across its teeth."""
    one = comb(teeth, length)
    bars = affinity.scale(turned(comb(30)), 1.1, 0.9 * length)
    other = affinity.translate(bars, 0.0, one.bounds[1] - bars.bounds[1] + 0.05 * length)
    crossings = shapely.get_num_geometries(one.exterior.intersection(other.exterior))
    expected = math.sqrt(could_cross(one, enough=1e9) * could_cross(other, enough=1e9))
    assert crossings == pytest.approx(4 * 30 * teeth, rel=0.1)
    assert 0.5 * expected < crossings < 2.0 * expected


def test_finer_grids_are_not_tried_once_the_limit_is_exceeded() -> None:
    """Bars that lie a billionth of their length apart would be halved billions of times."""
    bars = affinity.scale(comb(40), 1e-9, 1.0)
    clock = process_time()
    assert could_cross(bars, enough=MOST_WITH_ITS_LIKE) > MOST_WITH_ITS_LIKE
    assert process_time() - clock < 1.0

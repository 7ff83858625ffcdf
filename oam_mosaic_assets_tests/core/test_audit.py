"""The judgements one by one: what they say, and where exactly they turn."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from oam_mosaic_assets.core.audit import (
    CHECKS,
    GUARDS,
    Verdict,
    judge_completeness,
    judge_placement,
    judge_set_aside,
    judge_shrinkage,
    judge_wholeness,
)
from oam_mosaic_assets.core.drawn import Drawn

NAMES = [f"image {number}" for number in range(20)]


def drawn(**differing: Any) -> Drawn:
    """What a whole archive of two tiles at the last zoom, 8, draws of two images."""
    pairs = np.array([0, 1], dtype=np.int64)
    whole: dict[str, Any] = {
        "tiles": {7: 1, 8: 2},
        "contents": 3,
        "images": {7: 1, 8: 2},
        "image": pairs,
        "x": pairs,
        "y": pairs,
        "strangers": frozenset(),
        "faults": (),
        "fault_count": 0,
    }
    return Drawn(**{**whole, **differing})


def test_every_judgement_is_listed_and_says_something() -> None:
    made = [
        judge_wholeness(drawn()),
        judge_completeness(NAMES[:2], drawn(), zoom_max=8),
        judge_placement(NAMES, missing=[], stray=[], differing=[], compared=2, zoom_max=8),
        judge_set_aside(catalogued=2, set_aside={}, most=0.02),
        judge_shrinkage(catalogued=2, before=2, most=0.1),
    ]

    assert {verdict.name for verdict in made} | {"archive_is_as_asked"} == set(CHECKS)
    assert all(verdict.passed and verdict.text for verdict in made)
    assert GUARDS < set(CHECKS)
    assert {verdict.name for verdict in made if verdict.is_guard} == GUARDS


def test_a_verdict_survives_being_written_down() -> None:
    for verdict in (
        judge_wholeness(drawn()),
        judge_completeness(NAMES, drawn(), zoom_max=8),
        judge_set_aside(catalogued=3, set_aside={"no_area": 1}, most=0.02),
    ):
        assert Verdict(**json.loads(json.dumps(asdict(verdict)))) == verdict


def test_broken_tiles_are_counted_and_the_first_named() -> None:
    verdict = judge_wholeness(drawn(faults=("8/1/2: cut short",), fault_count=3))

    assert not verdict.passed
    assert verdict.text == "3 of 3 tiles are broken, first 8/1/2: cut short"


def test_missing_images_are_counted_and_ten_of_them_named() -> None:
    verdict = judge_completeness(NAMES, drawn(), zoom_max=8)

    assert not verdict.passed
    assert verdict.text.startswith("18 of 20 images are not drawn at z8, first ['image 2', 'image 3'")
    assert "image 11" in verdict.text
    assert "image 12" not in verdict.text


def test_an_archive_of_other_zooms_draws_no_image_at_the_last() -> None:
    at_zoom_9 = drawn(tiles={9: 2}, images={9: 2}, image=np.zeros(0, np.int64))

    assert not judge_completeness(NAMES[:2], at_zoom_9, zoom_max=8).passed


def test_strangers_are_named() -> None:
    verdict = judge_completeness(NAMES[:2], drawn(strangers=frozenset({"'b'", "'a'"})), zoom_max=8)

    assert not verdict.passed
    assert verdict.text == """2 ids are drawn that are no image's, first ["'a'", "'b'"]"""


def test_every_way_to_be_misplaced_is_named() -> None:
    verdict = judge_placement(
        NAMES,
        missing=[(3, 5, 6), (4, 5, 6)],
        stray=[(7, 1, 2)],
        differing=list(range(12)),
        compared=20,
        zoom_max=9,
    )

    assert not verdict.passed
    assert "2 times an image is missing from a tile, first image 3 in 9/5/6" in verdict.text
    assert "1 times an image is drawn astray in a tile, first image 7 in 9/1/2" in verdict.text
    assert "the outlines of 12 of 20 images are not their footprints'" in verdict.text
    assert "image 9" in verdict.text
    assert "image 10" not in verdict.text


@pytest.mark.parametrize(
    ("set_aside", "most", "passes"),
    [
        ({}, 0.0, True),
        ({"no_area": 2}, 0.02, True),
        ({"no_area": 2, "no_geometry": 1}, 0.02, False),
        ({"no_area": 1}, 0.0, False),
        ({"no_area": 100}, 1.0, True),
    ],
)
def test_a_share_may_be_set_aside_but_no_more(
    set_aside: dict[str, int], most: float, *, passes: bool
) -> None:
    verdict = judge_set_aside(catalogued=100, set_aside=set_aside, most=most)

    assert verdict.passed is passes
    assert verdict.is_guard
    assert all(f"{reason} {count}" in verdict.text for reason, count in set_aside.items())


def test_of_no_images_none_are_set_aside() -> None:
    assert judge_set_aside(catalogued=0, set_aside={}, most=0.0).passed


@pytest.mark.parametrize(
    ("catalogued", "before", "most", "passes"),
    [
        (100, None, 0.0, True),
        (100, 100, 0.0, True),
        (99, 100, 0.0, False),
        (90, 100, 0.1, True),
        (89, 100, 0.1, False),
        (500, 100, 0.0, True),
        (0, 100, 0.99, False),
        (5, 0, 0.0, True),
    ],
)
def test_a_catalogue_may_lose_a_share_but_no_more(
    catalogued: int, before: int | None, most: float, *, passes: bool
) -> None:
    verdict = judge_shrinkage(catalogued=catalogued, before=before, most=most)

    assert verdict.passed is passes
    assert verdict.is_guard
    assert f"{catalogued:,} images" in verdict.text

"""Block keys, and which image is on top."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import shapely

from oam_mosaic_assets.core.imagery.blocks import Tile
from oam_mosaic_assets.core.imagery.recipe import WAITING, Image, Recipe, block_key, on_top_first, waiting_key

IMAGE = Image(
    id="a",
    footprint=shapely.box(10, 20, 10.1, 20.1),
    asset="https://example.org/a.tif",
    gsd=0.1,
    acquired_to=datetime(2025, 5, 1, tzinfo=UTC),
    updated=datetime(2025, 6, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    "changed",
    [
        replace(IMAGE, id="b"),
        replace(IMAGE, asset="https://example.org/b.tif"),
        replace(IMAGE, asset=None),
        replace(IMAGE, gsd=0.2),
        replace(IMAGE, gsd=None),
        replace(IMAGE, acquired_to=None),
        replace(IMAGE, updated=datetime(2025, 6, 2, tzinfo=UTC)),
        replace(IMAGE, render_params="bidx=1"),
        replace(IMAGE, footprint=shapely.box(10, 20, 10.1, 20.1000001)),
    ],
)
def test_whatever_changes_in_the_catalogue_changes_what_is_stated(changed: Image) -> None:
    assert changed.stated != IMAGE.stated


def test_a_coordinate_that_changes_by_less_than_a_centimetre_changes_nothing() -> None:
    assert replace(IMAGE, footprint=shapely.box(10, 20, 10.1, 20.10000001)).stated == IMAGE.stated


def test_a_key_names_everything_that_makes_a_block() -> None:
    recipe, block, members = Recipe(), Tile(1, 2), [("a", "1"), ("b", "2")]
    key = block_key(recipe, block, members)
    assert block_key(recipe, block, members[::-1]) == key
    others = {
        block_key(Recipe(order="newest"), block, members),
        block_key(Recipe(feather=8), block, members),
        block_key(Recipe(libraries=("gdal 4",)), block, members),
        block_key(recipe, Tile(2, 1), members),
        block_key(recipe, block, [("a", "1"), ("b", "3")]),
        block_key(recipe, block, members[:1]),
    }
    assert len(others | {key}) == 7


def test_another_kind_is_another_key_only_where_an_image_is_not_read() -> None:
    """So the three kinds share all other blocks."""
    block, read, unread = Tile(1, 2), [("a", "=1"), ("b", "=2")], [("a", "=1"), ("b", "!missing")]
    hints, imagery, hybrid = (Recipe(kind=each) for each in ("hints", "imagery", "hybrid"))
    assert hints.digest == imagery.digest == hybrid.digest
    assert len({block_key(each, block, read) for each in (hints, imagery, hybrid)}) == 1
    assert block_key(hints, block, unread) == block_key(hybrid, block, unread)
    assert block_key(hints, block, unread) != block_key(imagery, block, unread)


def test_a_block_that_waits_has_another_key_than_any_that_was_made() -> None:
    recipe, block = Recipe(), Tile(1, 2)
    key = waiting_key(recipe, block, ["a", "b"])
    assert key.startswith(WAITING)
    assert waiting_key(recipe, block, ["b", "a"]) == key
    assert waiting_key(recipe, block, ["a", "c"]) != key
    assert not block_key(recipe, block, [("a", "!"), ("b", "!")]).startswith(WAITING)


def test_the_finest_lies_on_top_and_what_is_unknown_below() -> None:
    images = [
        replace(IMAGE, id=name, gsd=gsd) for name, gsd in [("c", None), ("d", 0.1), ("b", 0.5), ("a", 0.1)]
    ]
    assert [each.id for each in on_top_first(images, "finest")] == ["a", "d", "b", "c"]


def test_the_newest_lies_on_top_where_that_is_asked_for() -> None:
    moments = [
        None,
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC),
    ]
    images = [
        replace(IMAGE, id=name, acquired_to=moment) for name, moment in zip("dcba", moments, strict=True)
    ]
    assert [each.id for each in on_top_first(images, "newest")] == ["a", "b", "c", "d"]

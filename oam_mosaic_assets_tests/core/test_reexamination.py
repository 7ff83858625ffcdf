"""The audit of a mosaic that took tiles over: a correct one passes, and errors in merging are caught."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pmtiles.tile import zxy_to_tileid

from oam_mosaic_assets.core import audit, reexamination
from oam_mosaic_assets.core.aside import Aside, here
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.grid import to_tiles
from oam_mosaic_assets.core.placement import chosen_by_digest
from oam_mosaic_assets.core.reexamination import reexamine
from oam_mosaic_assets.core.snapshot import Names
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.tiling import EXTENT
from oam_mosaic_assets.core.vector_tile import MESSAGES
from oam_mosaic_assets.gateways.calls import calling
from oam_mosaic_assets_tests.core.archives import Pieces, assembled, pieces_of
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, PLAIN, PLAN, Scene, footprint, made_from

MORE = footprint("one more", 10.25, 10.15, 10.45, 10.35, acquired_to=NOW)
"""Overlaps three other images."""

MOVED = replace(PLAIN[3], geometry=footprint("x", 30.004, -19.996, 30.404, -19.696).geometry)
"""Moved slightly: still in the same tiles at the first zooms."""

AFTER = (MORE, *PLAIN[:3], MOVED, *IMAGES[4:])


@pytest.fixture(scope="module")
def after(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The scene with one more image, and one that moved."""
    made = made_from(AFTER, tmp_path_factory.mktemp("after") / "mosaic", before=scene.before)
    assert made.changed == 2
    return made


def failures(
    after: Scene, before: Before, archive: Path | None = None, aside: Aside = here
) -> dict[str, str]:
    return {each.name: each.text for each in reexamined(after, before, archive, aside) if not each.passed}


def reexamined(
    after: Scene, before: Before, archive: Path | None = None, aside: Aside = here
) -> list[audit.Verdict]:
    assert after.snapshot.bounds is not None
    verdicts = reexamine(
        archive or after.archive,
        after.footprints,
        after.plan,
        before,
        snapshot=after.snapshot.digest,
        extent=after.snapshot.bounds,
        aside=aside,
    )
    assert {each.name for each in verdicts} <= set(audit.CHECKS) - audit.GUARDS
    return verdicts


def changed(after: Scene, tmp_path: Path, change: Callable[[Pieces], None]) -> Path:
    pieces = pieces_of(after.archive)
    change(pieces)
    return assembled(pieces, tmp_path / "changed.pmtiles", leaf_size=1000)


def test_a_mosaic_that_took_tiles_over_passes(scene: Scene, after: Scene) -> None:
    assert failures(after, scene.before) == {}
    assert after.made.tiles_reused > 0


def test_it_says_which_images_were_looked_at(
    scene: Scene, after: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reexamination, "SAMPLED", 10)
    said = {each.name: each.text for each in reexamined(after, scene.before)}["images_lie_where_they_should"]
    looked_at = len({MORE.id, MOVED.id, *by_digest(after, 10)})
    assert 10 < looked_at < len(AFTER)
    assert said == (
        f"the {looked_at} images that changed or were chosen by digest are drawn in the tiles they reach; "
        f"{looked_at} outlines match"
    )


def by_digest(scene: Scene, count: int) -> list[str]:
    names = [*Names(scene.footprints)]
    return [names[index] for index in chosen_by_digest(names, scene.snapshot.digest, count)]


def test_so_does_one_that_was_made_anew(scene: Scene, after: Scene, tmp_path: Path) -> None:
    anew = made_from(AFTER, tmp_path / "anew")
    assert failures(anew, scene.before) == {}


def test_a_lost_cell_is_found(scene: Scene, after: Scene, tmp_path: Path) -> None:
    def lose(pieces: Pieces) -> None:
        first = zxy_to_tileid(PLAN.zoom_max, 341, 367)  # where the lake lies, and nothing changed
        cell = [each for each in pieces.of_zoom(PLAN.zoom_max) if first // 16 == each.tile_id // 16]
        assert cell
        for each in cell:
            pieces.entries.remove(each)
            pieces.header["addressed_tiles_count"] -= each.run_length

    assert "are lost" in failures(after, scene.before, changed(after, tmp_path, lose))["archive_is_whole"]


def test_a_shifted_range_of_bytes_is_found(scene: Scene, after: Scene, tmp_path: Path) -> None:
    def shift(pieces: Pieces) -> None:
        lake = pieces.at(PLAN.zoom_max, 341, 367).offset
        for each in pieces.entries:
            each.offset += 1 if each.offset >= lake and each.offset < len(pieces.tiles) - each.length else 0

    found = failures(after, scene.before, changed(after, tmp_path, shift))
    assert "are different" in found["archive_is_whole"] or "broken" in found["archive_is_whole"]


@pytest.mark.parametrize("zoom", range(PLAN.whole_from, PLAN.zoom_max + 1))
@pytest.mark.parametrize("place", [(10.3, 10.2), (30.2, -19.9)], ids=["one more", "moved"])
def test_a_stale_tile_is_found(
    scene: Scene, after: Scene, tmp_path: Path, zoom: int, place: tuple[float, float]
) -> None:
    before = pieces_of(scene.archive)
    column, row = place_of(*place, zoom)

    def forget(pieces: Pieces) -> None:
        pieces.replace(pieces.at(zoom, column, row), before.packed(before.at(zoom, column, row)))

    assert failures(after, scene.before, changed(after, tmp_path, forget))


def test_a_stale_shape_is_found_in_a_tile_whose_buffer_an_image_hardly_reaches(tmp_path: Path) -> None:
    tile = 360.0 / 2**9
    there = footprint("there", 12.2 * tile, 0.2 * tile, 12.4 * tile, 0.4 * tile)
    aside = footprint("there", (13 + 5 / 256 - 5 / EXTENT) * tile, 0.2 * tile, 13.4 * tile, 0.4 * tile)
    first = made_from([there, *PLAIN], tmp_path / "first")
    moved = made_from([aside, *PLAIN], tmp_path / "moved", before=first.before)
    before = pieces_of(first.archive)

    def forget(pieces: Pieces) -> None:
        pieces.replace(pieces.at(9, 268, 255), before.packed(before.at(9, 268, 255)))

    assert failures(moved, first.before) == {}
    found = failures(moved, first.before, changed(moved, tmp_path, forget))
    assert "differ from their footprints at z9: ['there']" in found["images_lie_where_they_should"]


def test_an_order_that_is_stale_is_found(scene: Scene, tmp_path: Path) -> None:
    dated = made_from(
        [replace(PLAIN[2], acquired_to=NOW), *(each for each in IMAGES if each.id != PLAIN[2].id)],
        tmp_path / "dated",
        before=scene.before,
    )
    before = pieces_of(scene.archive)
    column, row = place_of(10.3, 10.25, PLAN.zoom_max)

    def forget(pieces: Pieces) -> None:
        pieces.replace(
            pieces.at(PLAN.zoom_max, column, row), before.packed(before.at(PLAN.zoom_max, column, row))
        )

    assert failures(dated, scene.before) == {}
    found = failures(dated, scene.before, changed(dated, tmp_path, forget))
    assert "older image is drawn over" in found["archive_is_whole"]


def town_lost(layer: Any) -> None:
    at = [each.string_value for each in layer.values].index("a town")
    kept = [each for each in layer.features if at not in each.tags[1::2]]
    assert len(kept) == len(layer.features) - 1
    for feature in kept:
        feature.tags[:] = [
            number - (place % 2 == 1 and number > at) for place, number in enumerate(feature.tags)
        ]
    del layer.features[:], layer.values[at]
    layer.features.extend(kept)


def town_reshaped(layer: Any) -> None:
    town, other = feature_of(layer, "a town"), feature_of(layer, "a river")
    assert town.geometry != other.geometry
    town.geometry[:] = other.geometry


def town_below_another(layer: Any) -> None:
    """Below an older one, so in another order among those that did not change."""
    features = [*layer.features]
    town, river = feature_of(layer, "a town"), feature_of(layer, "a river")
    one, other = features.index(town), features.index(river)
    features[one], features[other] = features[other], features[one]
    del layer.features[:]
    layer.features.extend(features)


def feature_of(layer: Any, name: str) -> Any:
    at = [each.string_value for each in layer.values].index(name)
    (found,) = [each for each in layer.features if [*each.tags[:2]] == [0, at]]
    return found


def spoilt(pieces: Pieces, zoom: int, spoil: Callable[[Any], None]) -> None:
    """Change the tile in which an image was added above others."""
    entry = pieces.at(zoom, *place_of(10.3, 10.25, zoom))
    tile = MESSAGES["Tile"].FromString(gzip.decompress(pieces.packed(entry)))
    spoil(tile.layers[0])
    pieces.replace(entry, gzip.compress(tile.SerializeToString()))


@pytest.mark.parametrize("zoom", [4, 8, 9, 10])
@pytest.mark.parametrize("spoil", [town_lost, town_reshaped, town_below_another])
def test_an_image_that_did_not_change_is_as_before_in_tiles_that_did(
    scene: Scene, after: Scene, tmp_path: Path, zoom: int, spoil: Callable[[Any], None]
) -> None:
    found = failures(after, scene.before, changed(after, tmp_path, lambda it: spoilt(it, zoom, spoil)))
    tile = "/".join(map(str, (zoom, *place_of(10.3, 10.25, zoom))))
    said = f"draw images that did not change otherwise than before, first {tile}"
    if spoil is town_below_another and zoom >= PLAN.whole_from:
        said = f"{tile}: an older image is drawn over a newer one"
    assert said in found["archive_is_whole"]


@pytest.mark.parametrize("zoom", [4, 8, 9, 10])
def test_a_new_image_with_the_outline_of_one_below_it_is_found(
    scene: Scene, after: Scene, tmp_path: Path, zoom: int
) -> None:
    def widened(layer: Any) -> None:
        feature_of(layer, "one more").geometry[:] = feature_of(layer, "a town").geometry

    found = failures(after, scene.before, changed(after, tmp_path, lambda it: spoilt(it, zoom, widened)))
    said = f"outlines differ from their footprints at z{zoom}: ['one more']"
    assert said in found["images_lie_where_they_should"]


@pytest.mark.parametrize("zoom", [4, 8, 9, 10])
def test_an_image_that_a_tile_draws_twice_is_found(
    scene: Scene, after: Scene, tmp_path: Path, zoom: int
) -> None:
    def repeated(layer: Any) -> None:
        layer.features.add().CopyFrom(feature_of(layer, "one more"))

    found = failures(after, scene.before, changed(after, tmp_path, lambda it: spoilt(it, zoom, repeated)))
    assert "features draw" in found["archive_is_whole"]


def test_an_image_that_should_have_gone_is_found(scene: Scene, tmp_path: Path) -> None:
    """The previous archive, passed off as the new one."""
    less = made_from(
        IMAGES[1:], tmp_path / "less", before=scene.before, metadata={"snapshot": "of another day"}
    )
    assert set(failures(less, scene.before)) == {"archive_is_as_asked"}
    assert "every_image_is_drawn" in failures(less, scene.before, scene.archive)


def test_an_image_that_was_not_added_is_found_and_named(scene: Scene, after: Scene) -> None:
    said = failures(after, scene.before, scene.archive)["every_image_is_drawn"]
    assert f"an image that changed is not drawn, first {MORE.id!r} at z{PLAN.whole_from}" in said


TOLD = replace(PLAIN[3], title="A title", license="CC-BY-NC-4.0")
RETOLD = (*PLAIN[:3], replace(TOLD, title="Another title", license="CC-BY-4.0"), *IMAGES[4:])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The scene as a details archive."""
    images = (*PLAIN[:3], TOLD, *IMAGES[4:])
    return made_from(images, tmp_path_factory.mktemp("told") / "details", plan=details_plan(10))


@pytest.fixture(scope="module")
def retold(told: Scene, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The same, with other properties for one image."""
    made = made_from(
        RETOLD, tmp_path_factory.mktemp("retold") / "details", plan=told.plan, before=told.before
    )
    assert made.changed == 1
    return made


def test_details_that_took_tiles_over_pass(told: Scene, retold: Scene) -> None:
    assert failures(retold, told.before) == {}
    assert retold.made.tiles_reused > 0


def test_what_is_said_of_images_is_the_same_in_another_process(
    told: Scene, retold: Scene, tmp_path: Path
) -> None:
    with calling("A process that audits", tmp_path, ahead=reexamination.__name__) as elsewhere:
        assert failures(retold, told.before, aside=elsewhere) == {}


@pytest.mark.parametrize("zoom", range(3, 11))
def test_a_tile_that_says_what_was_said_before_is_found(
    told: Scene, retold: Scene, tmp_path: Path, zoom: int
) -> None:
    before = pieces_of(told.archive)
    column, row = place_of(30.2, -19.9, zoom)

    def forget(pieces: Pieces) -> None:
        pieces.replace(pieces.at(zoom, column, row), before.packed(before.at(zoom, column, row)))

    found = failures(retold, told.before, changed(retold, tmp_path, forget))
    assert f"{zoom}/{column}/{row}: the properties of 'a hill' are not" in found["archive_is_whole"]


def test_what_is_said_of_images_that_did_not_change_is_looked_at_as_well(
    told: Scene, retold: Scene, tmp_path: Path
) -> None:
    """As if the comparison of the snapshots had missed the changed title."""
    blind = Before(build="before", archive=told.archive, footprints=retold.footprints)
    after = made_from((*RETOLD, MORE), tmp_path / "after", plan=told.plan, before=blind)
    assert "the properties of 'a hill' are not" in failures(after, blind)["archive_is_whole"]


@pytest.mark.parametrize("zoom", [4, 9])
def test_what_is_said_of_an_image_that_did_not_change_is_as_before(
    told: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoom: int
) -> None:
    def renamed(layer: Any) -> None:
        (value,) = [each for each in layer.values if each.string_value == "A title"]
        value.string_value = "Another title"

    monkeypatch.setattr(reexamination, "SAMPLED", 0)
    near = footprint("near the hill", 30.1, -20.0, 30.2, -19.9, acquired_to=NOW)
    images = (*PLAIN[:3], TOLD, *IMAGES[4:], near)
    more = made_from(images, tmp_path / "more", plan=told.plan, before=told.before)
    entry_of = place_of(30.2, -19.9, zoom)

    def spoil(pieces: Pieces) -> None:
        entry = pieces.at(zoom, *entry_of)
        tile = MESSAGES["Tile"].FromString(gzip.decompress(pieces.packed(entry)))
        renamed(tile.layers[0])
        pieces.replace(entry, gzip.compress(tile.SerializeToString()))

    assert failures(more, told.before) == {}
    found = failures(more, told.before, changed(more, tmp_path, spoil))
    assert "draw images that did not change otherwise" in found["archive_is_whole"]


def place_of(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    x, y = to_tiles(np.array([[lon, lat]]), zoom)[0]
    return int(x), int(y)


def test_outlines_about_as_wide_as_rounding_pass(scene: Scene, tmp_path: Path) -> None:
    """As a drone image is at some zoom or other: it holds a circle of hardly more than the tolerance."""
    chance, corners = np.random.default_rng(1), np.arange(5) * 0.4 * np.pi
    rows = []
    for number in range(20):
        radius = chance.uniform(4.02, 4.22) * 360.0 / 2**PLAN.whole_from / EXTENT / np.cos(np.pi / 5)
        turned = corners + 0.1 * chance.normal(size=5) + chance.uniform(0, 3)
        west, south = 60 + 0.5 * (number % 5), 0.5 * (number // 5)
        outline = np.column_stack([west + radius * np.cos(turned), south + radius * np.sin(turned)])
        rows.append(replace(MORE, id=f"pentagon {number}", geometry=shapely.Polygon(outline)))
    after = made_from([*rows, *IMAGES], tmp_path / "after", before=scene.before)
    assert after.changed == len(rows)
    assert failures(after, scene.before) == {}

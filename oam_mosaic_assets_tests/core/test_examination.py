"""The whole audit on a real mosaic: it passes as it is, and catches each kind of change."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pmtiles.tile import Compression, Entry

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.artifact import sha256_of
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.examination import examine
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets_tests.core.archives import Pieces, assembled, pieces_of
from oam_mosaic_assets_tests.core.scene import (
    DIFFICULT,
    IMAGES,
    PLAIN,
    PLAN,
    Scene,
    footprint,
    made_from,
)
from oam_mosaic_assets_tests.core.test_reexamination import feature_of, spoilt


def verdicts(scene: Scene, archive: Path | None = None) -> dict[str, Verdict]:
    assert scene.snapshot.bounds is not None
    found = examine(
        archive or scene.archive,
        scene.footprints,
        scene.plan,
        snapshot=scene.snapshot.digest,
        extent=scene.snapshot.bounds,
    )
    return {verdict.name: verdict for verdict in found}


def failures(scene: Scene, archive: Path) -> dict[str, str]:
    return {name: verdict.text for name, verdict in verdicts(scene, archive).items() if not verdict.passed}


def changed(scene: Scene, tmp_path: Path, change: Callable[[Pieces], None]) -> Path:
    pieces = pieces_of(scene.archive)
    change(pieces)
    return assembled(pieces, tmp_path / "changed.pmtiles")


def test_a_mosaic_of_difficult_images_passes(scene: Scene) -> None:
    found = verdicts(scene)
    assert [verdict.text for verdict in found.values() if not verdict.passed] == []
    assert set(found) == set(audit.CHECKS) - audit.GUARDS
    assert found["images_lie_where_they_should"].numbers["outlines_compared"] == len(IMAGES)


def test_the_same_footprints_give_the_same_bytes_wherever_they_are_made(scene: Scene, tmp_path: Path) -> None:
    again = made_from(reversed(IMAGES), tmp_path / "elsewhere")
    assert sha256_of(again.archive) == sha256_of(scene.archive)
    assert str(tmp_path).encode() not in again.archive.read_bytes()
    assert str(tmp_path) not in json.dumps(json.loads(gzip.decompress(pieces_of(again.archive).metadata)))


def test_a_lost_tile_is_found_and_its_image_named(scene: Scene, tmp_path: Path) -> None:
    def lose(pieces: Pieces) -> None:
        lost = pieces.of_zoom(PLAN.zoom_max)[0]
        pieces.entries.remove(lost)
        pieces.header["addressed_tiles_count"] -= lost.run_length

    said = failures(scene, changed(scene, tmp_path, lose))["images_lie_where_they_should"]
    assert re.search(rf"missing from a tile, first ('[^']+') in {PLAN.zoom_max}/", said)


def test_an_image_lost_at_a_zoom_before_the_last_is_found(scene: Scene, tmp_path: Path) -> None:
    def lose(pieces: Pieces) -> None:
        lost = pieces.at(PLAN.whole_from, 257, 254)  # of the dot
        pieces.entries.remove(lost)
        pieces.header["addressed_tiles_count"] -= lost.run_length

    found = failures(scene, changed(scene, tmp_path, lose))
    assert found == {"every_image_is_drawn": f"some of {len(IMAGES)} images are not drawn: 1 at z9"}


@pytest.mark.parametrize("zoom", range(PLAN.whole_from, PLAN.zoom_max))
def test_images_that_a_zoom_draws_in_each_others_tiles_are_found(
    scene: Scene, tmp_path: Path, zoom: int
) -> None:
    def exchange(pieces: Pieces) -> None:
        entries = pieces.of_zoom(zoom)
        first, last = entries[0], entries[len(entries) // 2]
        first.offset, last.offset = last.offset, first.offset
        first.length, last.length = last.length, first.length

    found = failures(scene, changed(scene, tmp_path, exchange))
    assert found.keys() == {"images_lie_where_they_should"}
    assert f" in {zoom}/" in found["images_lie_where_they_should"]


def test_a_header_that_counts_other_tiles_is_found(scene: Scene, tmp_path: Path) -> None:
    def miscount(pieces: Pieces) -> None:
        pieces.header["addressed_tiles_count"] += 1

    assert "addressed tiles" in failures(scene, changed(scene, tmp_path, miscount))["archive_is_as_asked"]


@pytest.mark.parametrize("side", ["min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7"])
def test_bounds_that_are_not_the_footprints_are_found(scene: Scene, tmp_path: Path, side: str) -> None:
    def move(pieces: Pieces) -> None:
        pieces.header[side] += 1 if side.startswith("min") else -1

    assert "bounds" in failures(scene, changed(scene, tmp_path, move))["archive_is_as_asked"]


def test_tiles_that_are_not_said_to_be_gzipped_are_found(scene: Scene, tmp_path: Path) -> None:
    def unsay(pieces: Pieces) -> None:
        pieces.header["tile_compression"] = Compression.NONE

    found = failures(scene, changed(scene, tmp_path, unsay))
    assert "tile compression: 'NONE', not 'GZIP'" in found["archive_is_as_asked"]


@pytest.mark.parametrize("stated", ["name", "description", "attribution"])
def test_other_words_about_the_archive_are_found(scene: Scene, tmp_path: Path, stated: str) -> None:
    def reword(pieces: Pieces) -> None:
        metadata = json.loads(gzip.decompress(pieces.metadata)) | {stated: "footprints.geojsonl"}
        pieces.metadata = gzip.compress(json.dumps(metadata).encode())

    assert f"{stated}: " in failures(scene, changed(scene, tmp_path, reword))["archive_is_as_asked"]


def test_a_shifted_byte_range_is_found(scene: Scene, tmp_path: Path) -> None:
    def shift(pieces: Pieces) -> None:
        entries = pieces.of_zoom(PLAN.zoom_max)
        first, last = entries[0], entries[len(entries) // 2]
        first.offset, first.length, last.offset, last.length = (
            last.offset,
            last.length,
            first.offset,
            first.length,
        )

    assert "wrongly drawn" in failures(scene, changed(scene, tmp_path, shift))["images_lie_where_they_should"]


def test_a_broken_tile_is_found_and_named(scene: Scene, tmp_path: Path) -> None:
    def spoil(pieces: Pieces) -> None:
        pieces.replace(pieces.at(0, 0, 0), b"no gzip stream")

    assert "0/0/0" in failures(scene, changed(scene, tmp_path, spoil))["archive_is_whole"]


def test_a_file_cut_short_is_found(scene: Scene, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pmtiles"
    cut.write_bytes(scene.archive.read_bytes()[:-1])
    assert "cut short" in failures(scene, cut)["archive_is_whole"]


def test_an_older_mosaic_is_found_by_the_images_it_lacks(scene: Scene, tmp_path: Path) -> None:
    older = made_from(IMAGES[1:], tmp_path / "older")
    found = failures(scene, older.archive)
    assert IMAGES[0].id in found["every_image_is_drawn"]
    assert "snapshot" in found["archive_is_as_asked"]


def test_an_image_that_is_no_footprint_is_found(scene: Scene, tmp_path: Path) -> None:
    more = made_from([*IMAGES, footprint("a stranger", 1, 1, 2, 2)], tmp_path / "more")
    assert "a stranger" in failures(scene, more.archive)["every_image_is_drawn"]


def test_an_image_drawn_elsewhere_is_found(scene: Scene, tmp_path: Path) -> None:
    moved = [replace(PLAIN[0], geometry=footprint("x", 12.0, 10.0, 12.4, 10.3).geometry), *IMAGES[1:]]
    elsewhere = made_from(moved, tmp_path / "elsewhere", metadata={"snapshot": scene.snapshot.digest})
    found = failures(scene, elsewhere.archive)
    assert set(found) == {"images_lie_where_they_should", "low_zooms_are_true"}
    assert PLAIN[0].id in found["images_lie_where_they_should"]


@pytest.mark.parametrize("zoom", [PLAN.whole_from, 13])
def test_images_in_the_order_of_other_dates_are_found(tmp_path: Path, zoom: int) -> None:
    plan = replace(PLAN, zoom_max=13)
    right = made_from(PLAIN, tmp_path / "right", plan=plan)
    dates = [each.acquired_to for each in PLAIN]
    turned = [replace(each, acquired_to=date) for each, date in zip(PLAIN, reversed(dates), strict=True)]
    wrong = pieces_of(made_from(turned, tmp_path / "wrong", plan=plan).archive)

    def turn(pieces: Pieces) -> None:
        for entry, other in zip(pieces.of_zoom(zoom), wrong.of_zoom(zoom), strict=True):
            pieces.replace(entry, wrong.packed(other))

    assert failures(right, right.archive) == {}
    found = failures(right, changed(right, tmp_path, turn))
    assert "older image is drawn over" in found["archive_is_whole"]


def test_an_outline_that_is_another_within_the_same_tiles_is_found(scene: Scene, tmp_path: Path) -> None:
    narrower = footprint("a field", 10.002, 10.002, 10.398, 10.298, acquired_to=PLAIN[0].acquired_to)
    other = made_from(
        [narrower, *IMAGES[1:]], tmp_path / "other", metadata={"snapshot": scene.snapshot.digest}
    )
    found = failures(scene, other.archive)["images_lie_where_they_should"]
    assert f"1 of {len(IMAGES)} outlines differ from their footprints" in found


@pytest.mark.parametrize("zoom", range(4, PLAN.zoom_max + 1))
def test_images_with_each_others_outlines_are_found(scene: Scene, tmp_path: Path, zoom: int) -> None:
    """They overlap, so the same pixels are drawn."""

    def exchange(layer: Any) -> None:
        town, river = feature_of(layer, "a town"), feature_of(layer, "a river")
        one, other = [*town.geometry], [*river.geometry]
        town.geometry[:], river.geometry[:] = other, one

    found = failures(scene, changed(scene, tmp_path, lambda it: spoilt(it, zoom, exchange)))
    assert f"outlines differ from their footprints at z{zoom}" in found["images_lie_where_they_should"]


def test_another_layer_is_found(scene: Scene, tmp_path: Path) -> None:
    other = made_from(IMAGES, tmp_path / "other", plan=replace(PLAN, layer="coverage"))
    assert "['coverage']" in failures(scene, other.archive)["archive_is_whole"]


def test_other_zooms_are_found(scene: Scene, tmp_path: Path) -> None:
    other = made_from(IMAGES, tmp_path / "other", plan=replace(PLAN, zoom_max=9))
    found = failures(scene, other.archive)
    assert "zooms" in found["archive_is_as_asked"]
    assert f"not drawn at z{PLAN.zoom_max}" in found["every_image_is_drawn"]


def test_a_tile_before_the_first_zoom_is_found(tmp_path: Path) -> None:
    late = made_from(PLAIN, tmp_path / "late", plan=replace(PLAN, zoom_min=3))

    def add_one(pieces: Pieces) -> None:
        tile = pieces.entries[0]
        pieces.entries.insert(0, Entry(first_tile_id(2), tile.offset, tile.length, 1))
        pieces.header["addressed_tiles_count"] += 1

    found = failures(late, changed(late, tmp_path, add_one))
    assert found == {"archive_is_as_asked": "zooms with tiles: (2, 10), not (3, 10)"}


def test_difficult_images_are_all_in_the_scene() -> None:
    assert set(DIFFICULT) < set(IMAGES)


@pytest.mark.parametrize(("set_aside", "passed"), [(2, True), (3, False)])
def test_too_many_set_aside_wait_for_a_person(set_aside: int, passed: bool) -> None:  # noqa: FBT001
    verdict = audit.judge_set_aside(catalogued=100, set_aside={"no_area": set_aside}, most=0.02)
    assert (verdict.passed, verdict.is_guard) == (passed, True)
    assert "no_area" in verdict.text


def test_a_share_just_above_what_is_allowed_looks_like_another_number() -> None:
    verdict = audit.judge_set_aside(catalogued=1049, set_aside={"no_area": 21}, most=0.02)
    assert verdict.text == (
        "21 of 1,049 images (2.002%) set aside: no_area 21; "
        "more than the 2.000% that MAX_SET_ASIDE_SHARE allows"
    )
    verdict = audit.judge_shrinkage(catalogued=89_990, before=100_000, most=0.10)
    assert verdict.text.endswith(": 10.01% fewer, more than the 10.00% that MAX_SHRINK_SHARE allows")


def test_what_was_taken_down_on_purpose_waits_for_nobody() -> None:
    verdict = audit.judge_set_aside(catalogued=100, set_aside={"no_area": 1, "taken_down": 9}, most=0.02)
    assert verdict.passed
    assert verdict.text == "1 of 100 images (1.00%) set aside: no_area 1"


@pytest.mark.parametrize(
    ("catalogued", "before", "passed"), [(90, 100, True), (89, 100, False), (500, 100, True), (1, None, True)]
)
def test_a_catalogue_that_shrank_waits_for_a_person(
    catalogued: int,
    before: int | None,
    passed: bool,  # noqa: FBT001
) -> None:
    assert audit.judge_shrinkage(catalogued=catalogued, before=before, most=0.10).passed == passed


def test_a_mosaic_of_another_source_is_not_compared_and_that_is_said() -> None:
    verdict = audit.judge_shrinkage(catalogued=20, before=2000, most=0.10, another="sample")
    assert verdict.passed
    assert "not compared: the published mosaic is of another source, sample" in verdict.text

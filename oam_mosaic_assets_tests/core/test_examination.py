"""The audit of real archives: one that is right in every difficult place, and many that are wrong in one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.audit import CHECKS, Verdict
from oam_mosaic_assets.core.drawn import read_drawn
from oam_mosaic_assets.core.examination import examine
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.geometry import drawable
from oam_mosaic_assets.core.placement import chosen_by_digest, misplaced
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe
from oam_mosaic_assets_tests.core.archives import Pieces, assembled, pieces_of
from oam_mosaic_assets_tests.core.scene import (
    DIFFICULT,
    IMAGES,
    PLAIN,
    PLAN,
    UNIT,
    Scene,
    footprint,
    made_from,
)

WHOLE, ASKED, COMPLETE, PLACED = list(CHECKS)[:4]
ZOOM = PLAN.zoom_max


def audit(scene: Scene, archive: Path) -> dict[str, Verdict]:
    """Judge an archive by the footprints of the scene."""
    verdicts = examine(archive, scene.footprints, scene.plan, snapshot=scene.snapshot.digest)
    return {verdict.name: verdict for verdict in verdicts}


def failures(verdicts: dict[str, Verdict]) -> set[str]:
    return {name for name, verdict in verdicts.items() if not verdict.passed}


@pytest.fixture
def pieces(scene: Scene) -> Pieces:
    return pieces_of(scene.archive)


@pytest.fixture
def altered(scene: Scene, tmp_path: Path) -> Callable[[Iterable[Footprint]], Path]:
    """The archive of other footprints, which says that it shows the scene's."""

    def make(images: Iterable[Footprint]) -> Path:
        stated = {"snapshot": scene.snapshot.digest}
        return made_from(images, tmp_path / "altered", metadata=stated).archive

    return make


def test_a_right_archive_passes_wherever_its_images_lie(scene: Scene) -> None:
    verdicts = audit(scene, scene.archive)

    assert list(verdicts) == [WHOLE, ASKED, COMPLETE, PLACED]
    assert {name: verdict.text for name, verdict in verdicts.items() if not verdict.passed} == {}
    assert verdicts[COMPLETE].text == f"all {len(IMAGES)} images are drawn at z10"
    assert verdicts[PLACED].numbers["outlines_compared"] == len(IMAGES)


@pytest.mark.parametrize("zoom", [8, 13])
def test_difficult_places_are_right_at_other_zooms(tmp_path: Path, zoom: int) -> None:
    plan = TilingPlan(zoom_max=zoom)
    small = [image for image in DIFFICULT if image.geometry.area < 0.05]
    scene = made_from(small, tmp_path / "mosaic", plan=plan)

    assert failures(audit(scene, scene.archive)) == set()


def test_an_archive_in_leaf_directories_passes(scene: Scene, pieces: Pieces, tmp_path: Path) -> None:
    archive = assembled(pieces, tmp_path / "a.pmtiles", leaf_size=11)

    assert failures(audit(scene, archive)) == set()


def test_a_lost_image_is_missed(scene: Scene, altered: Callable[[Iterable[Footprint]], Path]) -> None:
    verdicts = audit(scene, altered(image for image in IMAGES if image.id != "a hill"))

    assert failures(verdicts) >= {COMPLETE, PLACED}
    assert verdicts[COMPLETE].text == f"1 of {len(IMAGES)} images are not drawn at z10, first ['a hill']"
    assert "missing from a tile, first a hill in 10/" in verdicts[PLACED].text


def test_a_stranger_is_told(scene: Scene, altered: Callable[[Iterable[Footprint]], Path]) -> None:
    verdicts = audit(scene, altered([*IMAGES, footprint("nobody's", 100, 10, 100.1, 10.1)]))

    assert COMPLETE in failures(verdicts)
    assert '1 ids are drawn that are no image\'s, first ["\\"nobody\'s\\""]' in verdicts[
        COMPLETE
    ].text.replace("'\"", '"\\"').replace("\"'", '\\""')


@pytest.mark.parametrize(
    ("east", "north"), [(90.0, 0.0), (0.2, 0.1), (12 * UNIT, 0.0)], ids=["far", "near", "by twelve units"]
)
def test_an_image_drawn_elsewhere_is_told(
    scene: Scene, altered: Callable[[Iterable[Footprint]], Path], east: float, north: float
) -> None:
    moved = footprint("a lake", -60 + east, 45 + north, -59.6 + east, 45.3 + north)
    verdicts = audit(scene, altered(moved if image.id == "a lake" else image for image in IMAGES))

    assert failures(verdicts) == {PLACED}
    assert "a lake" in verdicts[PLACED].text


def test_an_image_without_its_hole_is_told(
    scene: Scene, altered: Callable[[Iterable[Footprint]], Path]
) -> None:
    filled = [
        replace(image, geometry=shapely.Polygon(image.geometry.exterior))
        if isinstance(image.geometry, shapely.Polygon)
        else image
        for image in IMAGES
    ]
    verdicts = audit(scene, altered(filled))

    assert failures(verdicts) == {PLACED}
    assert "the outlines of 1 of" in verdicts[PLACED].text
    assert "a spike and a hole" in verdicts[PLACED].text


def test_a_shifted_tile_is_told(scene: Scene, pieces: Pieces, tmp_path: Path) -> None:
    """A directory entry points at another tile's bytes."""
    first, *_, last = pieces.of_zoom(ZOOM)
    first.offset, first.length = last.offset, last.length

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert PLACED in failures(verdicts)
    assert "drawn astray in a tile" in verdicts[PLACED].text
    assert WHOLE not in failures(verdicts)


def test_two_tiles_in_each_others_place_are_told(scene: Scene, pieces: Pieces, tmp_path: Path) -> None:
    first, *_, last = pieces.of_zoom(ZOOM)
    first.offset, first.length, last.offset, last.length = (
        last.offset,
        last.length,
        first.offset,
        first.length,
    )

    assert failures(audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))) == {PLACED}


def test_a_stale_tile_is_told(scene: Scene, pieces: Pieces, tmp_path: Path) -> None:
    """Of an older mosaic, when the lake's image was smaller: the same ids in the same tile."""
    smaller = footprint("a lake", -60.0, 45.0, -59.65, 45.25)
    older = made_from([smaller if image.id == "a lake" else image for image in IMAGES], tmp_path / "older")
    stale = pieces_of(older.archive)
    tile = (ZOOM, *tile_of(scene, "a lake"))
    pieces.replace(pieces.at(*tile), stale.packed(stale.at(*tile)))

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert failures(verdicts) == {PLACED}
    assert "['a lake']" in verdicts[PLACED].text


def tile_of(scene: Scene, name: str) -> tuple[int, int]:
    """The last tile that an image is drawn in: its north-eastern or south-eastern corner."""
    names = [image.id for image in IMAGES]
    with open_archive(scene.archive) as archive:
        drawn = read_drawn(archive, {each: n for n, each in enumerate(names)}, layer=PLAN.layer)
    of_image = drawn.image == names.index(name)
    return max(zip(drawn.x[of_image].tolist(), (drawn.y[of_image]).tolist(), strict=True))


def test_a_missing_tile_is_told(scene: Scene, pieces: Pieces, tmp_path: Path) -> None:
    gone = pieces.at(ZOOM, *tile_of(scene, "a lake"))
    pieces.entries.remove(gone)
    pieces.header["addressed_tiles_count"] -= gone.run_length

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert failures(verdicts) == {PLACED}
    assert "1 times an image is missing from a tile, first a lake in 10/" in verdicts[PLACED].text


def test_another_layer_is_told(scene: Scene, tmp_path: Path) -> None:
    other = made_from(
        IMAGES,
        tmp_path / "other",
        plan=replace(PLAN, layer="coverage"),
        metadata={"snapshot": scene.snapshot.digest},
    )

    verdicts = audit(scene, other.archive)

    assert failures(verdicts) == {WHOLE, ASKED, COMPLETE, PLACED}
    assert "its layers are ['coverage'], not ['globalcoverage']" in verdicts[WHOLE].text
    assert "layers: [{'id': 'coverage'" in verdicts[ASKED].text


def test_another_property_is_told(scene: Scene, tmp_path: Path) -> None:
    told = tmp_path / "told.geojsonl"
    told.write_text(scene.geojson.read_text().replace('"properties":{', '"properties":{"title":"x",'))
    raw = tmp_path / "raw.pmtiles"
    Tippecanoe().run(PLAN.arguments(source=str(told), target=str(raw), temporary=str(tmp_path)))

    verdicts = audit(scene, raw)

    assert {WHOLE, ASKED} <= failures(verdicts)
    assert "properties ['title', 'id']" in verdicts[WHOLE].text
    assert "snapshot: None" in verdicts[ASKED].text


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda tile: tile + tile, "its layers are ['globalcoverage', 'globalcoverage']"),
        (lambda tile: tile[:-1], "a field reaches beyond its message"),
        (lambda _: b"", "its layers are []"),
        (lambda tile: tile.replace(b"\x78\x02", b"\x78\x01"), "version 1, extent 4096"),
        (lambda tile: tile.replace(b"(\x80 ", b"(\x80\x40"), "version 2, extent 8192"),
    ],
    ids=["layer twice", "cut", "empty", "version 1", "another extent"],
)
def test_a_broken_tile_is_told_with_its_place(
    scene: Scene, pieces: Pieces, tmp_path: Path, broken: Callable[[bytes], bytes], message: str
) -> None:
    column, row = tile_of(scene, "a lake")
    entry = pieces.at(ZOOM, column, row)
    pieces.replace(entry, gzip.compress(broken(gzip.decompress(pieces.packed(entry)))))

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert WHOLE in failures(verdicts)
    assert verdicts[WHOLE].text.startswith("1 of ")
    assert f"first 10/{column}/{row}: " in verdicts[WHOLE].text
    assert message in verdicts[WHOLE].text


@pytest.mark.parametrize("at_the_end", [False, True], ids=["a zoom between", "the last zoom"])
def test_a_missing_zoom_is_told(scene: Scene, pieces: Pieces, tmp_path: Path, *, at_the_end: bool) -> None:
    for entry in pieces.of_zoom(ZOOM if at_the_end else 5):
        pieces.entries.remove(entry)
        pieces.header["addressed_tiles_count"] -= entry.run_length

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert failures(verdicts) == ({ASKED, COMPLETE, PLACED} if at_the_end else {ASKED})
    assert "zooms that hold tiles: [0, 1, 2, 3, 4, " in verdicts[ASKED].text


@pytest.mark.parametrize("field", ["name", "attribution", "snapshot", "vector_layers"])
def test_metadata_that_say_something_else_are_told(
    scene: Scene, pieces: Pieces, tmp_path: Path, field: str
) -> None:
    metadata = json.loads(gzip.decompress(pieces.metadata)) | {field: "something else"}
    pieces.metadata = gzip.compress(json.dumps(metadata).encode())

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert failures(verdicts) == {ASKED}
    assert f"{field.removeprefix('vector_')}: 'something else', not " in verdicts[ASKED].text


def test_the_archive_of_another_snapshot_is_told(scene: Scene) -> None:
    verdicts = {
        verdict.name: verdict
        for verdict in examine(scene.archive, scene.footprints, scene.plan, snapshot="0" * 64)
    }

    assert failures(verdicts) == {ASKED}
    assert verdicts[ASKED].text == f"snapshot: {scene.snapshot.digest!r}, not {'0' * 64!r}"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("addressed_tiles_count", 10**6, "addressed tiles: 1000000, not "),
        ("min_zoom", 3, "zooms: (3, 10), not (0, 10)"),
        ("max_zoom", 9, "zooms: (0, 9), not (0, 10)"),
        ("max_zoom", 31, "zooms: (0, 31), not (0, 10)"),
    ],
)
def test_a_header_that_says_something_else_is_told(
    scene: Scene, pieces: Pieces, tmp_path: Path, field: str, value: int, told: str
) -> None:
    pieces.header[field] = value

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert ASKED in failures(verdicts)
    assert told in verdicts[ASKED].text
    if field == "max_zoom":
        assert verdicts[PLACED].text == f"not compared: the last zoom is {value}, not 10"


def test_more_tiles_than_the_header_says_are_told(scene: Scene, pieces: Pieces, tmp_path: Path) -> None:
    pieces.header["addressed_tiles_count"] -= 1

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert failures(verdicts) == {WHOLE}
    assert "its directories name more tiles than the" in verdicts[WHOLE].text


def test_other_tiles_than_vector_tiles_are_told(scene: Scene, pieces: Pieces, tmp_path: Path) -> None:
    pieces.header["tile_type"] = type(pieces.header["tile_type"]).PNG

    verdicts = audit(scene, assembled(pieces, tmp_path / "a.pmtiles"))

    assert failures(verdicts) == {ASKED}
    assert "tile type: False, not True" in verdicts[ASKED].text


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_archive_fails_the_audit_and_nothing_else(
    scene: Scene, tmp_path: Path, share: float
) -> None:
    content = scene.archive.read_bytes()
    (tmp_path / "a.pmtiles").write_bytes(content[: int(len(content) * share)])

    verdicts = audit(scene, tmp_path / "a.pmtiles")

    assert failures(verdicts) == {WHOLE}
    assert list(verdicts) == [WHOLE]
    assert verdicts[WHOLE].text.startswith("the archive is broken: it")


def test_an_outline_that_crosses_itself_once_projected_is_compared_all_the_same(tmp_path: Path) -> None:
    """Two edges a millionth of a metre apart are bent by the projection until they cross."""
    comb = [[x / 10, 60 + (x % 2) * 1e-11 + 0.1] for x in range(40, -1, -1)]
    ring = [[0, 60], *[[x / 10, 60.1 - 1e-11 - (x % 2) * 1e-11] for x in range(41)], *comb]
    images = [*PLAIN, Footprint(id="a hair", geometry=drawable({"type": "Polygon", "coordinates": [ring]}))]
    scene = made_from(images, tmp_path / "mosaic")

    assert failures(audit(scene, scene.archive)) == set()


def test_nothing_drawn_of_nothing_is_in_place() -> None:
    none = np.zeros(0, np.int64)
    no_images: Any = np.zeros(0, dtype=object)

    assert misplaced(no_images, image=none, x=none, y=none, zoom=10) == ([], [])
    one = np.array([3], np.int64)
    assert misplaced(no_images, image=one, x=one, y=one, zoom=10) == ([], [(3, 3, 3)])


def test_the_outlines_to_compare_are_always_the_same_for_a_snapshot_and_others_for_another() -> None:
    names = [f"image {number}" for number in range(1000)]

    chosen = chosen_by_digest(names, "a" * 64, 200)

    assert len(set(chosen)) == 200
    assert chosen == chosen_by_digest(names, "a" * 64, 200) == sorted(chosen)
    assert chosen != chosen_by_digest(names, "b" * 64, 200)
    assert chosen_by_digest(names[:5], "a" * 64, 200) == [0, 1, 2, 3, 4]

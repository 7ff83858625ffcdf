"""The outline of the coverage, in the form that editors accept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shapely
from shapely import affinity

from oam_mosaic_assets.core.archive import BrokenArchive
from oam_mosaic_assets.core.outline import LARGEST_OUTLINE, outline_of, some_tile
from oam_mosaic_assets_tests.core.archives import assembled, in_leaves, pieces_of
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAN, TILE, Scene, footprint, made_from

METRE = 1e-5
"""Degrees."""


def outline_in(content: bytes, **options: int) -> Any:
    return outline_of(reader(content), **options)


def reader(content: bytes) -> Callable[[int, int], bytes]:
    return lambda start, length: content[start : start + length]


def as_shape(outline: Any) -> shapely.MultiPolygon:
    shape = shapely.from_geojson(json.dumps(outline))
    assert isinstance(shape, shapely.MultiPolygon)
    assert shape.is_valid
    for part in shape.geoms:
        assert part.exterior.is_ccw  # RFC 7946
    return shape


def holds_all_images(shape: shapely.Geometry) -> None:
    for image in IMAGES:
        parts = shapely.get_parts(image.geometry)  # more than one at the antimeridian
        assert shape.covers(shapely.centroid(parts)).all(), image.id
        # a spike without width is in no tile
        assert image.geometry.difference(shape).area <= image.geometry.area * 1e-6, image.id


def test_every_image_lies_in_it_and_little_else_does(scene: Scene) -> None:
    shape = as_shape(outline_in(scene.archive.read_bytes())).buffer(METRE)
    holds_all_images(shape)
    # about a tile beyond the images at most: buffers draw them in the next one, even round the world
    images = shapely.union_all(
        [affinity.translate(image.geometry, xoff) for image in IMAGES for xoff in (-360, 0, 360)]
    )
    assert images.buffer(TILE * 1.5, join_style="mitre").covers(shape)


@pytest.mark.parametrize("largest", [20_000, 5_000, 2_000, 400, 0])
def test_it_is_as_coarse_as_its_size_demands(scene: Scene, largest: int) -> None:
    outline = outline_in(scene.archive.read_bytes(), largest=largest)
    finest = outline_in(scene.archive.read_bytes())
    size, most = (len(json.dumps(each, separators=(",", ":"))) for each in (outline, finest))
    assert most <= LARGEST_OUTLINE
    assert size <= max(largest, 200)
    shape = as_shape(outline).buffer(METRE)
    holds_all_images(shape)
    if largest == 0:
        assert shape.area == pytest.approx(360 * 170.1022576, rel=1e-3)  # the whole world is one tile


def test_so_does_an_image_that_only_the_tile_of_its_middle_counts(tmp_path: Path) -> None:
    """It lies across the edge of tiles of z3 to z8, and is smaller than a pixel there."""
    image = footprint("across an edge", 44.998, 10.0, 45.0025, 10.003)
    content = made_from([*IMAGES, image], tmp_path / "m").archive.read_bytes()
    shapes = {as_shape(outline_in(content, largest=size)) for size in range(400, 8000, 200)}
    assert len(shapes) > 6, "of as many zooms"
    assert all(shape.covers(image.geometry) for shape in shapes)


@pytest.mark.parametrize("leaf_size", [1, 7, 50])
def test_of_the_leaf_directories_only_what_it_needs_is_read(
    scene: Scene, tmp_path: Path, leaf_size: int
) -> None:
    expected = outline_in(scene.archive.read_bytes())
    archive = assembled(pieces_of(scene.archive), tmp_path / "leaves.pmtiles", leaf_size=leaf_size)
    assert outline_in(archive.read_bytes()) == expected
    deeper = pieces_of(scene.archive)
    for entry in deeper.of_zoom(PLAN.zoom_max):
        entry.tile_id += 4**13  # deeper than any outline uses
    asked = []
    content = assembled(deeper, archive, leaf_size=leaf_size).read_bytes()
    coarser = outline_of(lambda start, length: asked.append(start) or reader(content)(start, length))
    assert as_shape(coarser).area > as_shape(expected).area
    assert len(asked) < 2 + (len(deeper.entries) - len(deeper.of_zoom(13))) / leaf_size


def test_of_no_tiles_there_is_none(scene: Scene, tmp_path: Path) -> None:
    pieces = pieces_of(scene.archive)
    pieces.entries = []
    assert outline_in(assembled(pieces, tmp_path / "empty.pmtiles").read_bytes()) is None


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_cannot_be_read_is_said(scene: Scene, tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        content = assembled(pieces_of(scene.archive), tmp_path / "x.pmtiles", root=b"none").read_bytes()
    with pytest.raises(BrokenArchive):
        outline_in(content)


def test_a_leaf_that_is_cut_short_is_said(scene: Scene, tmp_path: Path) -> None:
    archive = assembled(pieces_of(scene.archive), tmp_path / "x.pmtiles", leaf_size=20)
    whole = reader(archive.read_bytes())
    with pytest.raises(BrokenArchive, match="a directory cannot be read"):
        outline_of(lambda start, length: whole(start, length if start == 0 else length - 3))


def test_a_leaf_without_bytes_is_said(scene: Scene, tmp_path: Path) -> None:
    pieces = pieces_of(scene.archive)
    root, leaves = in_leaves(pieces.entries, 20)
    root[1].length = 0
    content = assembled(pieces, tmp_path / "x.pmtiles", root=root, leaves=leaves).read_bytes()
    with pytest.raises(BrokenArchive, match=f"the directory of tile {root[1].tile_id} has no bytes"):
        outline_in(content)


@pytest.mark.parametrize("leaf_size", [None, 7])
def test_some_tile_is_one_that_the_archive_has(scene: Scene, tmp_path: Path, leaf_size: int | None) -> None:
    pieces = pieces_of(scene.archive)
    archive = assembled(pieces, tmp_path / "some.pmtiles", leaf_size=leaf_size)
    zoom, x, y = map(int, some_tile(reader(archive.read_bytes())).split("/"))
    assert pieces.at(zoom, x, y)
    assert zoom > 0
    pieces.entries = []
    with pytest.raises(BrokenArchive, match="is empty"):
        some_tile(reader(assembled(pieces, archive).read_bytes()))

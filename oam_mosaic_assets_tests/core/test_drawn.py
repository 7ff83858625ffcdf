"""Reading what tiles draw: in batches of any size, and within limits whatever a file says."""

from __future__ import annotations

import gzip
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pmtiles.tile import Entry

from oam_mosaic_assets.core import drawn as reading
from oam_mosaic_assets.core import sorting
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.drawn import NOTHING_DRAWN, Drawn, read_drawn
from oam_mosaic_assets.core.examination import examine
from oam_mosaic_assets.core.grid import apart, first_tile_id
from oam_mosaic_assets.core.image_ids import ImageIds
from oam_mosaic_assets.core.snapshot import Names
from oam_mosaic_assets.core.vector_tile import MESSAGES
from oam_mosaic_assets_tests.core.archives import assembled, pieces_of
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAN, Scene

MIB = 2**20


def everything(scene: Scene, scratch: Path) -> Drawn:
    names = Names(scene.footprints)
    with open_archive(scene.archive) as archive:
        return read_drawn(
            archive,
            ImageIds(names),
            layer=PLAN.layer,
            outlined={name: image for image, name in enumerate(names)},
            zoom=PLAN.zoom_max,
            scratch=scratch,
        )


@pytest.mark.parametrize("together", [1, 7])
def test_what_is_found_does_not_depend_on_what_is_read_together(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    once = everything(scene, tmp_path)
    for module, name in ((reading, "_TOGETHER"), (reading, "_NAMES"), (reading, "_PAIRS"), (sorting, "_RUN")):
        monkeypatch.setattr(module, name, together)
    monkeypatch.setattr(sorting, "_STEP", 1)
    parted = everything(scene, tmp_path)
    assert np.array_equal(once.pairs, parted.pairs)
    assert len(once.pairs) > once.images[PLAN.zoom_max] == once.seen.sum()
    assert np.array_equal(once.seen, parted.seen)
    assert (once.tiles, once.images, once.faults) == (parted.tiles, parted.images, ())
    areas = [
        {image: [(each.x, each.y, each.area.wkb) for each in some] for image, some in found.pieces.items()}
        for found in (once, parted)
    ]
    assert areas[0] == areas[1]


def test_some_images_are_numbered_by_their_position(scene: Scene, tmp_path: Path) -> None:
    found, some = everything(scene, tmp_path), np.array([1, 2, 5, 17, len(IMAGES) - 1])
    image, x, y = apart(found.pairs, PLAN.zoom_max)
    wanted = [pair for pair in zip(image.tolist(), x.tolist(), y.tolist(), strict=True) if pair[0] in some]
    only = found.only(some, PLAN.zoom_max)
    image, x, y = apart(only.pairs, PLAN.zoom_max)
    assert (np.diff(only.pairs) > 0).all()
    assert [*zip(some[image].tolist(), x.tolist(), y.tolist(), strict=True)] == wanted
    assert {int(some[each]): pieces for each, pieces in only.pieces.items()} == {
        each: found.pieces[each] for each in some.tolist()
    }


def test_few_of_many_images_take_little_memory() -> None:
    many = replace(NOTHING_DRAWN, pairs=np.arange(5_000_000) << 8)
    tracemalloc.start()
    assert len(many.only(np.array([7, 4_000_000]), 4).pairs) == 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


def test_a_feature_with_two_names_is_the_image_that_readers_take_it_for(scene: Scene, tmp_path: Path) -> None:
    pieces, renamed = pieces_of(scene.archive), 0
    for entry in pieces.of_zoom(PLAN.zoom_max):
        tile = MESSAGES["Tile"].FromString(gzip.decompress(pieces.packed(entry)))
        (layer,) = tile.layers
        values = [each.string_value for each in layer.values]
        if {"a field", "a town"} <= {*values}:
            field, town = values.index("a field"), values.index("a town")
            for feature in layer.features:
                if [*feature.tags] == [0, field]:
                    feature.tags.extend([0, town])
                    renamed += 1
            pieces.replace(entry, gzip.compress(tile.SerializeToString()))
    assert renamed
    assert scene.snapshot.bounds is not None
    found = examine(
        assembled(pieces, tmp_path / "renamed.pmtiles"),
        scene.footprints,
        PLAN,
        snapshot=scene.snapshot.digest,
        extent=scene.snapshot.bounds,
    )
    (failure,) = [each for each in found if not each.passed]
    assert failure.name == "images_lie_where_they_should"
    assert "outlines differ" in failure.text


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ([[0, 0], [0, 0]], "2 features draw 1 images"),
        ([[], [0, 1]], "not one property"),
        ([[0, 0], [0, 1, 0, 0]], "not one property"),
        ([[0, 0], [0, 2]], "its layer does not have"),
        ([[0, 0], [1, 1]], "its layer does not have"),
        ([[0, 1], [0, 0]], "an older image is drawn over a newer one"),
    ],
    ids=["twice", "nameless", "two names", "no such value", "no such key", "the older one above"],
)
def test_each_feature_is_one_image(scene: Scene, tmp_path: Path, tags: list[list[int]], said: str) -> None:
    pieces, names = pieces_of(scene.archive), Names(scene.footprints)
    tile = MESSAGES["Tile"]()
    layer = tile.layers.add(name=PLAN.layer, version=2, keys=["id"])
    for number, stated in enumerate(tags):
        layer.values.add(string_value=names[number])
        layer.features.add(tags=stated, type=3)
    pieces.entries = [Entry(first_tile_id(9), 0, 0, 1)]
    pieces.replace(pieces.entries[0], gzip.compress(tile.SerializeToString()))
    with open_archive(assembled(pieces, tmp_path / "a.pmtiles")) as archive:
        found = read_drawn(archive, ImageIds(names), layer=PLAN.layer, closely=True)
    assert found.fault_count == 1
    assert said in found.faults[0]


def test_a_small_file_does_not_fill_memory_however_often_it_names_an_image(
    scene: Scene, tmp_path: Path
) -> None:
    pieces = pieces_of(scene.archive)
    tile = MESSAGES["Tile"]()
    layer = tile.layers.add(name=PLAN.layer, version=2, keys=["id"])
    for number in range(20_000):
        layer.values.add(string_value=f"{number}")
        layer.features.add(tags=[0, number], type=3)
    pieces.entries = [Entry(first_tile_id(9) + 2 * number, 0, 0, 1) for number in range(4000)]
    packed = gzip.compress(tile.SerializeToString())
    pieces.tiles = packed
    for entry in pieces.entries:
        entry.length = len(packed)
    pieces.header["addressed_tiles_count"] = len(pieces.entries)
    path = assembled(pieces, tmp_path / "many.pmtiles", leaf_size=1000)
    assert path.stat().st_size < MIB // 4
    tracemalloc.start()
    with open_archive(path) as archive:
        found = read_drawn(archive, None, layer=PLAN.layer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.tiles, found.images) == ({9: 4000}, {9: 20_000})
    assert peak < 64 * MIB  # 20,000 indices for each of 4,000 tiles would be ten times that

"""Low zooms show every image, drawn or counted, and the audit finds where they do not."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.audit import judge_low_zooms
from oam_mosaic_assets.core.drawn import read_drawn
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.geometry import drawable
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids
from oam_mosaic_assets.core.low_zooms import Tile, is_shown, low_zoom_tiles
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import BUFFER, EXTENT, PIXELS, WHOLE_FROM
from oam_mosaic_assets.core.truth import Changed, examine_low_zooms
from oam_mosaic_assets.core.vector_tile import polygon_rings, read_feature, read_layers
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets_tests.core.archives import Pieces, assembled, pieces_of
from oam_mosaic_assets_tests.core.messages import changed_tile
from oam_mosaic_assets_tests.core.scene import IMAGES, PLAN, Scene, footprint, made_from, snapshot_of

PIXEL = 360.0 / PIXELS
"""Degrees of longitude at z0."""

LONELY = footprint("a flight in the desert", 20.0, 24.0, 20.001, 24.001)
TOWN = tuple(
    footprint(f"a flight over town {n}", 3.0 + n / 9999, 40, 3.001 + n / 9999, 40.001) for n in range(5)
)
SCENE = footprint("a satellite's scene", -70.0, -40.0, -66.0, -37.0)
ISLAND = footprint("a satellite's scene of an island", 60.0, -40.0, 60.4, -39.7)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A few images far from each other."""
    return made_from([LONELY, *TOWN, SCENE, ISLAND], tmp_path_factory.mktemp("sparse") / "mosaic")


def tiles_of(images: list[Footprint], folder: Path, **plan: int) -> dict[tuple[int, int, int], Any]:
    snapshot_of(images, folder)
    found = low_zoom_tiles(folder / "footprints.parquet", replace(PLAN, **plan))
    return {(tile.zoom, tile.x, tile.y): only_layer(tile) for tile in found}


def only_layer(tile: Tile) -> Any:
    (layer,) = read_layers(gzip.decompress(tile.content))
    return layer


def properties(layer: Any) -> list[dict[str, Any]]:
    return [read_feature(layer, message).properties for message in layer.features]


def text(scene: Scene, archive: Path | None = None, changed: Changed | None = None) -> str:
    with open_archive(archive or scene.archive) as opened:
        found = examine_low_zooms(opened, scene.footprints, scene.plan, changed)
    verdict = judge_low_zooms(found)
    return "" if verdict.passed else verdict.text


def test_low_zooms_of_difficult_images_are_true(scene: Scene, sparse: Scene) -> None:
    assert text(scene) == text(sparse) == ""
    with open_archive(scene.archive) as archive:
        found = examine_low_zooms(archive, scene.footprints, PLAN)
    assert [each.zoom for each in found] == list(range(WHOLE_FROM))
    assert {each.to_draw + each.counted for each in found} == {len(IMAGES)}
    assert 0 < found[3].to_draw < found[8].to_draw < len(IMAGES)


def test_an_image_is_drawn_from_the_zoom_at_which_it_reaches_a_pixel(tmp_path: Path) -> None:
    wide = footprint("wide", 10.0, 10.0, 10.0 + PIXEL / 16, 10.001)
    narrow = footprint("narrow", 10.0, -10.0, 10.0 + PIXEL / 16.01, -9.999)
    tiles = tiles_of([wide, narrow], tmp_path / "s")
    assert properties(tiles[3, 4, 3]) == properties(tiles[3, 4, 4]) == [{"count": 1}]
    assert properties(tiles[4, 8, 7]) == [{"id": "wide"}]
    assert properties(tiles[4, 8, 8]) == [{"count": 1}]
    assert properties(tiles[5, 16, 16]) == [{"id": "narrow"}]


@pytest.mark.parametrize("off", [-1.0, 0.0, 1.0])
def test_an_image_as_large_as_a_pixel_is_drawn_however_its_size_is_rounded(off: float) -> None:
    for zoom in range(WHOLE_FROM):
        pixel = 1.0 / float(PIXELS << zoom)
        assert is_shown(np.array([pixel + off * 16 * np.spacing(1.0)]), zoom).all()
        assert not is_shown(np.array([pixel * 0.999]), zoom).any()


def test_smaller_ones_are_counted_by_the_pixel_of_their_middle(tmp_path: Path) -> None:
    tiles = tiles_of([LONELY, *TOWN], tmp_path / "s")
    assert sorted(each["count"] for each in properties(tiles[0, 0, 0])) == [1, 5]
    column = int((LONELY.geometry.centroid.x + 180.0) / PIXEL)
    steps = tiles[0, 0, 0].features[0].geometry
    assert steps[0] == 9
    assert steps[1] == 2 * column * EXTENT // PIXELS
    assert sum(each["count"] for each in properties(tiles[8, 130, 96])) == 5


def test_the_newest_image_is_drawn_last_and_squares_lie_below(tmp_path: Path) -> None:
    from oam_mosaic_assets_tests.core.scene import PLAIN  # noqa: PLC0415

    tiles = tiles_of([*PLAIN[:3], footprint("dot", 10.1, 10.1, 10.1001, 10.1001)], tmp_path / "s")
    assert properties(tiles[5, 16, 15]) == [
        {"count": 1},
        {"id": "a river"},
        {"id": "a town"},
        {"id": "a field"},
    ]


def test_an_image_of_many_tiles_is_cut_at_their_buffers(tmp_path: Path) -> None:
    tiles = tiles_of([footprint("wide", -4.0, -4.0, 4.0, 4.0)], tmp_path / "s")
    assert len([place for place in tiles if place[0] == 8]) == 6 * 6
    margin = round(BUFFER * EXTENT)
    for layer in tiles.values():
        points, _, _ = polygon_rings(layer.features)
        assert points.min() >= -margin
        assert points.max() <= EXTENT + margin


def test_only_zooms_that_are_asked_for_are_drawn(tmp_path: Path) -> None:
    assert {zoom for zoom, _, _ in tiles_of([LONELY], tmp_path / "1", zoom_min=4)} == set(
        range(4, WHOLE_FROM)
    )
    assert tiles_of([LONELY], tmp_path / "2", zoom_min=WHOLE_FROM) == {}
    shallow = tiles_of([LONELY], tmp_path / "3", zoom_max=8)
    assert max(zoom for zoom, _, _ in shallow) == 7  # the last zoom draws every image


def test_tippecanoe_reads_what_is_written(scene: Scene) -> None:
    decode = find_tippecanoe().with_name("tippecanoe-decode")
    read = subprocess.run(
        [decode, str(scene.archive), "5", "22", "15"], capture_output=True, text=True, check=True
    )
    (layer,) = json.loads(read.stdout)["features"]
    drawn = {feature["properties"].get("id"): feature["geometry"] for feature in layer["features"]}
    west, south = np.min(drawn["a spike and a hole"]["coordinates"][0], axis=0)
    assert (west, south) == pytest.approx((70.0, 10.0), abs=360.0 / 32 / EXTENT * 4)
    assert len(drawn["a spike and a hole"]["coordinates"]) == 2


def shapes() -> Iterator[Footprint]:
    """Footprints with 3, 4 or 9 corners, from far below one unit of the first whole zoom to 100 pixels."""
    chance, unit = np.random.default_rng(5), 360.0 / 2**WHOLE_FROM / EXTENT
    for number in range(300):
        turn = np.sort(chance.random((3, 4, 9)[number % 3]) * 2 * np.pi)
        ring = np.column_stack([np.cos(turn), np.sin(turn)]) * unit * 10 ** chance.uniform(-2, 3.2, 2)
        ring += chance.random(2) * [340, 160] - [170, 80]
        yield Footprint(
            id=f"shape {number}",
            geometry=drawable({"type": "Polygon", "coordinates": [ring.tolist()]}),
        )


def test_images_of_any_size_are_shown_at_every_zoom(tmp_path: Path) -> None:
    found = made_from(shapes(), tmp_path / "shapes", plan=replace(PLAN, zoom_max=13))
    assert text(found) == ""
    with open_archive(found.archive) as archive:
        images = read_drawn(archive, None, layer=PLAN.layer).images
    assert [images[zoom] for zoom in range(WHOLE_FROM, 14)] == [300] * 5
    assert 0 < images[4] < images[8] < 300


Change = Callable[[Any], None]


def spoiled(
    scene: Scene,
    folder: Path,
    tile: tuple[int, int, int],
    change: Change,
    changed: Changed | None = None,
) -> str:
    """The audit's findings once a tile's layer, as a protobuf message, has been changed."""
    pieces = pieces_of(scene.archive)
    entry = pieces.at(*tile)
    pieces.replace(entry, changed_tile(pieces.packed(entry), change))
    return text(scene, assembled(pieces, folder / f"{len(list(folder.iterdir()))}.pmtiles"), changed)


def lose_first(layer: Any) -> None:
    del layer.features[0]


def shift(layer: Any) -> None:
    layer.features[0].geometry[1] += 2 * 3 * EXTENT // PIXELS


def add_one(layer: Any) -> None:
    layer.values[layer.features[0].tags[1]].uint_value += 1


def say_nothing(layer: Any) -> None:
    del layer.features[0].tags[:]


def repeat(layer: Any) -> None:
    layer.features.add().CopyFrom(layer.features[0])


def draw_too(layer: Any) -> None:
    """Draw an image as itself that is counted here."""
    layer.keys.append("id")
    layer.values.add().string_value = LONELY.id
    drawn = layer.features.add()
    drawn.CopyFrom(layer.features[0])
    drawn.tags[:] = [len(layer.keys) - 1, len(layer.values) - 1]


def exchange(layer: Any) -> None:
    one, other = [each for each in layer.features if layer.keys[each.tags[0]] == "count"]
    one.tags[1], other.tags[1] = other.tags[1], one.tags[1]


def turn_over(layer: Any) -> None:
    features = [*layer.features][::-1]
    del layer.features[:]
    layer.features.extend(features)


def shift_by_half(layer: Any) -> None:
    layer.features[0].geometry[1] += EXTENT // PIXELS


def say_many(layer: Any) -> None:
    layer.values[layer.features[0].tags[1]].uint_value = 2**64 - 1


def cut(layer: Any) -> None:
    del layer.features[0].geometry[-1]


def draw_a_line(layer: Any) -> None:
    layer.features[0].type = 2


def draw_nothing(layer: Any) -> None:
    del layer.features[0].geometry[:]


LIES = pytest.mark.parametrize(
    ("tile", "change", "said"),
    [
        ((3, 4, 3), lose_first, "empty where images are, first in 3/4/3"),
        ((3, 4, 3), lose_first, "z3: 5 images are counted, not 6"),
        ((8, 142, 110), shift, "empty where images are, first in 8/142/110"),
        ((8, 142, 110), shift, "drawn where none are, first in 8/142/110"),
        ((8, 142, 110), add_one, "z8: 7 images are counted, not 6"),
        ((8, 142, 110), repeat, "z8: 7 images are counted, not 6"),
        ((8, 142, 110), draw_too, f"1 images are drawn though too small, first {[LONELY.id]}"),
        ((8, 142, 110), say_nothing, "neither an id nor a count"),
        ((8, 142, 110), say_many, "images are counted, not "),
        ((3, 4, 3), exchange, "z3: 2 pixels are counted otherwise than they hold images, first in 3/4/3"),
        ((0, 0, 0), turn_over, "0/0/0: a count, 5, lies above an image"),
        ((0, 0, 0), shift_by_half, "0/0/0: a count is drawn otherwise than in squares of a pixel"),
        ((8, 142, 110), cut, "do not draw polygons"),
        ((8, 142, 110), draw_a_line, "a feature is no polygon"),
        ((6, 42, 39), draw_nothing, "a feature is no polygon"),
        ((6, 42, 39), lose_first, "empty where images are, first in 6/42/39"),
        ((6, 42, 39), shift, "drawn where none are"),
    ],
)


@LIES
def test_a_tile_that_lies_is_found(
    sparse: Scene, tmp_path: Path, tile: tuple[int, int, int], change: Change, said: str
) -> None:
    assert said in spoiled(sparse, tmp_path, tile, change)


@LIES
def test_it_is_found_where_only_that_tile_is_looked_at(
    sparse: Scene, tmp_path: Path, tile: tuple[int, int, int], change: Change, said: str
) -> None:
    found = spoiled(sparse, tmp_path, tile, change, alone(*tile))
    assert said.replace("7 images are counted, not 6", "2 images are counted, not 1") in found
    assert found.startswith(f"z{tile[0]}: ")
    assert f"z{tile[0] - 1}" not in found
    assert not spoiled(sparse, tmp_path, tile, change, alone(2, 1, 1))


def test_rounding_may_decide_which_pixel_counts_an_image_whose_middle_is_on_an_edge(
    tmp_path: Path,
) -> None:
    """The middle is on the equator and the meridian of Greenwich; its square is moved one pixel west."""
    made = made_from([footprint("null island", -4e-4, -4e-4, 4e-4, 4e-4), SCENE], tmp_path / "edge")
    assert text(made) == ""

    def to_the_west(layer: Any) -> None:
        layer.features[0].geometry[1] -= 2 * EXTENT // PIXELS

    assert "counted" not in spoiled(made, tmp_path, (0, 0, 0), to_the_west)


@pytest.mark.parametrize("names", [None, {ISLAND.id}])
def test_an_image_that_is_missing_is_named(sparse: Scene, tmp_path: Path, names: set[str] | None) -> None:
    changed = None if names is None else Changed(Stretches.of_zooms(0, 8), names)
    said = spoiled(sparse, tmp_path, (6, 42, 39), lose_first, changed)
    assert f"z6: 1 images are not drawn, first {[ISLAND.id]}" in said
    changed = Changed(Stretches.of_zooms(0, 8), {SCENE.id})
    assert "not drawn" not in spoiled(sparse, tmp_path, (6, 42, 39), lose_first, changed)


def alone(zoom: int, x: int, y: int) -> Changed:
    """A change that reaches one tile and no particular image."""
    return Changed(Stretches.of(tile_ids(zoom, np.array([x]), np.array([y]))), ())


def test_what_is_right_is_right_tile_by_tile(scene: Scene) -> None:
    """Images cross the edges of many tiles, yet each tile passes without a look at its neighbours."""
    ids = pieces_of(scene.archive).entries
    low = [each.tile_id for each in ids if each.tile_id < first_tile_id(WHOLE_FROM)]
    for tile_id in low[::7]:
        assert text(scene, changed=Changed(Stretches.of(np.array([tile_id])), ())) == ""


def test_a_lost_tile_of_a_low_zoom_is_found(sparse: Scene, tmp_path: Path) -> None:
    def without(place: tuple[int, int, int]) -> Pieces:
        pieces = pieces_of(sparse.archive)
        pieces.entries.remove(pieces.at(*place))
        return pieces

    said = text(sparse, assembled(without((7, 39, 78)), tmp_path / "lost.pmtiles"))
    assert "z7: " in said
    assert "empty where images are, first in 7/39/78" in said
    assert "z6" not in said

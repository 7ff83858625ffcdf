"""Chips: cut to the footprint, stored, and composed one over another."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from oam_mosaic_assets.core.imagery import chip
from oam_mosaic_assets.core.imagery.blocks import Tile, Window
from oam_mosaic_assets.core.imagery.chip import Chip, composed, within

WINDOW = Window(1024, 2048, 1088, 2112)


def white(window: Window = WINDOW) -> np.ndarray:
    return np.full((*window.shape, 4), 255, np.uint8)


def test_what_lies_within_the_footprint_is_left_as_it_is() -> None:
    pixels = white()
    assert within(pixels, WINDOW, shapely.box(0, 0, 5000, 5000)) is pixels


@pytest.mark.parametrize(
    "area",
    [
        shapely.Polygon([(1030, 2050), (1080, 2060), (1040, 2100)]),
        shapely.box(1030.25, 2050.5, 1060.75, 2080.25),
        shapely.Polygon([(1000, 2000), (1200, 2080), (1000, 2200)]),
        shapely.box(1030, 2050, 1080, 2100).difference(shapely.box(1040, 2060, 1070, 2090)),
        shapely.MultiPolygon([shapely.box(1030, 2050, 1040, 2060), shapely.box(1050, 2070, 1060, 2080)]),
        shapely.MultiPolygon(
            [
                shapely.box(1030, 2050, 1080, 2100).difference(shapely.box(1040, 2060, 1070, 2090)),
                shapely.box(1050, 2070, 1060, 2080),
            ]
        ),
    ],
    ids=["triangle", "between pixels", "beyond the window", "with a hole", "in parts", "island in a hole"],
)
def test_a_pixel_is_seen_by_how_much_of_it_the_footprint_covers(area: shapely.Geometry) -> None:
    share = within(white(), WINDOW, area)[..., 3] / 255.0
    columns, rows = np.meshgrid(np.arange(64) + WINDOW.x0, np.arange(64) + WINDOW.y0)
    pixels = shapely.box(columns, rows, columns + 1, rows + 1)
    covered = shapely.area(shapely.intersection(pixels, area))
    assert (share[covered > 1 - 1e-9] == 1.0).all()
    assert (share[covered < 1e-9] == 0.0).all()
    assert np.abs(share - covered).max() < 0.1


def test_a_footprint_smaller_than_a_pixel_is_not_lost() -> None:
    cut = within(white(), WINDOW, shapely.box(1050.1, 2070.1, 1050.15, 2070.15))
    assert np.argwhere(cut[..., 3]).tolist() == [[22, 26]]


@pytest.mark.parametrize("together", [1, 700])
def test_an_outline_of_many_crossings_is_cut_in_bands_as_it_would_be_at_once(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    turns = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    reach = np.random.default_rng(3).uniform(8, 40, 120)
    star = np.column_stack([1056.3 + reach * np.cos(turns), 2080.7 + reach * np.sin(turns)])
    area = shapely.Polygon(star)
    at_once = within(white(), WINDOW, area)
    monkeypatch.setattr(chip, "_TOGETHER", together)
    assert np.array_equal(within(white(), WINDOW, area), at_once)


def test_a_chip_is_kept_without_what_shows_nothing() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[10:20, 30:50] = 200
    kept = Chip(WINDOW, pixels).trimmed()
    assert kept is not None
    assert kept.window == Window(1054, 2058, 1074, 2068)
    back = Chip.from_bytes(kept.to_bytes())
    assert back.window == kept.window
    assert np.array_equal(back.pixels, np.full((10, 20, 4), 200))


def test_a_chip_that_shows_nothing_is_none() -> None:
    assert Chip(WINDOW, np.zeros((64, 64, 4), np.uint8)).trimmed() is None


def test_the_first_chip_lies_on_top_and_the_others_fill_the_rest() -> None:
    block = Tile(1, 2)
    first = Chip(Window(1024, 2048, 1040, 2064), np.full((16, 16, 4), 255, np.uint8))
    second = Chip(Window(1032, 2048, 1056, 2064), np.full((16, 24, 4), [10, 20, 30, 255], np.uint8))
    seen = composed(block, [first, second])
    assert seen.shape == (1024, 1024, 4)
    assert seen[0, 15].tolist() == [255] * 4
    assert seen[0, 16].tolist() == [10, 20, 30, 255]
    assert seen[0, 32].tolist() == [0] * 4
    assert composed(block, [second, first])[0, 15].tolist() == [10, 20, 30, 255]


def test_where_the_top_is_half_seen_the_one_below_shines_through() -> None:
    half = Chip(Window(0, 0, 16, 16), np.full((16, 16, 4), [0, 0, 0, 128], np.uint8))
    full = Chip(Window(0, 0, 16, 16), np.full((16, 16, 4), 255, np.uint8))
    assert composed(Tile(0, 0), [half, full])[0, 0].tolist() == [127, 127, 127, 255]

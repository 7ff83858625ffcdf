"""Colour tables, compared with those of rio-tiler, which TiTiler uses."""

from __future__ import annotations

import json
import logging
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rio_tiler.colormap import apply_cmap
from rio_tiler.colormap import cmap as titilers

from oam_mosaic_assets.core.imagery.colour_table import ColourTable, named_table, stated_table

OWN = {"cfastie", "rplumbo", "schwarzwald"}
"""Maps that nobody but rio-tiler has."""

OTHERWISE = {"gist_stern", "gist_stern_r"}
"""rio-tiler's differ from matplotlib's, from which it has them."""

COLOURS = st.lists(st.integers(0, 255), min_size=4, max_size=4)
NUMBERS = st.integers(-40_000, 70_000)


def table(text: str) -> ColourTable:
    found = stated_table(text)
    assert found is not None
    return found


def titiler_shows(values: np.ndarray, colours: Any) -> np.ndarray:
    data, alpha = apply_cmap(values[None], colours)
    return np.moveaxis(np.concatenate([data, alpha[None]]), 0, -1)


@pytest.mark.parametrize("name", sorted({*titilers.list()} - OWN - OTHERWISE))
def test_names_mean_the_same_maps(name: str, caplog: pytest.LogCaptureFixture) -> None:
    found, wanted = named_table(name), titilers.get(name)
    assert found is not None
    shown = found.of(np.arange(256, dtype=np.uint8))
    assert np.abs(shown.astype(int) - [wanted[value] for value in range(256)]).max() <= 2
    assert found.is_scale
    assert caplog.record_tuples == []


@pytest.mark.parametrize("name", ["", "_r", "nothing", "../viridis", "viridis_r_r", "a:b", "é" * 500])
def test_other_names_are_none(name: str) -> None:
    assert named_table(name) is None


@given(st.dictionaries(NUMBERS, COLOURS, min_size=1, max_size=20), st.lists(NUMBERS, min_size=4, max_size=40))
def test_classes_have_their_colours(colours: dict[int, list[int]], others: list[int]) -> None:
    values = np.array([*others, *colours], np.int32)[None]
    shown = table(json.dumps(colours)).of(values)
    wanted = titiler_shows(values, {value: tuple(each) for value, each in colours.items()})
    assert (shown == wanted).all()
    assert not table(json.dumps(colours)).is_scale


@given(
    st.lists(NUMBERS, min_size=2, max_size=12, unique=True).map(sorted),
    st.lists(COLOURS, min_size=11, max_size=11),
    st.lists(st.floats(-50_000, 80_000, width=32), min_size=1),
)
def test_ranges_have_their_colours(bounds: list[int], colours: list[list[int]], others: list[float]) -> None:
    ranges = [[[*place], colour] for place, colour in zip(pairwise(bounds), colours, strict=False)]
    values = np.array([*others, *bounds], np.float32)[None]
    shown = table(json.dumps(ranges[::-1])).of(values)
    wanted = titiler_shows(values, [((low, high), tuple(colour)) for (low, high), colour in ranges])
    assert (shown == wanted).all()


def test_a_byte_is_looked_up_as_any_other_value() -> None:
    found = table('{"3": [1, 2, 3, 4], "255": "#0a0b0c", "0": [9, 9, 9], "300": [5, 5, 5]}')
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (found.of(values) == found.of(values.astype(np.int16))).all()
    assert found.of(values)[15, 15].tolist() == [10, 11, 12, 255]


def test_what_is_no_number_is_transparent() -> None:
    found = table('{"3": [1, 2, 3, 4], "-2.5": [5, 6, 7, 8]}')
    values = np.array([np.nan, np.inf, -np.inf, 3.0, -2.5, np.nextafter(np.float32(3), np.float32(4))])
    shown = found.of(values.astype(np.float32))
    assert shown.tolist() == [[0] * 4] * 3 + [[1, 2, 3, 4], [5, 6, 7, 8], [0] * 4]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "5",
        "null",
        "{}",
        "[]",
        '{"a": [1, 2, 3]}',
        '{"1": [1, 2]}',
        '{"1": [1, 2, 3, 999]}',
        '{"1": [1, 2, -3]}',
        '{"1": "#ff"}',
        '{"1": "red"}',
        '{"1": 5}',
        '{"1": [NaN, 1, 2]}',
        '{"NaN": [1, 2, 3]}',
        "[[1, 2, 3]]",
        "[[[0], [1, 2, 3]]]",
        "[[[0, 1, 2], [1, 2, 3]]]",
        '[[["a", 1], [1, 2, 3]]]',
        "[[[5, 5], [1, 2, 3]]]",
        "[" * 5000,
    ],
)
def test_what_is_no_table_is_none(text: str) -> None:
    assert stated_table(text) is None


def test_the_library_may_warn_about_names_elsewhere() -> None:
    """Only its own logger is set, and only when a name is looked up."""
    named_table("viridis")
    assert logging.getLogger().getEffectiveLevel() <= logging.WARNING

"""Colour tables, compared with those of rio-tiler, which TiTiler uses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rio_tiler.colormap import apply_cmap
from rio_tiler.colormap import cmap as titilers
from rio_tiler.colormap import parse_color as titilers_colour

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
def test_names_mean_the_same_maps(name: str) -> None:
    found, wanted = named_table(name), titilers.get(name)
    assert found is not None
    shown = found.of(np.arange(256, dtype=np.uint8))
    assert np.abs(shown.astype(int) - [wanted[value] for value in range(256)]).max() <= 2
    assert found.is_scale


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


BOUNDS = st.integers(-60, 60).map(lambda tenths: tenths / 10)
"""Half of them are no values of single precision."""


@pytest.mark.parametrize("kind", ["float32", "float64", "int16"])
@given(
    st.lists(st.tuples(st.tuples(BOUNDS, BOUNDS).map(sorted), COLOURS), min_size=1, max_size=8),
    st.lists(BOUNDS, min_size=1),
)
def test_ranges_have_their_colours_in_whatever_order(
    kind: str, ranges: list[tuple[list[float], list[int]]], others: list[float]
) -> None:
    ranges = [([low, high], colour) for (low, high), colour in ranges if low < high]
    values = np.array([*others, *(bound for place, _ in ranges for bound in place)]).astype(kind)[None]
    if not ranges:
        return
    shown = table(json.dumps(ranges)).of(values)
    wanted = titiler_shows(values, [(tuple(place), tuple(colour)) for place, colour in ranges])
    assert (shown == wanted).all()


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_a_class_that_is_no_whole_number_has_its_colour(kind: str) -> None:
    values = np.array([[0.7, 0.5, np.nextafter(np.array(0.7, kind), np.array(1, kind))]], kind)
    shown = table('{"0.7": [1, 2, 3, 4], "0.5": [5, 6, 7, 8]}').of(values)
    assert shown.tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]]]


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("#f08", [255, 0, 136, 255]),
        ("#f08c", [255, 0, 136, 204]),
        ("#ff0088", [255, 0, 136, 255]),
        ("#ff0088cc", [255, 0, 136, 204]),
    ],
)
def test_colours_may_be_written_in_hexadecimal(text: str, colour: list[int]) -> None:
    assert table(json.dumps({"1": text})).of(np.array([1])).tolist() == [colour]
    assert titilers_colour(text) == tuple(colour)


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
        "[[[5, 4], [1, 2, 3]]]",
        "[" * 5000,
    ],
)
def test_what_is_no_table_is_none(text: str) -> None:
    assert stated_table(text) is None

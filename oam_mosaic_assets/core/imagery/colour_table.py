"""Colour tables of images with one band: the file's own, and those that the catalogue states.

The latter are `colormap` and `colormap_name` of the STAC render extension, which mean what they mean to
TiTiler.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

_OPAQUE: Final = 255
_CHANNELS: Final = 4
_BYTES: Final = np.arange(256)
_SHORT: Final = (3, 4)
"""Digits of `#rgb` and `#rgba`."""

_IN_USE: Final = 8
"""How many tables are kept as they are looked up: a few more than a process has images open."""

Colour = Sequence[int]
"""Red, green, blue and, unless it is opaque, alpha; 0 to 255."""


@dataclass(frozen=True, slots=True, eq=False)
class ColourTable:
    """The colours of ranges of values; a value in none of them is transparent.

    Attributes:
        begins: the first value of each range; of ranges that overlap, the last one in this order counts.
        ends: where each range ends. This value is not part of it, except that of a single value is itself.
        colours: red, green, blue and alpha of each range; shape (n, 4).
        is_scale: whether it colours brightness, 0 to 255, so that other values are stretched to that first.
    """

    begins: NDArray[np.float64]
    ends: NDArray[np.float64]
    colours: NDArray[np.uint8]
    is_scale: bool = False

    @classmethod
    def of_ranges(cls, ranges: Sequence[tuple[float, float, Colour]], *, is_scale: bool = False) -> Self:
        """A table of begins, ends and colours. Raises ValueError or the like for nonsense."""
        begins, ends, stated = zip(*ranges, strict=True)
        colours = np.array([[*colour, _OPAQUE][:_CHANNELS] for colour in stated], np.uint8)
        if colours.shape[1:] != (_CHANNELS,) or not all(begin <= end for begin, end, _ in ranges):
            raise ValueError("a colour has no red, green and blue, or a range ends before it begins")
        return cls(np.array(begins, np.float64), np.array(ends, np.float64), colours, is_scale)

    @classmethod
    def of_values(cls, colours: Mapping[Any, Colour], *, is_scale: bool = False) -> Self:
        """A table of single values, as numbers or as text. Raises ValueError or the like for nonsense."""
        return cls.of_ranges(
            [(float(value), float(value), colour) for value, colour in colours.items()], is_scale=is_scale
        )

    def of(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """The colour of each value: an array with one more dimension, of length 4."""
        if values.dtype == np.uint8:
            of_bytes: NDArray[np.uint8] = self.of(_BYTES)[values]
            return of_bytes
        bounds, colours = _lookup(self, is_single=values.dtype == np.float32)
        found: NDArray[np.uint8] = colours[np.searchsorted(bounds, values, side="right")]
        return found


@lru_cache(_IN_USE)
def _lookup(table: ColourTable, *, is_single: bool) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Where the colour changes, ascending, and the colours before, between and after these values.

    Args:
        table: the table.
        is_single: for values of single precision, to which its numbers are rounded: 0.7 is no such value.
    """
    with np.errstate(over="ignore"):  # what is too large is infinite
        begins, ends = (
            each.astype(np.float32 if is_single else np.float64) for each in (table.begins, table.ends)
        )
    ends = np.where(table.begins == table.ends, np.nextafter(begins, begins.dtype.type(np.inf)), ends)
    bounds = np.unique(np.concatenate([begins, ends]))
    colours = np.zeros((len(bounds) + 1, _CHANNELS), np.uint8)
    places = (np.searchsorted(bounds, each).tolist() for each in (begins, ends))
    for first, last, colour in zip(*places, table.colours, strict=True):
        colours[first + 1 : last + 1] = colour
    return bounds, colours


def stated_table(text: str) -> ColourTable | None:
    """The table of a `colormap`, which is JSON; None if it is not valid.

    Args:
        text: colours by value (`{"1": [255, 0, 0, 255], "2": "#00ff00"}`), or begin, end and colour of ranges
            (`[[[0, 10], [255, 0, 0, 255]]]`).
    """
    try:
        told = json.loads(text)
        if isinstance(told, dict):
            return ColourTable.of_values({value: _colour(colour) for value, colour in told.items()})
        return ColourTable.of_ranges(
            [(float(begin), float(end), _colour(colour)) for (begin, end), colour in told]
        )
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None


def named_table(name: str) -> ColourTable | None:
    """The table of a `colormap_name`, such as `viridis` or `rdylgn_r`; None if there is none of that name."""
    import cmap  # noqa: PLC0415  # few images state a name, and it takes time to load

    try:
        shares = np.asarray(cmap.Colormap(name)(_BYTES / _BYTES[-1]))
    except ValueError:
        return None
    return ColourTable.of_values(dict(enumerate(np.rint(shares * _OPAQUE).astype(int))), is_scale=True)


def _colour(stated: Any) -> Colour:
    if not isinstance(stated, str):
        return [int(each) for each in stated]
    digits = stated.removeprefix("#")
    return bytes.fromhex("".join(each * 2 for each in digits) if len(digits) in _SHORT else digits)

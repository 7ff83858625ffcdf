"""Colour tables of images with one band: the file's own, and those that the catalogue states.

The latter are `colormap` and `colormap_name` of the STAC render extension, which mean what they mean to
TiTiler.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

_OPAQUE: Final = 255
_CHANNELS: Final = 4
_BYTES: Final = np.arange(256)

Colour = Sequence[int]
"""Red, green, blue and, unless it is opaque, alpha; 0 to 255."""


@dataclass(frozen=True, slots=True, eq=False)
class ColourTable:
    """The colours of ranges of values; a value in none of them is transparent.

    Attributes:
        begins: the first value of each range, ascending; of ranges that overlap, the later one counts.
        ends: where each range ends; this value is not part of it.
        colours: red, green, blue and alpha of each range; shape (n, 4).
        is_scale: whether it colours brightness, 0 to 255, so that other values are stretched to that first.
    """

    begins: NDArray[np.float64]
    ends: NDArray[np.float64]
    colours: NDArray[np.uint8]
    is_scale: bool = False

    @classmethod
    def of_ranges(cls, ranges: Sequence[tuple[float, float, Colour]], *, is_scale: bool = False) -> Self:
        """A table of begins, ends and colours, in any order. Raises ValueError or the like for nonsense."""
        begins, ends, stated = zip(*sorted(ranges, key=lambda each: each[0]), strict=True)
        colours = np.array([[*colour, _OPAQUE][:_CHANNELS] for colour in stated], np.uint8)
        if colours.shape[1:] != (_CHANNELS,) or not all(begin < end for begin, end, _ in ranges):
            raise ValueError("a colour has no red, green and blue, or a range holds no value")
        return cls(np.array(begins, np.float64), np.array(ends, np.float64), colours, is_scale)

    @classmethod
    def of_values(cls, colours: Mapping[Any, Colour], *, is_scale: bool = False) -> Self:
        """A table of single values, as numbers or as text. Raises ValueError or the like for nonsense."""
        numbers = {float(value): colour for value, colour in colours.items()}
        ranges = [(value, np.nextafter(value, np.inf), colour) for value, colour in numbers.items()]
        return cls.of_ranges(ranges, is_scale=is_scale)

    def of(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """The colour of each value: an array with one more dimension, of length 4."""
        if values.dtype != np.uint8:
            return self._of(values)
        of_bytes: NDArray[np.uint8] = self._of(_BYTES)[values]
        return of_bytes

    def _of(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        which = np.searchsorted(self.begins, values, side="right") - 1
        found = self.colours[which]
        found[(which < 0) | ~(values < self.ends[which])] = 0
        return found


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

    # it warns about names that several collections have: the one of matplotlib is meant
    logging.getLogger("cmap").setLevel(logging.ERROR)
    try:
        shares = np.asarray(cmap.Colormap(name)(_BYTES / _BYTES[-1]))
    except (KeyError, ValueError):
        return None
    return ColourTable.of_values(dict(enumerate(np.rint(shares * _OPAQUE).astype(int))), is_scale=True)


def _colour(stated: Any) -> Colour:
    if isinstance(stated, str):
        return bytes.fromhex(stated.removeprefix("#"))
    return [int(each) for each in stated]

"""Which overviews of a TIFF have a mask of their own.

GDAL does not say so: if a mask was added after the overviews were made, all pixels of these count as valid.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_MOST: Final = 256
"""How many directories, and how many entries of each, are read at most."""

_KIND, _WIDTH, _HEIGHT = 254, 256, 257
_MASK: Final = 4
"""The bit of a directory's kind (NewSubfileType) that says that it is a mask."""

_INTEGERS: Final = {3: "H", 4: "I", 16: "Q"}


def masked_sizes(read: Callable[[int, int], bytes]) -> set[tuple[int, int]]:
    """The heights and widths of all masks in a TIFF; of a malformed one, those before the first error.

    Args:
        read: reads bytes, given their offset and number; fewer at the end.
    """
    found = set[tuple[int, int]]()
    head = read(0, 16)
    order = "<" if head.startswith(b"II") else ">"
    is_big = head[2:4] in {b"+\x00", b"\x00+"}
    length, offset = ("Q", "Q8s") if is_big else ("H", "I4s")
    number = struct.Struct(order + length)
    entry, following = struct.Struct(f"{order}HH{offset}"), struct.Struct(order + offset[0])
    with suppress(struct.error):
        (at,) = following.unpack_from(head, following.size)
        for _ in range(_MOST):
            if at == 0:
                break
            (count,) = number.unpack(read(at, number.size))
            at += number.size
            entries = read(at, min(count, _MOST) * entry.size)
            told = {
                tag: struct.unpack_from(order + _INTEGERS[kind], value)[0]
                for tag, kind, _, value in entry.iter_unpack(entries)
                if tag in {_KIND, _WIDTH, _HEIGHT} and kind in _INTEGERS
            }
            if told.get(_KIND, 0) & _MASK and {_HEIGHT, _WIDTH} <= told.keys():
                found.add((told[_HEIGHT], told[_WIDTH]))
            (at,) = following.unpack(read(at + count * entry.size, following.size))
    return found

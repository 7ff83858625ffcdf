"""Finding masks in a TIFF's directories, which may be malformed."""

from __future__ import annotations

import struct

import pytest

from oam_mosaic_assets.gateways.imagery.masks import masked_sizes


def directory(order: str, following: int, kind: int) -> bytes:
    """A classic TIFF's directory of an image of 30 x 20 pixels, whose height is a short integer."""
    entries = (254, 4, 1, kind), (256, 4, 1, 30), (257, 3, 1, 20)
    values = [value for entry in entries for value in entry]
    return struct.pack(f"{order}H HHII HHII HHIH2x I", len(entries), *values, following)


@pytest.mark.parametrize("order", ["<", ">"])
def test_directories_are_read_as_far_as_they_are_well_formed(order: str) -> None:
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    image = directory(order, 50, kind=0)
    mask = directory(order, 8, kind=4)  # after which the first one comes again, and so on for ever
    content = start + image + mask
    assert masked_sizes(lambda at, length: content[at:][:length]) == {(20, 30)}
    for end in range(len(start + image) + 2 + 36):
        assert masked_sizes(lambda at, length, end=end: content[at:end][:length]) == set()

"""WEBP tiles of one colour decode to what was encoded, and no other picture passes for one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oam_mosaic_assets.core.palette import BrokenPicture
from oam_mosaic_assets.core.palette_webp import PaletteWebp
from oam_mosaic_assets_tests.core.strategies import examples

PICTURE = PaletteWebp(pixels=64, colour=(128, 100, 90), opacity=0.4)


@examples(100)
@given(st.binary(min_size=512, max_size=512))
def test_a_bitmap_comes_back_as_it_was(content: bytes) -> None:
    bitmap = np.frombuffer(content, np.uint8).reshape(1, 64, 8)
    (written,) = PICTURE.encoded(bitmap)
    assert np.array_equal(PICTURE.decoded(written), bitmap)


def test_it_looks_as_it_should() -> None:
    bitmap = np.zeros((1, 64, 8), np.uint8)
    bitmap[0, 5, 1] = 0b0100_0000
    (written,) = PICTURE.encoded(bitmap)
    with Image.open(io.BytesIO(written)) as picture:
        assert picture.format == "WEBP"
        shown = np.asarray(picture.convert("RGBA"))
    assert shown[5, 9].tolist() == [128, 100, 90, 102]
    assert np.count_nonzero(shown[..., 3]) == 1
    assert PICTURE.decoded(PICTURE.full()).min() == 0xFF


@pytest.mark.parametrize(
    "other",
    [
        PaletteWebp(pixels=128, colour=(128, 100, 90), opacity=0.4).full(),
        PaletteWebp(pixels=64, colour=(128, 100, 91), opacity=0.4).full(),
        PaletteWebp(pixels=64, colour=(128, 100, 90), opacity=0.5).full(),
        PICTURE.full()[:-3],
        b"\x89PNG",
    ],
    ids=["another size", "another colour", "another opacity", "cut short", "no WEBP"],
)
def test_another_picture_is_refused(other: bytes) -> None:
    with pytest.raises(BrokenPicture):
        PICTURE.decoded(other)

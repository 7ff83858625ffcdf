"""WEBP tiles of one colour, as `palette_png` has PNG's: for archives whose other tiles are WEBP.

Lossless, by libwebp. A tile takes some milliseconds, sixty times as long as the PNG.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from oam_mosaic_assets.core.bitmaps import Bitmaps
from oam_mosaic_assets.core.palette import BrokenPicture, Palette


class PaletteWebp(Palette):
    """Pictures of whole pixels, for WEBP has no palette of its own."""

    def encoded(self, bitmaps: Bitmaps) -> Iterator[bytes]:
        """A picture of each. Equal bitmaps give equal bytes."""
        for each in bitmaps:
            bits = np.unpackbits(each, axis=1)
            picture = Image.fromarray(bits[..., None] * self._covered())
            written = io.BytesIO()
            # more effort takes a hundred times as long and saves a quarter
            picture.save(written, "WEBP", lossless=True, quality=50, method=4)
            yield written.getvalue()

    def decoded(self, content: bytes) -> Bitmaps:
        """The bitmap of a picture that `encoded` could have made: shape (1, pixels, pixels / 8).

        Raises:
            BrokenPicture: it is broken, or has another size or colour.
        """
        try:
            with Image.open(io.BytesIO(content), formats=["WEBP"]) as picture:
                shown = np.asarray(picture.convert("RGBA"))
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise BrokenPicture(f"it does not decode: {error}") from None
        if shown.shape[:2] != (self.pixels, self.pixels):
            raise BrokenPicture(f"it has {shown.shape[1]} x {shown.shape[0]} pixels")
        covered = shown[..., 3] > 0  # colours of what is not seen may be any
        if (shown[covered] != self._covered()).any():
            raise BrokenPicture("it has pixels of another colour")
        return np.packbits(covered, axis=1)[None]

    def _covered(self) -> Bitmaps:
        return np.array([*self.colour, self.alpha], np.uint8)

"""Single-colour WebP tiles, like the PNGs of `palette_png`: for archives whose other tiles are WebP.

Encoded losslessly by libwebp. A tile takes a few milliseconds, sixty times as long as a PNG.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from oam_mosaic_assets.core.bitmaps import Bitmaps
from oam_mosaic_assets.core.palette import NOT_DECODED, BrokenPicture, Palette


class PaletteWebp(Palette):
    """WebP pictures with RGBA pixels, as WebP has no palette of its own."""

    def encoded(self, bitmaps: Bitmaps) -> Iterator[bytes]:
        """Encode each bitmap as a picture. Equal bitmaps give equal bytes."""
        for each in bitmaps:
            bits = np.unpackbits(each, axis=1)
            picture = Image.fromarray(bits[..., None] * self._covered())
            written = io.BytesIO()
            # more effort would save a quarter of the bytes but take a hundred times as long
            picture.save(written, "WEBP", lossless=True, quality=50, method=4)
            yield written.getvalue()

    def decoded(self, content: bytes) -> Bitmaps:
        """The bitmap of a picture that `encoded` could have made: shape (1, pixels, pixels / 8).

        Raises:
            BrokenPicture: it is broken, or of a different size or colour.
        """
        try:
            with Image.open(io.BytesIO(content), formats=["WEBP"]) as picture:
                shown = np.asarray(picture.convert("RGBA"))
        except NOT_DECODED as error:
            raise BrokenPicture(f"it does not decode: {error}") from None
        if shown.shape[:2] != (self.pixels, self.pixels):
            raise BrokenPicture(f"it has {shown.shape[1]} x {shown.shape[0]} pixels")
        covered = shown[..., 3] > 0  # transparent pixels may have any colour
        if (shown[covered] != self._covered()).any():
            raise BrokenPicture("it has pixels of another colour")
        return np.packbits(covered, axis=1)[None]

    def _covered(self) -> Bitmaps:
        return np.array([*self.colour, self.alpha], np.uint8)

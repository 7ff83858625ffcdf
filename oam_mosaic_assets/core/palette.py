"""Single-colour tiles as pictures: transparent where a bit is 0, the translucent colour where it is 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from oam_mosaic_assets.core.bitmaps import Bitmaps

Colour = tuple[int, int, int]
"""Red, green, blue; 0 to 255."""

_OPAQUE: Final = 255


NOT_DECODED: Final = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
)
"""What pillow raises for a picture that it cannot decode."""


class BrokenPicture(ValueError):
    """The bytes are not a picture of this kind; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette(ABC):
    """Encodes and decodes pictures of one size and colour.

    Attributes:
        pixels: pixels along an edge.
        colour: colour of covered pixels.
        opacity: opacity of covered pixels, 0 to 1.
    """

    pixels: int
    colour: Colour
    opacity: float

    @property
    def alpha(self) -> int:
        """The opacity as a byte."""
        return round(self.opacity * _OPAQUE)

    @abstractmethod
    def encoded(self, bitmaps: Bitmaps) -> Iterator[bytes]:
        """Encode each bitmap as a picture. Equal bitmaps give equal bytes."""

    @abstractmethod
    def decoded(self, content: bytes) -> Bitmaps:
        """The bitmap of a picture that `encoded` could have made: shape (1, pixels, pixels / 8).

        Raises:
            BrokenPicture: it is broken, or of a different size, colour or form.
        """

    def full(self) -> bytes:
        """The picture of a fully covered tile."""
        return next(self.encoded(np.full((1, self.pixels, self.pixels // 8), 0xFF, np.uint8)))

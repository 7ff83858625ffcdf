"""Tiles as Protocol Buffers messages, so that tests can change them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

from oam_mosaic_assets.core.vector_tile import MESSAGES


def new_layer(**stated: Any) -> Any:
    """A layer with these fields."""
    return MESSAGES["Layer"](**stated)


def changed_tile(content: bytes, change: Callable[[Any], None]) -> bytes:
    """A tile with its one layer changed; gzipped, as archives store it."""
    tile = MESSAGES["Tile"].FromString(gzip.decompress(content))
    (layer,) = tile.layers
    change(layer)
    return gzip.compress(tile.SerializeToString())

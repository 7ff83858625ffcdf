"""Tiles as messages of Protocol Buffers, so that tests can change them."""

from __future__ import annotations

from typing import Any

from oam_mosaic_assets.core.vector_tile import MESSAGES


def new_layer(**stated: Any) -> Any:
    """A layer of which this is stated."""
    return MESSAGES["Layer"](**stated)


def tile_of(layer: bytes) -> bytes:
    """The tile, not deflated, of one written layer."""
    tile = MESSAGES["Tile"]()
    tile.layers.add().MergeFromString(layer)
    written: bytes = tile.SerializeToString()
    return written

"""What a block is made of, as a key: equal keys mean equal blocks, and nothing needs to be read again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import quote

import shapely

from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, FINEST, PARTITION_ZOOM, STEP, Tile

VERSION: Final = 8
"""Version of how pixels are made; incremented by every change that alters them."""

QUALITY: Final = 75
"""WEBP quality: a seventh of PNG's bytes on images of this catalogue."""

WIDEST_FEATHER: Final = STEP
"""In pixels: an image is read one `STEP` beyond a block, since windows to be read end on its multiples."""

_DECIMALS: Final = 7
"""Decimals of degrees that count: about a centimetre."""

_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)

Order = Literal["finest", "newest"]
"""Which image lies on top where several show the same place."""

Kind = Literal["hints", "imagery", "hybrid"]
"""What is shown: images, with unread ones as grey hints; images only; or, in a hybrid, grey footprints to z10
and from there on the same as with hints. Blocks whose images were all read are the same for each kind."""

WAITING: Final = "waiting-"
"""Prefix of the key of a block for which no image was read yet: it shows their footprints in grey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How imagery is made.

    Attributes:
        order: which image lies on top.
        kind: what is shown.
        feather: pixels at an image's edge over which it fades into those below; 0 is a sharp edge.
        tiles: address of the tiles of single images that TiTiler draws, with `{z}`, `{x}`, `{y}`, and `{id}`
            or `{url}`; None reads the images themselves.
        libraries: those that determine pixel values, with their versions.
    """

    order: Order = "finest"
    kind: Kind = "hints"
    feather: int = 0
    tiles: str | None = None
    libraries: tuple[str, ...] = ()

    @property
    def has_hints(self) -> bool:
        """Whether images that were not read are shown in grey."""
        return self.kind != "imagery"

    @property
    def digest(self) -> str:
        """Digest of everything that all blocks have in common, whatever the kind."""
        told = [
            VERSION,
            self.order,
            self.feather,
            QUALITY,
            PARTITION_ZOOM,
            BLOCK_ZOOM,
            FINEST,
            "webp",
            *self.libraries,
            *([self.tiles] if self.tiles else []),
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def with_tiles(self, image: Image) -> Image:
        """The image, with the address of its tiles if it is not to be read itself."""
        if not self.tiles or not image.asset:
            return image
        tiles = self.tiles.replace("{id}", quote(image.id, safe=""))
        tiles = tiles.replace("{url}", quote(image.asset, safe=""))
        if image.render_params:
            tiles = f"{tiles}{'&' if '?' in tiles else '?'}{image.render_params}"
        return replace(image, tiles=tiles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of the catalogue, as far as imagery is concerned.

    Attributes:
        id: the STAC item's.
        footprint: EPSG:4326.
        asset: address of its COG; None where the item names none.
        gsd: metres; None if unknown.
        acquired_to: UTC.
        updated: when its catalogue entry last changed, UTC.
        render_params: how to show it, as a TiTiler query string.
        tiles: address of its tiles, with `{z}`, `{x}` and `{y}`; None if it is read itself.
    """

    id: str
    footprint: Area
    asset: str | None = None
    gsd: float | None = None
    acquired_to: datetime | None = None
    updated: datetime | None = None
    render_params: str | None = None
    tiles: str | None = None

    @property
    def reading(self) -> str | None:
        """Its COG and how to show it, for which is kept what became of reading it; None without a COG."""
        if self.tiles:
            return self.tiles
        return f"{self.asset} {self.render_params}" if self.asset and self.render_params else self.asset

    @property
    def stated(self) -> str:
        """Digest of everything that the catalogue says about it."""
        place = shapely.transform(self.footprint, lambda degrees: degrees.round(_DECIMALS))
        told = [
            self.id,
            self.asset,
            self.gsd,
            self.acquired_to and self.acquired_to.isoformat(),
            self.updated and self.updated.isoformat(),
            self.render_params,
            shapely.to_wkb(place, hex=True, byte_order=1),
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def on_top_first(images: Iterable[Image], order: Order) -> list[Image]:
    """Images sorted with the topmost first: unknown values last, ties by id."""
    if order == "finest":
        return sorted(images, key=lambda each: (math.inf if each.gsd is None else each.gsd, each.id))
    return sorted(
        images, key=lambda each: (-((each.acquired_to or _NEVER) - _NEVER).total_seconds(), each.id)
    )


def block_key(recipe: Recipe, block: Tile, members: Iterable[tuple[str, str]]) -> str:
    """The key of a block.

    Args:
        recipe: how it is made.
        block: the block.
        members: for each image that touches it, `Image.stated` and the state of its COG (`Looked.state`):
            its ETag, or why it could not be read. Why does not matter: it is drawn the same.
    """
    stated = sorted((each, "!" if state.startswith("!") else state) for each, state in members)
    is_hinted = recipe.has_hints and any(state == "!" for _, state in stated)
    told = [recipe.digest, block.x, block.y, *stated, *(["hints"] if is_hinted else [])]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def waiting_key(recipe: Recipe, block: Tile, stated: Iterable[str]) -> str:
    """The key of a block while none of its images was read.

    Args:
        recipe: how it is made.
        block: the block.
        stated: `Image.stated` of each image that touches it.
    """
    return WAITING + block_key(recipe, block, ((each, "!") for each in stated))

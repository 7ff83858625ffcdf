"""What a block is made of, as a key: an equal key is an equal block, and nothing need be read again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import shapely

from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, FINEST, PARTITION_ZOOM, STEP, Tile

VERSION: Final = 3
"""Of the way in which pixels are made; whoever changes what they are counts it up."""

QUALITY: Final = 75
"""Of WEBP: a seventh of PNG's bytes on images of this catalogue."""

WIDEST_FEATHER: Final = STEP
"""Pixels. An image is looked at so far beyond a block, and what is looked at ends at a step."""

_DECIMALS: Final = 7
"""Of degrees: a centimetre."""

_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)

Order = Literal["finest", "newest"]
"""Which image lies on top where several show the same place."""

Kind = Literal["hints", "imagery", "hybrid"]
"""What is shown: images, and in grey those that are not read; images alone; or grey alone down to z10, and
from there on as with hints. All are made of the same blocks."""

WAITING: Final = "waiting-"
"""How the key of a block begins that no image was read for yet: it shows in grey where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How imagery is made.

    Attributes:
        order: which image lies on top.
        kind: what is shown.
        feather: pixels at an image's edge over which it goes over into those below; 0 is a sharp edge.
        libraries: that decide what pixels become, with their versions.
    """

    order: Order = "finest"
    kind: Kind = "hints"
    feather: int = 0
    libraries: tuple[str, ...] = ()

    @property
    def has_hints(self) -> bool:
        """Whether an image that is not read is shown in grey."""
        return self.kind != "imagery"

    @property
    def digest(self) -> str:
        """Of everything that all blocks have in common, whatever kind is made of them."""
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
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of the catalogue, as far as imagery is concerned.

    Attributes:
        id: of the item.
        footprint: EPSG:4326.
        asset: address of its COG; None where the item names none.
        gsd: metres; None is unknown.
        acquired_to: UTC.
        updated: when its entry was last changed, UTC.
        render_params: how it is to be shown, as TiTiler's query.
    """

    id: str
    footprint: Area
    asset: str | None = None
    gsd: float | None = None
    acquired_to: datetime | None = None
    updated: datetime | None = None
    render_params: str | None = None

    @property
    def stated(self) -> str:
        """Digest of all that the catalogue says of it."""
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
    """Images in the order in which they are seen: unknown values last, ties by id."""
    if order == "finest":
        return sorted(images, key=lambda each: (math.inf if each.gsd is None else each.gsd, each.id))
    return sorted(
        images, key=lambda each: (-((each.acquired_to or _NEVER) - _NEVER).total_seconds(), each.id)
    )


def block_key(recipe: Recipe, block: Tile, members: Iterable[tuple[str, str]]) -> str:
    """The name of a block's content.

    Args:
        recipe: how it is made.
        block: which.
        members: of each image that touches it, what is stated of it, and the state of its COG: an ETag, or
            why it could not be read.
    """
    stated = sorted(members)
    is_hinted = recipe.has_hints and any(state.startswith("!") for _, state in stated)
    told = [recipe.digest, block.x, block.y, *stated, *(["hints"] if is_hinted else [])]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def waiting_key(recipe: Recipe, block: Tile, stated: Iterable[str]) -> str:
    """The name of a block's content while nothing of it is read.

    Args:
        recipe: how it is made.
        block: which.
        stated: what is stated of each image that touches it.
    """
    return WAITING + block_key(recipe, block, ((each, "!") for each in stated))

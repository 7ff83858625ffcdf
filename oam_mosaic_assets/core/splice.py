"""What is made anew of an archive whose footprints changed, and what is taken over from the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.changes import Changes, changes_between, deepest_zooms, reached_tiles
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan

LARGEST_SHARE: Final = 0.5
"""Of all images that reach a tile to be made: with more, making everything takes no longer."""


class TooMuchChanged(Exception):
    """Everything is to be made anew; the message says how much changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """An earlier build that is to be taken over where nothing changed.

    Attributes:
        build: its name.
        archive: its audited archive, made by the same plan and program.
        footprints: the GeoParquet that it shows.
    """

    build: str
    archive: Path
    footprints: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """What is to be made.

    Attributes:
        changes: what changed.
        tiles: those to be made.
        deepest: the last zoom that each image of the new snapshot is drawn at for that; -1 for none.
    """

    changes: Changes
    tiles: Stretches
    deepest: NDArray[np.int8]


def splice_between(before: Path, now: Path, plan: TilingPlan) -> Splice:
    """Find what is to be made where the footprints `before` are drawn and `now` are to be.

    Raises:
        TooMuchChanged: it would be most of the archive.
    """
    changes = changes_between(before, now, plan)
    if changes.images > LARGEST_SHARE * changes.of:
        raise TooMuchChanged(f"{changes.images:,} images changed, of {changes.of:,}")
    tiles = reached_tiles(changes.areas, plan)
    deepest = deepest_zooms(now, tiles, plan)
    near = int((deepest == plan.zoom_max).sum())
    if near > LARGEST_SHARE * len(deepest):
        raise TooMuchChanged(
            f"{changes.images:,} images changed, and {near:,} of {len(deepest):,} lie where they do"
        )
    return Splice(changes=changes, tiles=tiles, deepest=deepest)


def spliced(splice: Splice, *, before: Source, made: Sequence[Source]) -> list[Source]:
    """What an archive holds: what is made anew, and last what is taken over.

    Args:
        before: the whole archive before.
        made: what was made; tiles besides those of the splice do not count.
    """
    fresh = [Source(each.descriptor, splice.tiles.cut(each.entries)[0]) for each in made]
    return [*fresh, Source(before.descriptor, splice.tiles.cut(before.entries)[1])]

"""What is made anew of an archive whose footprints changed, and what is taken over from the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.changes import changes_between, deepest_zooms, reached_tiles
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
        changed: images that were added, removed or altered.
        tiles: those to be made.
        deepest: the last zoom that each image of the new snapshot is drawn at for that; -1 for none.
    """

    changed: int
    tiles: Stretches
    deepest: NDArray[np.int8]

    def save(self, path: Path) -> None:
        """Write it down for another process."""
        with path.open("xb") as target:
            np.savez_compressed(
                target,
                changed=self.changed,
                begin=self.tiles.begin,
                end=self.tiles.end,
                deepest=self.deepest,
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            tiles = Stretches(stored["begin"], stored["end"])
            return cls(changed=int(stored["changed"]), tiles=tiles, deepest=stored["deepest"])


def splice_from(before: Before | str, now: Path, plan: TilingPlan) -> Splice | str:
    """What is to be made where these footprints are to be drawn; or why everything is.

    Args:
        before: what may be taken over, or why there is nothing.
        now: the footprints.
        plan: how they are drawn.
    """
    if isinstance(before, str):
        return before
    try:
        return splice_between(before.footprints, now, plan)
    except TooMuchChanged as error:
        return f"{error}"


def splice_between(before: Path, now: Path, plan: TilingPlan) -> Splice:
    """Find what is to be made where the footprints `before` are drawn and `now` are to be.

    Raises:
        TooMuchChanged: it would be most of the archive.
    """
    changes = changes_between(before, now, plan.columns)
    if changes.images > LARGEST_SHARE * changes.of:
        raise TooMuchChanged(f"{changes.images:,} images came, went or changed, and {changes.of:,} are drawn")
    tiles = reached_tiles(changes.areas, plan)
    deepest = deepest_zooms(now, tiles, plan)
    near = int((deepest == plan.zoom_max).sum())
    if near > LARGEST_SHARE * len(deepest):
        raise TooMuchChanged(
            f"{changes.images:,} images changed, and {near:,} of {len(deepest):,} lie where they do"
        )
    return Splice(changed=changes.images, tiles=tiles, deepest=deepest)


def spliced(splice: Splice, *, before: Source, made: Sequence[Source]) -> list[Source]:
    """What an archive holds: what is made anew, and last what is taken over.

    Args:
        before: the whole archive before.
        made: what was made; tiles besides those of the splice do not count.
    """
    fresh = [Source(each.descriptor, splice.tiles.cut(each.entries)[0]) for each in made]
    return [*fresh, Source(before.descriptor, splice.tiles.cut(before.entries)[1])]

"""What is redrawn of an archive whose footprints changed, and what is taken over from the previous one.

The images that changed are drawn. Every tile that they reach or reached keeps the others as they were (see
`patching`), and every other tile is taken over as it is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from oam_mosaic_assets.core.changes import Changes, changes_between, reached_tiles
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan

LARGEST_SHARE: Final = 0.5
"""The largest share of images that changed; above it, redrawing all is as fast."""

PATCHED_SHARE: Final = 0.1
"""The same where tiles are put together and compared feature by feature, which takes longer."""

FEW_TILES: Final = 2**14
"""So many tiles are always put together: it takes a second or two."""


class TooMuchChanged(Exception):
    """Everything has to be redrawn; the message says how much changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """An earlier build from which tiles are taken over where nothing changed.

    Attributes:
        build: its name.
        archive: its audited archive, made by the same plan and program.
        footprints: the GeoParquet that the archive shows.
    """

    build: str
    archive: Path
    footprints: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """What has to be redrawn.

    Attributes:
        changed: number of images that were added, removed or altered.
        tiles: the tiles to redraw.
        images: indices of the images of the new snapshot that were added or altered, ascending.
        gone: ids of the images that were removed or altered.
    """

    changed: int
    tiles: Stretches
    images: Numbers
    gone: Collection[str]

    def save(self, path: Path) -> None:
        """Write it to a file, for another process."""
        with path.open("xb") as target:
            np.savez_compressed(
                target,
                changed=self.changed,
                begin=self.tiles.begin,
                end=self.tiles.end,
                images=self.images,
                gone=np.frombuffer(json.dumps([*self.gone]).encode(), np.uint8),
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises KeyError if another version did."""
        with np.load(path) as stored:
            tiles = Stretches(stored["begin"], stored["end"])
            gone = frozenset(json.loads(stored["gone"].tobytes()))
            return cls(changed=int(stored["changed"]), tiles=tiles, images=stored["images"], gone=gone)


def splice_from(before: Before | str, now: Path, plan: TilingPlan) -> Splice | str:
    """What has to be redrawn to show these footprints, or why everything has to be.

    Args:
        before: the build to take tiles over from, or why there is none.
        now: the footprints.
        plan: how they are drawn.
    """
    if isinstance(before, str):
        return before
    try:
        return splice_between(before.footprints, now, plan)
    except TooMuchChanged as error:
        return f"{error}"


def few_changes_between(before: Path, now: Path, columns: Sequence[str] = ()) -> Changes:
    """Compare two snapshots as `changes_between` does.

    Raises:
        TooMuchChanged: too many images changed.
    """
    changes = changes_between(before, now, columns)
    if changes.images > LARGEST_SHARE * changes.of:
        raise _too_much(changes)
    return changes


def _too_much(changes: Changes) -> TooMuchChanged:
    return TooMuchChanged(f"{changes.images:,} images are new, gone or changed; {changes.of:,} are drawn")


def splice_between(before: Path, now: Path, plan: TilingPlan) -> Splice:
    """Find what has to be redrawn where the footprints `before` are drawn and `now` should be.

    Raises:
        TooMuchChanged: too many images changed.
    """
    changes = few_changes_between(before, now, plan.columns)
    tiles = Stretches.union([])
    for areas in changes.batches():
        tiles = Stretches.union([tiles, reached_tiles(areas, plan)])
        if changes.images > PATCHED_SHARE * changes.of and len(tiles) > FEW_TILES:
            raise _too_much(changes)
    _, (_, images) = changes.places
    return Splice(changed=changes.images, tiles=tiles, images=images, gone=changes.gone)

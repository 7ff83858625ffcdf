"""What is redrawn of an archive whose footprints changed, and what is taken over from the previous one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oam_mosaic_assets.core.archive import Archive
from oam_mosaic_assets.core.changes import Changes, changes_between, deepest_zooms, reached_tiles
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan

LARGEST_SHARE: Final = 0.5
"""The largest share of images that changed or reach a tile to redraw; above it, redrawing all is as fast."""


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
        deepest: the last zoom at which each image of the new snapshot may be drawn in them; -1 for none.
    """

    changed: int
    tiles: Stretches
    deepest: NDArray[np.int8]

    def save(self, path: Path) -> None:
        """Write it to a file, for another process."""
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
        raise TooMuchChanged(f"{changes.images:,} images are new, gone or changed; {changes.of:,} are drawn")
    return changes


def splice_between(before: Path, now: Path, plan: TilingPlan) -> Splice:
    """Find what has to be redrawn where the footprints `before` are drawn and `now` should be.

    Raises:
        TooMuchChanged: too many images changed, or reach a tile to redraw.
    """
    changes = few_changes_between(before, now, plan.columns)
    tiles = reached_tiles(changes.areas, plan)
    deepest = deepest_zooms(now, tiles, plan)
    near = int((deepest == plan.zoom_max).sum())
    if near > LARGEST_SHARE * len(deepest):
        raise TooMuchChanged(
            f"{changes.images:,} images changed, and {near:,} of {len(deepest):,} are in the same tiles"
        )
    return Splice(changed=changes.images, tiles=tiles, deepest=deepest)


def spliced(splice: Splice, *, before: Archive, made: Sequence[Source], folder: Path) -> list[Source]:
    """The sources of the new archive: the redrawn tiles, and last those that are taken over.

    Args:
        before: the whole previous archive.
        made: what was drawn; tiles that are not of the splice are ignored.
        folder: for temporary files.

    Raises:
        BrokenArchive: a directory of the previous archive is broken.
    """
    fresh = [Source(each.descriptor, splice.tiles.cut(each.entries)[0]) for each in made]
    return [*fresh, Source.of_archive(before, folder, besides=splice.tiles)]

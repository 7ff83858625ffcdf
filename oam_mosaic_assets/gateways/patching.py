"""Putting together the tiles that changed images reach: here and, if there are many, in a second process.

That process loads this module and everything it imports, so it holds nothing but this.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.aside import here
from oam_mosaic_assets.core.fragment import Fragment
from oam_mosaic_assets.core.patching import patched_tiles
from oam_mosaic_assets.core.splice import Splice
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.calls import calling
from oam_mosaic_assets.gateways.control_groups import processors

WORTH_ASIDE: Final = 2**12
"""With fewer tiles, a process takes longer to start than it saves."""


def patched(
    before: Path, made: Sequence[Fragment], splice: Splice, footprints: Path, plan: TilingPlan, folder: Path
) -> list[Fragment]:
    """Put the tiles of a splice together; see `core.patching`.

    Args:
        before: the previous archive.
        made: tiles that draw the images that changed.
        splice: what changed.
        footprints: the GeoParquet of all images.
        plan: how they are drawn.
        folder: where the tiles go.

    Raises:
        BrokenArchive: the previous archive is broken.
        TilingFailed, DiskFull: the second process failed.
    """
    last = range(plan.zoom_max, plan.zoom_max + 1)  # has about half of the tiles
    first = range(plan.zoom_min, plan.zoom_max)
    with calling("A process that puts tiles together", folder) as elsewhere:
        aside = elsewhere if len(splice.tiles) >= WORTH_ASIDE and processors() > 1 else here
        others = aside(_some, before, made, splice, footprints, plan, last, folder / "last.patched")
        return [_some(before, made, splice, footprints, plan, first, folder / "first.patched"), others()]


def _some(
    before: Path,
    made: Sequence[Fragment],
    splice: Splice,
    footprints: Path,
    plan: TilingPlan,
    zooms: range,
    target: Path,
) -> Fragment:
    with ExitStack() as held, open_archive(before) as archive:
        sources = [each.opened(held) for each in made]
        return Fragment.written(
            patched_tiles(archive, sources, splice, footprints, plan, zooms, target.parent), target
        )

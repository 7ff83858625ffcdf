"""Cutting deep zooms into a file: by this process, or by others as `gateways.calls` makes them.

Those load this module and what it needs, so nothing here but the drawing itself.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event

from oam_mosaic_assets.core.deep_zooms import deep_zoom_tiles
from oam_mosaic_assets.core.fragment import Fragment
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tile_writing import Tile
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.calls import call, tell
from oam_mosaic_assets.gateways.children import Program


def deep_zooms(plan: TilingPlan, lines: Path, wanted: Stretches, target: Path, stop: Event) -> Fragment:
    """The deep zooms of a plan.

    Args:
        plan: of the archive.
        lines: GeoJSON as tippecanoe reads it, in drawing order.
        wanted: the tiles that are.
        target: where they go; must not exist.
        stop: ends it early, when it is set.
    """
    return Fragment.written(_until(stop, deep_zoom_tiles(lines, plan, wanted)), target)


def in_shares(plan: TilingPlan, lines: Path, wanted: Stretches, targets: Iterable[Path]) -> list[Program]:
    """Programs that do the same, a share each; `Fragment.left_at` has what they leave at the targets."""
    shares = list(targets)
    return [
        call(
            "A process that cuts tiles",
            target.parent,
            _share,
            plan,
            lines,
            wanted,
            target,
            share,
            len(shares),
        ).program
        for share, target in enumerate(shares)
    ]


def _share(plan: TilingPlan, lines: Path, wanted: Stretches, target: Path, share: int, of: int) -> None:
    gc.disable()  # nothing here refers to itself; to look for it takes a tenth of the time
    tiles = deep_zoom_tiles(lines, plan, wanted, share=share, of=of, on_progress=tell)
    Fragment.written(tiles, target).saved()


def _until(stop: Event, tiles: Iterable[Tile]) -> Iterator[Tile]:
    for tile in tiles:
        if stop.is_set():
            return
        yield tile

"""Cutting deep zooms into a file: in this process, or in others started by `gateways.calls`.

Those processes load this module and everything it imports, so it holds nothing but the cutting itself.
"""

from __future__ import annotations

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
    """Cut the tiles of a plan's deep zooms into a file.

    Args:
        plan: of the archive.
        lines: GeoJSON as tippecanoe reads it, in drawing order.
        wanted: the tiles to cut.
        target: the file; must not exist.
        stop: ends this early when set.
    """
    return Fragment.written(_until(stop, deep_zoom_tiles(lines, plan, wanted)), target)


def in_shares(plan: TilingPlan, lines: Path, wanted: Stretches, targets: Iterable[Path]) -> list[Program]:
    """Programs that do the same, one share each; `Fragment.left_at` reads what they leave at the targets."""
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
    tiles = deep_zoom_tiles(lines, plan, wanted, share=share, of=of, on_progress=tell)
    Fragment.written(tiles, target).saved()


def _until(stop: Event, tiles: Iterable[Tile]) -> Iterator[Tile]:
    for tile in tiles:
        if stop.is_set():
            return
        yield tile

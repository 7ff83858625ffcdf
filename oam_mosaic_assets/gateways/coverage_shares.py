"""Drawing a share of the coverage blocks, in a process started by `gateways.calls`.

Such a process loads this module and everything it imports, so it holds nothing but the drawing itself.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import IO

from oam_mosaic_assets.core.blocks import open_blocks
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.coverage_tiles import blocks_spooled, spooled_by
from oam_mosaic_assets.core.entry_files import Opened
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.gateways.calls import call, tell
from oam_mosaic_assets.gateways.children import Program


def program_of(plan: CoveragePlan, folder: Path, share: int, of: int) -> Program:
    """The program that draws one of `of` shares of the blocks in a folder; `drawn_by` reads its output."""
    return call("A process that draws coverage", folder, _draw, plan, folder, share, of).program


def drawn_by(plan: CoveragePlan, share: int, opened: Opened) -> list[Source]:
    """What the process with this share left in the folder; `opened` opens its files for reading."""
    return spooled_by(lambda name: opened(_name(share, name)), plan)


def _draw(plan: CoveragePlan, folder: Path, share: int, of: int) -> None:
    with open_blocks(folder) as blocks, ExitStack() as held:
        which = range(share, len(blocks.ids), of)  # neighbours are alike, so the shares are, too
        done = count(1)

        def on_block() -> None:
            tell(next(done) / len(which))

        def opened(name: str) -> IO[bytes]:
            return held.enter_context((folder / _name(share, name)).open("x+b"))

        blocks_spooled(blocks, which, plan, opened, on_block)


def _name(share: int, name: str) -> str:
    return f"share-{share}.{name}"

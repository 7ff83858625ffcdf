"""A program that draws a share of the blocks: what `gateways.coverage` starts, one for each processor.

Its memory is its own, it ends with its parent, and nothing of a Dagster process is loaded into it.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import IO

from oam_mosaic_assets.core.blocks import open_blocks
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.coverage_tiles import blocks_spooled, spooled_by
from oam_mosaic_assets.core.entry_files import Opened
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.gateways.allocator import give_back_freed_memory
from oam_mosaic_assets.gateways.calls import tell
from oam_mosaic_assets.gateways.children import Program


def program_of(plan: CoveragePlan, folder: Path, share: int, of: int) -> Program:
    """How it is called: plan, folder with the blocks, and which share of them it draws."""
    command = [sys.executable, "-m", __name__, plan.to_json(), str(folder), str(share), str(of)]
    return Program("A process that draws coverage", command)


def drawn_by(plan: CoveragePlan, share: int, opened: Opened) -> list[Source]:
    """What the process with this share left in the folder, whose files are `opened` for reading."""
    return spooled_by(lambda name: opened(_name(share, name)), plan)


def main() -> None:
    """Draw; say on stderr how far it is."""
    plan, folder, share, of = CoveragePlan.from_json(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    give_back_freed_memory()
    with open_blocks(folder) as blocks, ExitStack() as held:
        which = range(share, len(blocks.ids), of)  # neighbours are alike, so shares are as well
        done = count(1)

        def on_block() -> None:
            tell(next(done) / len(which))

        def opened(name: str) -> IO[bytes]:
            return held.enter_context((folder / _name(share, name)).open("x+b"))

        blocks_spooled(blocks, which, plan, opened, on_block)


def _name(share: int, name: str) -> str:
    return f"share-{share}.{name}"


if __name__ == "__main__":
    main()

"""A program that draws a share of the blocks: what `gateways.coverage` starts, one for each processor.

Its memory is its own, it ends with its parent, and nothing of a Dagster process is loaded into it.
"""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

import numpy as np

from oam_mosaic_assets.core.blocks import open_blocks
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.coverage_tiles import blocks_spooled
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.gateways.allocator import give_back_freed_memory


def command_of(plan: CoveragePlan, folder: Path, share: int, of: int) -> list[str]:
    """How it is called: plan, folder with the blocks, and which share of them it draws."""
    return [sys.executable, "-m", __name__, plan.to_json(), str(folder), str(share), str(of)]


def drawn_by(folder: Path, share: int) -> tuple[Path, Directory]:
    """What it left: the file with its tiles, and where in it each lies."""
    return _tiles(folder, share), Directory(*np.load(_entries(folder, share)))


def main() -> None:
    """Draw; say on stderr how far it is."""
    plan, folder, share, of = CoveragePlan.from_json(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    give_back_freed_memory()
    with open_blocks(folder) as blocks, _tiles(folder, share).open("x+b") as file:
        which = range(share, len(blocks.ids), of)  # neighbours are alike, so shares are as well
        done = count(1)

        def on_block() -> None:
            words = json.dumps({"progress": 100.0 * next(done) / len(which)})
            print(words, file=sys.stderr, flush=True)  # noqa: T201

        entries = blocks_spooled(blocks, which, plan, file, on_block).entries
        columns = (entries.tile_id, entries.run_length, entries.length, entries.offset)
        np.save(_entries(folder, share), np.stack(columns))


def _tiles(folder: Path, share: int) -> Path:
    return folder / f"share-{share}.tiles"


def _entries(folder: Path, share: int) -> Path:
    return folder / f"share-{share}.npy"


if __name__ == "__main__":
    main()

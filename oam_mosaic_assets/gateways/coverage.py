"""Making a coverage archive from footprints: all of it, or only the blocks in which something changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import numpy as np
from pmtiles.tile import Compression, TileType

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.blocks import open_blocks, write_blocks
from oam_mosaic_assets.core.changes import Changes
from oam_mosaic_assets.core.coverage import CoveragePlan, tiles_above, tiles_below
from oam_mosaic_assets.core.coverage_tiles import (
    blocks_spooled,
    sector_zoom,
    upper_tiles_spooled,
    whole_tiles_spooled,
)
from oam_mosaic_assets.core.entry_files import Opened
from oam_mosaic_assets.core.grid import Geometries, tile_ids
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.pixels import Numbers
from oam_mosaic_assets.core.reach import cells_reached, polygons_of
from oam_mosaic_assets.core.splice import Before, TooMuchChanged, few_changes_between
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.gateways.children import run_together
from oam_mosaic_assets.gateways.control_groups import processors
from oam_mosaic_assets.gateways.coverage_shares import drawn_by, program_of
from oam_mosaic_assets.gateways.open_files import more_files

WORTH_A_PROCESS: Final = 40
"""The fewest blocks for each process: fewer take less time to draw than a process takes to start."""

_FILES_OF_A_PROCESS: Final = 64
"""Files that stay open of what a process drew, at most: the columns of each zoom's entries count twice."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What to draw.

    Attributes:
        table: the GeoParquet of footprints.
        snapshot: the digest of the snapshot.
        bounds: west, south, east, north of all footprints, degrees.
    """

    table: Path
    snapshot: str
    bounds: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """How an archive was made.

    Attributes:
        tiles_made: tiles that were drawn for it.
        tiles_reused: tiles that were taken over from an earlier build.
        images_changed: images changed since that build; None if everything was drawn again.
        why_anew: why everything was drawn again; empty if it was not.
    """

    tiles_made: int
    tiles_reused: int
    images_changed: int | None
    why_anew: str


def make_coverage(
    plan: CoveragePlan,
    shown: Shown,
    target: Path,
    *,
    before: Before | str,
    processes: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Drawn:
    """Write the archive. The same footprints give the same bytes, however many tiles are taken over.

    Args:
        plan: of the archive.
        shown: the footprints.
        target: the archive's path; must not exist. Its folder receives intermediate files.
        before: the build to take tiles over from, or why there is none.
        processes: how many draw at the same time; 0 for one per processor.
        on_progress: called with the share done, 0 to 1.

    Raises:
        TilingFailed, DiskFull: see `errors`.
    """
    why = before if isinstance(before, str) else ""
    changed: int | None = None
    kept: list[Source] = []
    with ExitStack() as held:
        run = _Run(plan, shown.table, target.parent, held, on_progress)
        changes: Changes | None = None
        if plan.way == "exact" and not isinstance(before, str):
            try:
                changes = few_changes_between(before.footprints, shown.table)
            except TooMuchChanged as error:
                why = f"{error}"
        if plan.way == "whole":
            why = why or "finding out what changed takes longer"
            fresh = run.whole_tiles()
        elif changes is None or isinstance(before, str):
            fresh = run.blocks_and_above(None, kept, processes)
        else:
            reached = [blocks_reached(areas, plan) for areas in changes.batches()]
            changed, blocks = changes.images, np.unique(np.concatenate([np.zeros(0, np.int64), *reached]))
            archive = held.enter_context(open_archive(before.archive))
            above = [tiles_above(blocks, zoom, plan) for zoom in range(plan.zoom_min, plan.block_zoom)]
            redrawn = Stretches.union([tiles_below(blocks, plan), *map(Stretches.of, above)])
            kept = [Source.of_archive(archive, target.parent, besides=redrawn)]
            fresh = run.blocks_and_above(blocks, kept, processes)
        write_archive(
            target,
            [*fresh, *kept],
            Place(zoom_min=plan.zoom_min, zoom_max=plan.zoom_max, bounds=shown.bounds),
            plan.metadata(shown.snapshot),
            tile_type=TileType[plan.format.upper()],
            tile_compression=Compression.NONE,
        )
        made, reused = (sum(int(each.entries.run_length.sum()) for each in some) for some in (fresh, kept))
    return Drawn(tiles_made=made, tiles_reused=reused, images_changed=changed, why_anew=why)


@dataclass(frozen=True, slots=True)
class _Run:
    """Drawing in a folder; the files with the results stay open until `held` is closed."""

    plan: CoveragePlan
    footprints: Path
    folder: Path
    held: ExitStack
    on_progress: Callable[[float], None]

    def whole_tiles(self) -> list[Source]:
        write_blocks(self.footprints, sector_zoom(self.plan), self.folder)
        with open_blocks(self.folder) as sectors:
            return whole_tiles_spooled(sectors, self.plan, self._scratch_files("whole"))

    def blocks_and_above(self, only: Numbers | None, kept: Sequence[Source], processes: int) -> list[Source]:
        """Draw these blocks, or all for None, and the tiles above them."""
        reached = write_blocks(
            self.footprints,
            self.plan.block_zoom,
            self.folder,
            only=None if only is None else Stretches.of(only),
        )
        drawn = self._blocks(len(reached), processes or processors())
        # tiles above a block that lost its last image must be drawn again too
        redrawn = reached if only is None else only
        above = upper_tiles_spooled([*drawn, *kept], redrawn, self.plan, self._scratch_files("above"))
        return [*drawn, *above]

    def _blocks(self, count: int, processes: int) -> list[Source]:
        shares = min(processes, count // WORTH_A_PROCESS)
        if shares <= 1:
            done = itertools.count(1)

            def on_block() -> None:
                self.on_progress(next(done) / count)

            with open_blocks(self.folder) as blocks:
                return blocks_spooled(
                    blocks, range(count), self.plan, self._scratch_files("blocks"), on_block
                )
        programs = [program_of(self.plan, self.folder, each, shares) for each in range(shares)]
        run_together(programs, at_once=shares, on_progress=self.on_progress)
        self.held.enter_context(more_files(shares * _FILES_OF_A_PROCESS))
        return [source for each in range(shares) for source in drawn_by(self.plan, each, self._left_behind)]

    def _scratch_files(self, kind: str) -> Opened:
        """Opens files that last as long as the run and are unlinked at once."""

        def opened(name: str) -> IO[bytes]:
            return self._kept_open(self.folder / f"{kind}.{name}", "x+b")

        return opened

    def _left_behind(self, name: str) -> IO[bytes]:
        """A file that a process wrote."""
        return self._kept_open(self.folder / name, "rb")

    def _kept_open(self, path: Path, mode: str) -> IO[bytes]:
        opened = cast("IO[bytes]", self.held.enter_context(path.open(mode)))
        path.unlink()
        return opened


def blocks_reached(areas: Geometries, plan: CoveragePlan) -> Numbers:
    """Ids of the blocks that areas (EPSG:4326) may reach into, ascending."""
    _, x, y = cells_reached(polygons_of(areas), plan.block_zoom)
    return np.unique(tile_ids(plan.block_zoom, x, y))

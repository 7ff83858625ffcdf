"""An archive of footprints: all of it by tippecanoe, or only what changed since the last one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.low_zooms import Reached, low_zoom_tiles
from oam_mosaic_assets.core.mbtiles import BrokenTiles, read_tiles, spooled
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.parts import parts_of, share_out
from oam_mosaic_assets.core.splice import Splice, spliced
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe

WORTH_PARTING: Final = 2**20
"""Bytes of GeoJSON that are tiled in parts; with fewer a process takes longer to start than it saves."""

PARTS_EACH: Final = 2
"""Parts for each process: they are never equally much work, and the last ones even it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprints:
    """What is to be drawn.

    Attributes:
        table: the GeoParquet.
        geojson: those that tippecanoe is to draw, newline-delimited, as it reads them.
        snapshot: the digest of the snapshot.
        bounds: west, south, east, north of all of them, degrees.
    """

    table: Path
    geojson: Path
    snapshot: str
    bounds: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How an archive was made.

    Attributes:
        tiles_made: tiles of it that are fresh.
        tiles_reused: tiles of it that were taken over.
    """

    tiles_made: int
    tiles_reused: int


def make_mosaic(
    tippecanoe: Tippecanoe,
    plan: TilingPlan,
    footprints: Footprints,
    target: Path,
    *,
    splice: Splice | None = None,
    before: Path | None = None,
    processes: int = 1,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Made:
    """Write the archive. The same footprints give the same bytes, whatever was taken over.

    Args:
        target: where it goes; must not exist. Its folder holds intermediate files.
        splice: what is to be made; without it, everything.
        before: the archive that all else is taken over from.
        processes: how many tippecanoe processes may run at once.
        on_progress: called with the share done, 0 to 1.

    Raises:
        TippecanoeMissing, TilingFailed, DiskFull: see `errors`.
    """
    with ExitStack() as held:
        run = _Run(tippecanoe, plan, target.parent, held, processes, on_progress)
        # tippecanoe does not use all of two cores; whatever ends this waits for what is drawn beside it
        beside = held.enter_context(ThreadPoolExecutor(max_workers=1))
        low_zooms = beside.submit(run.low_zooms, footprints.table, splice)
        images = run.images(footprints)
        fresh = sources = [low_zooms.result(), *images]
        if splice is not None and before is not None:
            archive = Source.of_archive(held.enter_context(open_archive(before)))
            sources = spliced(splice, before=archive, made=fresh)
            fresh = sources[:-1]
        place = Place(zoom_min=plan.zoom_min, zoom_max=plan.zoom_max, bounds=footprints.bounds)
        write_archive(target, sources, place, plan.metadata(tippecanoe.version(), footprints.snapshot))
        made_now, whole = (
            sum(int(each.entries.run_length.sum()) for each in some) for some in (fresh, sources)
        )
    return Made(tiles_made=made_now, tiles_reused=whole - made_now)


@dataclass(frozen=True, slots=True)
class _Run:
    """Tippecanoe at work in a folder; what it makes is kept open."""

    tippecanoe: Tippecanoe
    plan: TilingPlan
    folder: Path
    held: ExitStack
    processes: int
    on_progress: Callable[[float], None]

    def low_zooms(self, footprints: Path, splice: Splice | None = None) -> Source:
        only = None if splice is None else Reached(splice.tiles, splice.deepest)
        return spooled(low_zoom_tiles(footprints, self.plan, only), self._scratch_file("low.spool"))

    def images(self, footprints: Footprints) -> list[Source]:
        """What tippecanoe makes of the lines: in one go, or in parts where there is enough to do."""
        size = footprints.geojson.stat().st_size
        if not size:
            return []  # tippecanoe takes nothing for an error
        if self.processes == 1 or size < WORTH_PARTING:
            return self._made([footprints.geojson])
        parts = parts_of(footprints.table, self.plan, PARTS_EACH * self.processes)
        lines = [self.folder / f"part-{number}.geojsonl" for number in range(len(parts))]
        share_out(footprints.geojson, footprints.table, self.plan, parts, lines)
        # where only some images are drawn a part may have none
        drawn = [(part, path) for part, path in zip(parts, lines, strict=True) if path.stat().st_size]
        made = self._made([path for _, path in drawn])
        return [
            Source(each.descriptor, part.tiles.cut(each.entries)[0])
            for each, (part, _) in zip(made, drawn, strict=True)
        ]

    def _made(self, lines: Sequence[Path]) -> list[Source]:
        targets = [self.folder / f"{each.stem}.mbtiles" for each in lines]
        calls = [
            self.plan.arguments(source=str(each), target=str(target), temporary=str(self.folder))
            for each, target in zip(lines, targets, strict=True)
        ]
        self.tippecanoe.run(calls, at_once=self.processes, on_progress=self.on_progress)
        return [self._spooled(each) for each in targets]

    def _spooled(self, mbtiles: Path) -> Source:
        """The tiles in a file of their own; the MBTiles go."""
        try:
            with closing(read_tiles(mbtiles)) as tiles:
                source = spooled(tiles, self._scratch_file(f"{mbtiles.stem}.spool"))
        except BrokenTiles as error:
            raise TilingFailed(
                f"tippecanoe ended well, but left no whole tiles: {error}.",
                hint="Run the build again; see that the disk with the scratch folder is sound.",
            ) from None
        mbtiles.unlink()
        return source

    def _scratch_file(self, name: str) -> IO[bytes]:
        """Open as long as the run; nobody else finds it."""
        path = self.folder / name
        opened = self.held.enter_context(path.open("x+b"))
        path.unlink()
        return opened

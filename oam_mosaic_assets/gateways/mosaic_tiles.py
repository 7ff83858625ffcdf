"""The mosaic's archive from footprints: all of it by tippecanoe, or only what changed since the last one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.low_zooms import Reached, low_zoom_tiles
from oam_mosaic_assets.core.mbtiles import BrokenTiles, read_tiles, spooled
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.snapshot import write_geojson
from oam_mosaic_assets.core.splice import Before, Splice, TooMuchChanged, splice_between, spliced
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprints:
    """What is to be drawn.

    Attributes:
        table: the GeoParquet.
        geojson: the same, newline-delimited, as tippecanoe reads it.
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
        changed: images that were added, removed or altered; None where all was made anew.
        why_anew: why all was made anew; empty where it was not.
    """

    tiles_made: int
    tiles_reused: int
    changed: int | None
    why_anew: str


def make_mosaic(
    tippecanoe: Tippecanoe,
    plan: TilingPlan,
    footprints: Footprints,
    target: Path,
    *,
    before: Before | str,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Made:
    """Write the archive. The same footprints give the same bytes, whatever was taken over.

    Args:
        target: where it goes; must not exist. Its folder holds intermediate files.
        before: what to take over, or why there is nothing.
        on_progress: called with the share done, 0 to 1.

    Raises:
        TippecanoeMissing, TilingFailed, DiskFull: see `errors`.
    """
    folder = target.parent
    changed, splice, why = None, None, before if isinstance(before, str) else ""
    if isinstance(before, Before):
        try:
            splice = splice_between(before.footprints, footprints.table, plan)
            changed = splice.changes.images
        except TooMuchChanged as error:
            why = f"{error}"
    with ExitStack() as held:
        run = _Run(tippecanoe, plan, folder, held, on_progress)
        # tippecanoe does not use all of two cores; whatever ends this waits for what is drawn beside it
        beside = held.enter_context(ThreadPoolExecutor(max_workers=1))
        low_zooms = beside.submit(run.low_zooms, footprints.table, splice)
        if splice is None or isinstance(before, str):
            images = run.all_images(footprints.geojson)
            fresh = sources = [low_zooms.result(), images]
        else:
            archive = Source.of_archive(held.enter_context(open_archive(before.archive)))
            images = run.some_images(footprints.table, splice)
            sources = spliced(splice, before=archive, made=[low_zooms.result(), images])
            fresh = sources[:-1]
        place = Place(zoom_min=plan.zoom_min, zoom_max=plan.zoom_max, bounds=footprints.bounds)
        write_archive(target, sources, place, plan.metadata(tippecanoe.version(), footprints.snapshot))
        made_now, whole = (
            sum(int(each.entries.run_length.sum()) for each in some) for some in (fresh, sources)
        )
    return Made(tiles_made=made_now, tiles_reused=whole - made_now, changed=changed, why_anew=why)


@dataclass(frozen=True, slots=True)
class _Run:
    """Tippecanoe at work in a folder; what it makes is kept open."""

    tippecanoe: Tippecanoe
    plan: TilingPlan
    folder: Path
    held: ExitStack
    on_progress: Callable[[float], None]

    def low_zooms(self, footprints: Path, splice: Splice | None = None) -> Source:
        only = None if splice is None else Reached(splice.tiles, splice.deepest)
        return spooled(low_zoom_tiles(footprints, self.plan, only), self._scratch_file("low.spool"))

    def all_images(self, geojson: Path) -> Source:
        made = self.folder / "tippecanoe.mbtiles"
        arguments = self.plan.arguments(source=str(geojson), target=str(made), temporary=str(self.folder))
        self.tippecanoe.run([arguments], on_progress=self.on_progress)
        return self._spooled(made)

    def some_images(self, footprints: Path, splice: Splice) -> Source:
        if not (splice.deepest >= self.plan.whole_from).any():
            return Source(-1, Directory.empty())  # tippecanoe takes nothing for an error
        selected = self.folder / "selected.geojsonl"
        write_geojson(footprints, selected, plan=self.plan, deepest=splice.deepest)
        return self.all_images(selected)

    def _spooled(self, mbtiles: Path) -> Source:
        """The tiles in a file of their own; the MBTiles go."""
        try:
            with closing(read_tiles(mbtiles)) as tiles:
                source = spooled(tiles, self._scratch_file("tippecanoe.spool"))
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

"""An archive of footprints: all of it by tippecanoe, or only what changed since the last one.

`make_mosaic` makes it at once. Machines that share no disk do the same step by step: `cut_into_parts`, then
`make_low_zooms` and `make_parts` with some of them each, then `merge_parts`. The archive is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.fragment import Fragment
from oam_mosaic_assets.core.low_zooms import Reached, low_zoom_tiles
from oam_mosaic_assets.core.mbtiles import BrokenTiles, read_tiles, spooled
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.parts import parts_of, share_out
from oam_mosaic_assets.core.splice import Splice, spliced
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe

WORTH_PARTING: Final = 2**20
"""Bytes of GeoJSON that are tiled in parts; with fewer a process takes longer to start than it saves."""

PARTS_EACH: Final = 2
"""Parts for each process: they are never equally much work, and the last ones even it out."""


LOW_ZOOMS: Final = "low-zooms.tiles"


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


@dataclass(frozen=True, slots=True)
class Lines:
    """What one tippecanoe draws of them.

    Attributes:
        path: GeoJSON, newline-delimited.
        tiles: those that are taken of what it makes.
    """

    path: Path
    tiles: Stretches


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
    folder = target.parent
    # tippecanoe does not use all of two cores; whatever ends this waits for what is drawn beside it
    with ThreadPoolExecutor(max_workers=1) as beside:
        low_zooms = beside.submit(make_low_zooms, plan, footprints.table, folder / LOW_ZOOMS, splice)
        parts = cut_into_parts(plan, footprints, folder, 1 if processes == 1 else PARTS_EACH * processes)
        images = make_parts(tippecanoe, plan, parts, folder, at_once=processes, on_progress=on_progress)
        made = [low_zooms.result(), *images]
    merged = merge_parts(tippecanoe, plan, footprints, target, made, splice=splice, before=before)
    for each in made:
        each.tiles.unlink()
    return merged


def cut_into_parts(plan: TilingPlan, footprints: Footprints, folder: Path, count: int) -> list[Lines]:
    """Cut what tippecanoe is to draw into parts, largest first: one where that is little, none of nothing.

    Args:
        folder: where the lines of each part go.
        count: how many parts, at most.
    """
    size = footprints.geojson.stat().st_size
    if not size:
        return []  # tippecanoe takes nothing for an error
    if count == 1 or size < WORTH_PARTING:
        return [Lines(footprints.geojson, Stretches.of_zooms(plan.whole_from, plan.zoom_max))]
    parts = parts_of(footprints.table, plan, count)
    name = footprints.geojson.stem
    lines = [folder / f"{name}.part-{number}.geojsonl" for number in range(len(parts))]
    share_out(footprints.geojson, footprints.table, plan, parts, lines)
    # where only some images are drawn a part may have none
    return [Lines(path, part.tiles) for part, path in zip(parts, lines, strict=True) if path.stat().st_size]


def make_parts(
    tippecanoe: Tippecanoe,
    plan: TilingPlan,
    parts: Sequence[Lines],
    folder: Path,
    *,
    at_once: int = 1,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Fragment]:
    """What tippecanoe makes of parts.

    Args:
        parts: some of those that a map was cut into.
        folder: where the tiles and intermediate files go.
        at_once: how many tippecanoe processes may run at once.
        on_progress: called with the share done, 0 to 1.

    Raises:
        TippecanoeMissing, TilingFailed, DiskFull: see `errors`.
    """
    targets = [folder / f"{each.path.stem}.mbtiles" for each in parts]
    calls = [
        plan.arguments(source=str(each.path), target=str(target), temporary=str(folder))
        for each, target in zip(parts, targets, strict=True)
    ]
    tippecanoe.run(calls, at_once=at_once, on_progress=on_progress)
    fragments = []
    for each, target in zip(parts, targets, strict=True):
        made = _spooled(target)
        fragments.append(Fragment(made.tiles, each.tiles.cut(made.entries)[0]))
    return fragments


def make_low_zooms(plan: TilingPlan, table: Path, target: Path, splice: Splice | None = None) -> Fragment:
    """The tiles that tippecanoe does not make; see `core.low_zooms`.

    Args:
        table: the GeoParquet.
        target: where they go; must not exist.
        splice: what is to be made; without it, everything.
    """
    only = None if splice is None else Reached(splice.tiles, splice.deepest)
    return _written(low_zoom_tiles(table, plan, only), target)


def merge_parts(
    tippecanoe: Tippecanoe,
    plan: TilingPlan,
    footprints: Footprints,
    target: Path,
    made: Sequence[Fragment],
    *,
    splice: Splice | None = None,
    before: Path | None = None,
) -> Made:
    """Write one archive of what was made, and of what is taken over; see `make_mosaic`."""
    with ExitStack() as held:
        fresh = sources = [each.opened(held) for each in made]
        if splice is not None and before is not None:
            archive = Source.of_archive(held.enter_context(open_archive(before)))
            sources = spliced(splice, before=archive, made=fresh)
            fresh = sources[:-1]
        place = Place(zoom_min=plan.zoom_min, zoom_max=plan.zoom_max, bounds=footprints.bounds)
        write_archive(target, sources, place, plan.metadata(tippecanoe.version(), footprints.snapshot))
    made_now, whole = (sum(int(each.entries.run_length.sum()) for each in some) for some in (fresh, sources))
    return Made(tiles_made=made_now, tiles_reused=whole - made_now)


def _spooled(mbtiles: Path) -> Fragment:
    """The tiles in a file of their own; the MBTiles go."""
    try:
        with closing(read_tiles(mbtiles)) as tiles:
            made = _written(tiles, mbtiles.with_suffix(".tiles"))
    except BrokenTiles as error:
        raise TilingFailed(
            f"tippecanoe ended well, but left no whole tiles: {error}.",
            hint="Run the build again; see that the disk with the scratch folder is sound.",
        ) from None
    mbtiles.unlink()
    return made


def _written(tiles: Iterable[tuple[int, int, int, bytes]], path: Path) -> Fragment:
    with path.open("xb") as spool:
        return Fragment(path, spooled(tiles, spool).entries)

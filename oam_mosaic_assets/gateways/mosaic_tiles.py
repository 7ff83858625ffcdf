"""Making an archive of footprints: all of it, or only what changed since the last one.

Tippecanoe makes the zooms at which outlines are simplified, `core.low_zooms` those before them, and
`core.deep_zooms` those after. `make_mosaic` does all of it. Machines that share no disk do the same in steps:
`cut_into_parts`, then `make_low_zooms` on one and `make_parts` with some of the parts on each, then
`merge_parts`. The archive is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Final

from oam_mosaic_assets.core.archive import BrokenArchive, open_archive
from oam_mosaic_assets.core.fragment import Fragment
from oam_mosaic_assets.core.low_zooms import low_zoom_tiles
from oam_mosaic_assets.core.mbtiles import BrokenTiles, read_tiles
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.parts import parts_of, share_out
from oam_mosaic_assets.core.splice import Splice
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.control_groups import processors
from oam_mosaic_assets.gateways.deep_zooms import deep_zooms, in_shares
from oam_mosaic_assets.gateways.patching import patched
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe

WORTH_PARTING: Final = 2**20
"""Bytes of GeoJSON that are worth tiling in parts; with fewer, a process costs more time than it saves."""

PARTS_EACH: Final = 2
"""Parts per process: they are never equal work, and more of them even that out."""

LARGEST_PART: Final = 2**26
"""Bytes of GeoJSON in a part, on average: a process holds the places of all tiles it makes. A part may have
more, because parts are equally much work, not equally long, and an image that reaches two is in both."""

CUTTERS: Final = 2
"""Processes that cut deep zooms alongside each tippecanoe, if there is much to cut."""

WORTH_A_CUTTER: Final = 2**14
"""The fewest deep-zoom tiles for each such process: fewer take less time to cut than it takes to start."""

LOW_ZOOMS: Final = "low-zooms.tiles"

_ACROSS: Final = (
    '{"type":"Feature","tippecanoe":{"minzoom":31},"properties":{},"geometry":{"type":"Polygon",'
    '"coordinates":[[[-181,0],[-179,0],[-179,1],[-181,0]]]}}\n'
)
"""A line that crosses the antimeridian but is never drawn. If all others lie in one tile at the map's western
edge, tippecanoe begins with that tile and does not draw them in the buffers at the eastern edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprints:
    """What to draw.

    Attributes:
        table: the GeoParquet.
        geojson: those to tile now, newline-delimited, as tippecanoe reads them.
        snapshot: the digest of the snapshot.
        bounds: west, south, east, north of all footprints, degrees.
    """

    table: Path
    geojson: Path
    snapshot: str
    bounds: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Some of the footprints, and the tiles to make from them.

    Attributes:
        path: GeoJSON, newline-delimited.
        tiles: the wanted tiles; tippecanoe makes others as well.
    """

    path: Path
    tiles: Stretches


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How an archive was made.

    Attributes:
        tiles_made: tiles that were made for it.
        tiles_reused: tiles that were taken over from an earlier build.
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
    """Write the archive. The same footprints give the same bytes, however many tiles are taken over.

    Args:
        target: the archive's path; must not exist. Its folder receives intermediate files.
        splice: what to make; None for everything.
        before: the archive that everything else is taken over from.
        processes: how many parts are made at once; see `make_parts`.
        on_progress: called with the share done, 0 to 1.

    Raises:
        TippecanoeMissing, TilingFailed, DiskFull: see `errors`.
    """
    folder = target.parent
    # however this block ends, it waits for the low zooms
    with ThreadPoolExecutor(max_workers=1) as beside:
        low_zooms = beside.submit(make_low_zooms, plan, footprints.table, folder / LOW_ZOOMS, splice)
        count = 1 if processes == 1 else PARTS_EACH * processes
        parts = cut_into_parts(plan, footprints, folder, count, splice)
        images = make_parts(tippecanoe, plan, parts, folder, at_once=processes, on_progress=on_progress)
        made = [low_zooms.result(), *images]
    merged = merge_parts(tippecanoe, plan, footprints, target, made, splice=splice, before=before)
    for each in made:
        each.tiles.unlink()
    return merged


def cut_into_parts(
    plan: TilingPlan, footprints: Footprints, folder: Path, count: int, splice: Splice | None = None
) -> list[Lines]:
    """Cut the footprints into parts, largest first: one if there is little to draw, none if nothing.

    Args:
        folder: where the lines of each part go.
        count: how many parts; more if they would be too large.
        splice: what to make; None for everything.
    """
    size = footprints.geojson.stat().st_size
    if not size:
        return []  # tippecanoe treats empty input as an error
    wanted = Stretches.of_zooms(plan.whole_from, plan.zoom_max)
    if splice is not None:
        wanted = wanted.common(splice.tiles)
    count = max(count, -(-size // LARGEST_PART))
    if count == 1 or size < WORTH_PARTING:
        return [Lines(footprints.geojson, wanted)]
    parts = parts_of(footprints.table, plan, count)
    name = footprints.geojson.stem
    lines = [folder / f"{name}.part-{number}.geojsonl" for number in range(len(parts))]
    share_out(footprints.geojson, footprints.table, plan, parts, lines)
    # if only some images are drawn, a part may have none
    return [
        Lines(path, part.tiles.common(wanted))
        for part, path in zip(parts, lines, strict=True)
        if path.stat().st_size
    ]


def make_parts(
    tippecanoe: Tippecanoe,
    plan: TilingPlan,
    parts: Sequence[Lines],
    folder: Path,
    *,
    at_once: int = 1,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Fragment]:
    """Make the zooms from `whole_from` on for some parts.

    Args:
        parts: some of the parts that the footprints were cut into.
        folder: where the tiles and intermediate files go.
        at_once: how many are made at once, each by one tippecanoe and, if there is much to cut, two other
            processes.
        on_progress: called with the share done, 0 to 1.

    Raises:
        TippecanoeMissing, TilingFailed, DiskFull: see `errors`.
    """
    simplified = {folder / f"{each.path.stem}.mbtiles": each for each in parts if plan.simplified_zooms}
    across, calls = folder / "across.geojsonl", []
    if simplified:
        across.write_text(_ACROSS)
    for target, each in simplified.items():
        *options, lines = plan.arguments(source=str(each.path), target=str(target), temporary=str(folder))
        calls.append([*options, str(across), lines])
    cut = {each: _targets(plan, each, folder) for each in parts}
    cutters = [
        each for part, targets in cut.items() for each in in_shares(plan, part.path, part.tiles, targets)
    ]
    stop = Event()
    with ThreadPoolExecutor(max_workers=1) as here:
        little = [
            here.submit(deep_zooms, plan, each.path, each.tiles, _deep(each, folder, "all"), stop)
            for each, targets in cut.items()
            if plan.deep_zooms and not targets
        ]
        try:
            tippecanoe.run(
                calls,
                at_once=at_once,
                beside=cutters,
                beside_at_once=at_once * CUTTERS,
                on_progress=on_progress,
            )
        except BaseException:
            stop.set()  # or this would wait for tiles that nobody needs now
            raise
    fragments = [Fragment.left_at(target) for targets in cut.values() for target in targets]
    fragments += [each.result() for each in little]
    for target, part in simplified.items():
        made = _spooled(target)
        fragments.append(Fragment(made.tiles, part.tiles.cut(made.entries)[0]))
    across.unlink(missing_ok=True)
    return fragments


def _targets(plan: TilingPlan, part: Lines, folder: Path) -> list[Path]:
    """Where processes that cut a part's deep zooms leave its tiles, one file each; none if there are few."""
    tiles = sum(len(part.tiles.within(zoom)) for zoom in plan.deep_zooms)
    is_much = part.path.stat().st_size >= WORTH_PARTING
    count = min(CUTTERS, processors(), tiles // WORTH_A_CUTTER) if is_much else 0
    return [_deep(part, folder, f"{share}") for share in range(count)]


def _deep(part: Lines, folder: Path, which: str) -> Path:
    return folder / f"{part.path.stem}.deep-{which}.tiles"


def make_low_zooms(plan: TilingPlan, table: Path, target: Path, splice: Splice | None = None) -> Fragment:
    """Make the tiles of the low zooms; see `core.low_zooms`.

    Args:
        table: the GeoParquet.
        target: where they go; must not exist.
        splice: what to make; None for everything.
    """
    return Fragment.written(low_zoom_tiles(table, plan, splice), target)


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
    """Write one archive from the tiles made and the tiles taken over; see `make_mosaic`."""
    kept = list[Source]()
    with ExitStack() as held:
        if splice is not None and before is not None:
            folder = Path(held.enter_context(TemporaryDirectory(dir=target.parent)))
            try:
                made = patched(before, made, splice, footprints.table, plan, folder)
                archive = held.enter_context(open_archive(before))
                kept.append(Source.of_archive(archive, target.parent, besides=splice.tiles))
            except BrokenArchive as error:
                raise TilingFailed(
                    f"Tiles cannot be taken over from the public build: {error}.",
                    hint="Make all tiles anew: `oam-mosaic build --anew`.",
                ) from None
        fresh = [each.opened(held) for each in made]
        sources = [*fresh, *kept]
        place = Place(zoom_min=plan.zoom_min, zoom_max=plan.zoom_max, bounds=footprints.bounds)
        write_archive(target, sources, place, plan.metadata(tippecanoe.version(), footprints.snapshot))
    made_now, whole = (sum(int(each.entries.run_length.sum()) for each in some) for some in (fresh, sources))
    return Made(tiles_made=made_now, tiles_reused=whole - made_now)


def _spooled(mbtiles: Path) -> Fragment:
    """Move the tiles from an MBTiles file, which is deleted, into a file of their own."""
    try:
        with closing(read_tiles(mbtiles)) as tiles:
            made = Fragment.written(tiles, mbtiles.with_suffix(".tiles"))
    except BrokenTiles as error:
        raise TilingFailed(
            f"tippecanoe succeeded, but left incomplete tiles: {error}.",
            hint="Check the disk that holds the scratch folder, then run the build again.",
        ) from None
    mbtiles.unlink()
    return made

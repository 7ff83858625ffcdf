"""The audit of a coverage archive: whole, as asked, and covering what images touch and nothing else.

At a middle zoom all pixels are compared with the images, and each zoom is compared with the next, so that no
tile can take another's place. At the last zoom a sample of blocks is compared. Tiles that were taken over are
compared byte for byte with the archive they came from; only blocks where something changed are read in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from oam_mosaic_assets.core.archive import Archive, BrokenArchive, open_archive
from oam_mosaic_assets.core.audit import NAMED, Bounds, Verdict
from oam_mosaic_assets.core.changes import changes_between
from oam_mosaic_assets.core.coverage import CoveragePlan, tiles_above, tiles_below
from oam_mosaic_assets.core.coverage_truth import (
    pixels_differ,
    pixels_of_blocks_differ,
    tiles_astray,
    tiles_of,
    touched_tiles,
    zooms_disagree,
)
from oam_mosaic_assets.core.grid import first_tile_id, tile_name
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.palette import BrokenPicture
from oam_mosaic_assets.core.pixels import Numbers
from oam_mosaic_assets.core.placement import chosen_by_digest
from oam_mosaic_assets.core.reach import polygons_of
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.takeover import differences

WHOLE_CHECKS: Final = {
    "archive_is_whole": "Directories can be decoded; every tile is a picture of the planned size and colour.",
    "archive_is_as_asked": "Header and metadata match the plan.",
    "tiles_are_those_of_images": "Every tile that a footprint overlaps exists, and no other does.",
}
"""Names of the judgements of the *whole* archive, in the order they are made, and what each says."""

EXACT_CHECKS: Final = {
    **WHOLE_CHECKS,
    "pixels_are_those_of_images": "Pixels that footprints overlap are covered, no others; zooms agree.",
}
"""The same for the *exact* archive."""

COMPARED: Final = 2
"""All pixels are compared this many zooms below the blocks' own; at z12 a pixel is 38 m on the equator."""

LOOKED_AT: Final = 8
"""Blocks compared at the last zoom regardless of what changed, chosen by digest."""

LOOKED_AT_CHANGED: Final = 24
"""Blocks compared there in addition, out of those in which something changed; chosen by digest."""


def examine_coverage(
    archive: Path,
    footprints: Path,
    plan: CoveragePlan,
    *,
    snapshot: str,
    extent: Bounds,
    before: Before | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Judge an archive.

    Args:
        archive: the PMTiles archive.
        footprints: the GeoParquet that it shows.
        plan: what was asked for.
        snapshot: the digest of the snapshot.
        extent: of all its footprints.
        before: the audited archive that tiles were taken over from; None reads all.
        on_progress: called now and then with the share done, 0 to 1.
    """
    try:
        with open_archive(archive) as opened:
            case = _Case(
                Source.of_archive(opened), footprints, plan, snapshot, _affected(footprints, plan, before)
            )
            verdicts = [_wholeness(opened, case, before), _header(opened, plan, snapshot, extent)]
            for share, judge in ((0.3, _tiles), (0.6, _pixels)):
                on_progress(share)
                if all(each.passed for each in verdicts) and (plan.way == "exact" or judge is _tiles):
                    verdicts.append(judge(case))
            return verdicts
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


@dataclass(frozen=True, slots=True)
class _Affected:
    """Where something changed.

    Attributes:
        blocks: ids of the blocks affected.
        tiles: the tiles of those blocks, and the tiles above them.
    """

    blocks: Numbers
    tiles: Stretches


@dataclass(frozen=True, slots=True)
class _Case:
    """What is judged: everything, or only where something changed."""

    source: Source
    footprints: Path
    plan: CoveragePlan
    snapshot: str
    affected: _Affected | None


def _affected(footprints: Path, plan: CoveragePlan, before: Before | None) -> _Affected | None:
    if before is None:
        return None
    changed = changes_between(before.footprints, footprints)
    touched = [touched_tiles(polygons_of(areas), plan.block_zoom) for areas in changed.batches()]
    blocks = np.unique(np.concatenate([np.zeros(0, np.int64), *touched]))
    above = [tiles_above(blocks, zoom, plan) for zoom in range(plan.zoom_min, plan.block_zoom)]
    return _Affected(blocks, Stretches.union([tiles_below(blocks, plan), *map(Stretches.of, above)]))


def _wholeness(archive: Archive, case: _Case, before: Before | None) -> Verdict:
    """Fail when a tile is not a picture as planned, or one that was taken over differs from the original."""
    name, faults, read = "archive_is_whole", list[str](), case.source.entries
    if before is not None and case.affected is not None:
        read, _ = case.affected.tiles.cut(read)
        with open_archive(before.archive) as opened:
            faults += differences(case.source, Source.of_archive(opened), besides=case.affected.tiles)
    picture, full = case.plan.picture, case.plan.picture.full()
    for each in read.distinct().tolist():
        content = case.source.content(int(read.offset[each]), int(read.length[each]))
        try:
            fault = "" if picture.decoded(content).any() else "it covers nothing"
        except BrokenPicture as error:
            fault = f"{error}"
        if not fault and case.plan.way == "whole" and content != full:
            fault = "it is not fully covered"
        if fault:
            faults.append(f"{tile_name(int(read.tile_id[each]))}: {fault}")
    by_zoom = _by_zoom(tiles_of(case.source.entries), case.plan)
    tiles, stated = sum(by_zoom.values()), archive.header["addressed_tiles_count"]
    if tiles != stated:
        faults.append(f"there are {tiles} tiles at the planned zooms, but its header says {stated}")
    if faults:
        return Verdict.failing(name, f"{len(faults)} faults, first {'; '.join(faults[:NAMED])}")
    taken_over = "" if before is None else f", or are byte for byte those of {before.build}"
    text = f"all {tiles:,} tiles are pictures as planned{taken_over}"
    return Verdict.passing(
        name, text, tiles=tiles, tiles_by_zoom={str(zoom): n for zoom, n in by_zoom.items()}
    )


def _by_zoom(tiles: Stretches, plan: CoveragePlan) -> dict[int, int]:
    counts = {}
    for zoom in range(plan.zoom_min, plan.zoom_max + 1):
        ends = np.clip([tiles.begin, tiles.end], first_tile_id(zoom), first_tile_id(zoom + 1))
        counts[zoom] = int((ends[1] - ends[0]).sum())
    return counts


def _header(archive: Archive, plan: CoveragePlan, snapshot: str, extent: Bounds) -> Verdict:
    """Fail when header or metadata do not match the plan."""
    name, header = "archive_is_as_asked", archive.header
    expected = {
        "tile type": (header["tile_type"].name, plan.format.upper()),
        "tile compression": (header["tile_compression"].name, "NONE"),
        "clustered": (header["clustered"], True),
        "zooms": ((header["min_zoom"], header["max_zoom"]), (plan.zoom_min, plan.zoom_max)),
        "metadata": (dict(archive.metadata), plan.metadata(snapshot)),
    }
    wrong = [
        f"{what}: {found!r}, not {asked!r}" for what, (found, asked) in expected.items() if found != asked
    ]
    if not np.allclose(archive.bounds, extent, rtol=0.0, atol=1e-6):
        wrong.append(f"bounds: {archive.bounds}, but those of the footprints are {extent}")
    if wrong:
        return Verdict.failing(name, "; ".join(wrong))
    return Verdict.passing(name, f"z{plan.zoom_min}-{plan.zoom_max}, {plan.pixels} pixels a tile, as planned")


def judge_coverage(source: Source, footprints: Path, plan: CoveragePlan, *, snapshot: str) -> list[Verdict]:
    """Judge coverage tiles that may share an archive with other tiles: which tiles exist, and their pixels.

    Args:
        source: the tiles.
        footprints: the GeoParquet that they show.
        plan: what was asked for.
        snapshot: the digest of the snapshot.

    Raises:
        BrokenPicture: a tile is not a picture as planned.
    """
    case = _Case(source, footprints, plan, snapshot, None)
    return [_tiles(case), _pixels(case)]


def _tiles(case: _Case) -> Verdict:
    """Fail when there is a tile too many or too few, at any zoom."""
    name, plan, drawn = "tiles_are_those_of_images", case.plan, tiles_of(case.source.entries)
    blocks = None if case.affected is None else case.affected.blocks
    missing, stray = tiles_astray(drawn, case.footprints, plan, blocks)
    wrong = [
        f"{len(tiles)} tiles are {what}, first {tile_name(int(tiles[0]))}"
        for what, tiles in (("missing where images are", missing), ("drawn where none are", stray))
        if len(tiles)
    ]
    for zoom in range(plan.zoom_max, plan.zoom_min, -1):
        above, below = drawn.of_zoom(zoom - 1), drawn.of_zoom(zoom)
        held = np.unique((below - first_tile_id(zoom)) // 4) + first_tile_id(zoom - 1)
        if not np.array_equal(above, held):
            wrong.append(f"z{zoom - 1} has {len(above):,} tiles, but those of z{zoom} are in {len(held):,}")
    if wrong:
        return Verdict.failing(name, "; ".join(wrong))
    text = f"each zoom has exactly the tiles that images overlap, {len(drawn):,} in all"
    return Verdict.passing(name, text)


def _pixels(case: _Case) -> Verdict:
    """Fail when a zoom does not agree with the next, or pixels are not those of the images."""
    name, plan, affected = "pixels_are_those_of_images", case.plan, case.affected
    looked = case.source, case.footprints, plan
    compared = max(min(plan.block_zoom + COMPARED, plan.zoom_max), plan.zoom_min)
    wrong = [
        f"tiles do not match those below them: {each}"
        for each in zooms_disagree(case.source, plan, None if affected is None else affected.tiles)
    ]
    all_blocks = _blocks_shown(case, plan)
    some = _chosen(all_blocks, LOOKED_AT, case.snapshot)
    if affected is None:
        wrong += pixels_differ(*looked, compared)
    else:
        wrong += pixels_of_blocks_differ(*looked, compared, affected.blocks)
        some = np.union1d(some, _chosen(affected.blocks, LOOKED_AT_CHANGED, case.snapshot))
    wrong += pixels_of_blocks_differ(*looked, plan.zoom_max, some)
    if wrong:
        return Verdict.failing(name, "; ".join(wrong[:NAMED]), blocks_compared=len(some))
    places = f"z{compared}, and z{plan.zoom_max} in {len(some)} blocks"
    text = f"zooms agree; at {places}, the pixels match the images"
    return Verdict.passing(name, text, blocks_compared=len(some))


def _blocks_shown(case: _Case, plan: CoveragePlan) -> Numbers:
    """Ids of all blocks that have a tile."""
    zoom = max(plan.block_zoom, plan.zoom_min)
    ids = tiles_of(case.source.entries).of_zoom(zoom) - first_tile_id(zoom)
    return np.unique(ids >> 2 * (zoom - plan.block_zoom)) + first_tile_id(plan.block_zoom)


def _chosen(blocks: Numbers, count: int, snapshot: str) -> Numbers:
    """`count` of these blocks, chosen by digest."""
    names: Sequence[str] = [str(each) for each in blocks.tolist()]
    some: Numbers = blocks[chosen_by_digest(names, snapshot, count)]
    return some

"""The whole audit of one archive against the footprints it was made from: reads, compares, has it judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import shapely

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.archive import Archive, BrokenArchive, open_archive
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.drawn import Drawn, read_drawn
from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.placement import Tile, chosen_by_digest, misplaced, outline_differs
from oam_mosaic_assets.core.said import said_of
from oam_mosaic_assets.core.snapshot import as_drawn, read_batches
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.core.truth import examine_low_zooms


def examine(
    archive: Path,
    footprints: Path,
    plan: TilingPlan,
    *,
    snapshot: str,
    extent: audit.Bounds,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Judge an archive: whole, as asked, complete, every image in its place, low zooms true to a pixel.

    Args:
        archive: the PMTiles archive.
        footprints: the GeoParquet that it shows.
        plan: what was asked of tippecanoe.
        snapshot: the digest of the snapshot.
        extent: of all its footprints.
        on_progress: told now and then which share of the tiles is read, 0 to 1.
    """
    names = [name for batch in read_batches(footprints, ("id",)) for name in batch["id"]]
    outlined = chosen_by_digest(names, snapshot, audit.COMPARED_OUTLINES)
    try:
        with open_archive(archive) as opened:
            ids = {name: index for index, name in enumerate(names)}
            drawn = read_drawn(
                opened,
                ids,
                layer=plan.layer,
                fields=plan.fields,
                whole=plan.whole,
                said=said_of(footprints, plan, [names[each] for each in outlined]),
                outlined=outlined,
                on_progress=on_progress,
            )
            low_zooms = examine_low_zooms(opened, footprints, plan)
            return [
                audit.judge_wholeness(drawn),
                audit.judge_header(opened, plan, snapshot, drawn, extent=extent),
                audit.judge_completeness(names, drawn, whole_from=plan.whole_from, zoom_max=plan.zoom_max),
                _placement(opened, names, _as_given(footprints, plan), drawn, outlined, plan.zoom_max),
                audit.judge_low_zooms(low_zooms),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _as_given(footprints: Path, plan: TilingPlan) -> Iterator[Geometries]:
    """The areas as they were given to tippecanoe, a batch at a time."""
    for batch in read_batches(footprints, ("geometry",)):
        yield as_drawn(shapely.from_wkb(batch["geometry"].to_numpy()), plan.thinnest)


def _placement(
    archive: Archive,
    names: Sequence[str],
    batches: Iterator[Geometries],
    drawn: Drawn,
    outlined: Sequence[int],
    zoom_max: int,
) -> Verdict:
    if archive.header["max_zoom"] != zoom_max:  # so `drawn` tells where images are at another zoom
        return Verdict.failing(
            "images_lie_where_they_should",
            f"not compared: the last zoom is {archive.header['max_zoom']}, not {zoom_max}",
        )
    missing: list[Tile] = []
    stray: list[Tile] = []
    differing: list[int] = []
    first = 0
    for geometries in batches:
        of_batch = misplaced(geometries, first=first, drawn=drawn.pairs, zoom=zoom_max)
        missing += of_batch[0]
        stray += of_batch[1]
        differing += [
            index
            for index in outlined
            if first <= index < first + len(geometries)
            and outline_differs(geometries[index - first], drawn.pieces.get(index, ()), zoom_max)
        ]
        first += len(geometries)
    return audit.judge_placement(
        names, missing=missing, stray=stray, differing=differing, compared=len(outlined), zoom_max=zoom_max
    )

"""The whole audit of one archive against the footprints it was made from: reads, compares, has it judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import shapely

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.archive import BrokenArchive, open_archive
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.drawn import NOTHING_DRAWN, Drawn, read_drawn
from oam_mosaic_assets.core.placement import chosen_by_digest, places_of
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
            read = partial(
                read_drawn,
                opened,
                {name: index for index, name in enumerate(names)},
                layer=plan.layer,
                fields=plan.fields,
                whole=plan.whole,
                said=said_of(footprints, plan, [names[each] for each in outlined]),
            )
            drawn, placed = NOTHING_DRAWN, list[Verdict]()
            for zoom, entries in opened.by_zoom():
                some = outlined if zoom == plan.zoom_max else []
                so_far = sum(drawn.tiles.values()) / max(1, opened.header["addressed_tiles_count"])
                found = read(
                    entries=entries,
                    zoom=zoom,
                    outlined=some,
                    on_progress=partial(_further, on_progress, so_far),
                )
                if plan.whole_from <= zoom <= plan.zoom_max:
                    placed.append(_placement(names, footprints, plan, found, zoom, some))
                # the zoom that completeness is told of is the plan's last
                drawn = drawn.then(found) if zoom <= plan.zoom_max else found.then(drawn)
            if plan.zoom_max not in drawn.tiles:
                placed = [
                    Verdict.failing("images_lie_where_they_should", f"nothing lies at z{plan.zoom_max}")
                ]
            low_zooms = examine_low_zooms(opened, footprints, plan)
            return [
                audit.judge_wholeness(drawn),
                audit.judge_header(opened, plan, snapshot, drawn, extent=extent),
                audit.judge_completeness(names, drawn, whole_from=plan.whole_from, zoom_max=plan.zoom_max),
                audit.first_failure(placed),
                audit.judge_low_zooms(low_zooms),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _further(on_progress: Callable[[float], None], so_far: float, share: float) -> None:
    on_progress(so_far + share)


def _placement(
    names: Sequence[str],
    footprints: Path,
    plan: TilingPlan,
    drawn: Drawn,
    zoom: int,
    outlined: Sequence[int],
) -> Verdict:
    """Whether a zoom draws all images where they lie, and some of them as they are."""
    given = (
        as_drawn(shapely.from_wkb(batch["geometry"].to_numpy()), plan.thinnest_at(zoom))
        for batch in read_batches(footprints, ("geometry",))
    )
    return audit.judge_placement(names, places_of(given, drawn, zoom, outlined), zoom)

"""The full audit of one archive against the footprints it was made from: read, compare, judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.archive import Archive, BrokenArchive, open_archive
from oam_mosaic_assets.core.aside import Aside, here
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.drawn import NOTHING_DRAWN, Drawn, read_drawn
from oam_mosaic_assets.core.image_ids import ImageIds
from oam_mosaic_assets.core.placement import chosen_by_digest, comparable, outlines_of, places_of
from oam_mosaic_assets.core.said import said_of
from oam_mosaic_assets.core.snapshot import Names, as_drawn, read_batches
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.core.truth import examine_low_zooms


def examine(
    archive: Path,
    footprints: Path,
    plan: TilingPlan,
    *,
    snapshot: str,
    extent: audit.Bounds,
    aside: Aside = here,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Judge an archive: whole, as asked, complete, every image in its place, low zooms true to a pixel.

    Args:
        archive: the PMTiles archive.
        footprints: the GeoParquet that it was made from.
        plan: what was asked for.
        snapshot: the digest of the snapshot.
        extent: of all its footprints.
        aside: does part of the work, less than half of it.
        on_progress: called now and then with the share of tiles read here so far, 0 to 1.
    """
    names = Names(footprints)
    try:
        with open_archive(archive) as opened:
            # the last zoom holds more than half of all tiles
            others = aside(_all_but_the_last_zoom, archive, footprints, plan, snapshot)
            last = _seen(opened, footprints, plan, snapshot, names, is_last=True, on_progress=on_progress)
            low_zooms = examine_low_zooms(opened, footprints, plan)
            first = others()
            on_progress(1.0)
            drawn, placed = first.drawn.then(last.drawn), [*first.placed, *last.placed]
            if plan.zoom_max not in drawn.tiles:
                placed = [
                    Verdict.failing("images_lie_where_they_should", f"nothing is drawn at z{plan.zoom_max}")
                ]
            return [
                audit.judge_wholeness(drawn),
                audit.judge_header(opened, plan, snapshot, drawn, extent=extent),
                audit.judge_completeness(names, drawn, whole_from=plan.whole_from, zoom_max=plan.zoom_max),
                audit.first_failure(placed),
                audit.judge_low_zooms(low_zooms),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


class _Seen(NamedTuple):
    """What was found at some zooms, and for each that shows all images, the verdict on their placement."""

    drawn: Drawn
    placed: list[Verdict]


def _all_but_the_last_zoom(archive: Path, footprints: Path, plan: TilingPlan, snapshot: str) -> _Seen:
    with open_archive(archive) as opened:
        seen = _seen(opened, footprints, plan, snapshot, Names(footprints), is_last=False)
        return seen._replace(drawn=seen.drawn.in_short())


def _seen(
    opened: Archive,
    footprints: Path,
    plan: TilingPlan,
    snapshot: str,
    names: Names,
    *,
    is_last: bool,
    on_progress: Callable[[float], None] = lambda _: None,
) -> _Seen:
    """Read the plan's last zoom, or all other zooms in the archive, and judge placement."""
    chosen = np.array(chosen_by_digest(names, snapshot, audit.COMPARED_OUTLINES), np.int64)
    zooms = [plan.zoom_max] if is_last else range(plan.zoom_min, plan.zoom_max)
    compared = comparable(footprints, chosen, plan, zooms)
    read = partial(
        read_drawn,
        opened,
        ImageIds(names),
        layer=plan.layer,
        fields=plan.fields,
        whole=plan.whole,
        said=said_of(footprints, plan, [*names[chosen]]),
        scratch=opened.path.parent,
        on_progress=on_progress,
    )
    drawn, placed = NOTHING_DRAWN, list[Verdict]()
    # a third of the time at each zoom; so only at the first one of each of the two that draw
    closely = {plan.whole_from, *plan.deep_zooms[:1]}
    for zoom, entries in opened.by_zoom():
        if (zoom == plan.zoom_max) != is_last:
            continue
        some = compared.get(zoom, chosen[:0])
        outlined = dict(zip(names[some], some.tolist(), strict=True))
        found = read(entries=entries, zoom=zoom, outlined=outlined, closely=zoom in closely)
        if zoom < plan.whole_from:
            placed.append(audit.judge_placement(names, outlines_of(footprints, found, zoom), zoom))
        elif zoom <= plan.zoom_max:
            placed.append(_placement(names, footprints, plan, found, zoom, [*outlined.values()]))
        drawn = drawn.then(found)
    return _Seen(drawn, placed)


def _placement(
    names: Sequence[str],
    footprints: Path,
    plan: TilingPlan,
    drawn: Drawn,
    zoom: int,
    outlined: Sequence[int],
) -> Verdict:
    """Judge whether a zoom draws all images where they lie, and the chosen ones with the right outline."""
    given = (
        as_drawn(shapely.from_wkb(batch["geometry"].to_numpy()), plan.thinnest_at(zoom))
        for batch in read_batches(footprints, ("geometry",))
    )
    return audit.judge_placement(names, places_of(given, drawn, zoom, outlined), zoom)

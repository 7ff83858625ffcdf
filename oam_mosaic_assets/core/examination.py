"""The whole audit of one archive against the footprints it was made from: reads, compares, has it judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import shapely

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.archive import Archive, BrokenArchive, open_archive
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.drawn import Drawn, read_drawn
from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.placement import chosen_by_digest, misplaced, outline_differs
from oam_mosaic_assets.core.snapshot import as_drawn
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.core.vector_tile import BrokenTile


def examine(archive: Path, footprints: Path, plan: TilingPlan, *, snapshot: str) -> list[Verdict]:
    """Judge an archive: whole, as asked, complete, every image in its place.

    Args:
        archive: the PMTiles archive.
        footprints: the GeoParquet that it shows.
        plan: what was asked of tippecanoe.
        snapshot: the digest of the snapshot.
    """
    table = pl.read_parquet(footprints, columns=["id", "geometry"], glob=False)
    names = table["id"].to_list()
    geometries = as_drawn(shapely.from_wkb(table["geometry"].to_numpy()), plan.thinnest)
    del table
    try:
        with open_archive(archive) as opened:
            drawn = read_drawn(opened, {name: n for n, name in enumerate(names)}, layer=plan.layer)
            return [
                audit.judge_wholeness(drawn),
                audit.judge_header(opened, plan, snapshot, drawn),
                audit.judge_completeness(names, drawn, zoom_max=plan.zoom_max),
                _placement(opened, names, geometries, drawn, snapshot, zoom_max=plan.zoom_max),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _placement(
    archive: Archive,
    names: Sequence[str],
    geometries: Geometries,
    drawn: Drawn,
    snapshot: str,
    *,
    zoom_max: int,
) -> Verdict:
    if archive.header["max_zoom"] != zoom_max:  # so `drawn` tells where images are at another zoom
        return Verdict.failing(
            "images_lie_where_they_should",
            f"not compared: the last zoom is {archive.header['max_zoom']}, not {zoom_max}",
        )
    missing, stray = misplaced(geometries, image=drawn.image, x=drawn.x, y=drawn.y, zoom=zoom_max)
    chosen = chosen_by_digest(names, snapshot, audit.COMPARED_OUTLINES)
    differing = []
    for index in chosen:
        of_image = np.flatnonzero(drawn.image == index)
        tiles = list(zip(drawn.x[of_image].tolist(), drawn.y[of_image].tolist(), strict=True))
        try:
            differs = outline_differs(archive, geometries[index], names[index], tiles)
        except (BrokenArchive, BrokenTile):
            differs = True
        if differs:
            differing.append(index)
    return audit.judge_placement(
        names, missing=missing, stray=stray, differing=differing, compared=len(chosen), zoom_max=zoom_max
    )

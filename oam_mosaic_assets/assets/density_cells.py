"""How many images lie where, and how much ground they cover, counted once for all products that show it."""

import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from oam_mosaic_assets.assets.taking_over import public_density
from oam_mosaic_assets.core.artifact import Artifact, with_facts
from oam_mosaic_assets.core.density import DEEPEST, FINER
from oam_mosaic_assets.core.density_changes import changed_sheets
from oam_mosaic_assets.core.density_tables import DensityTables, TakenOver, write_density
from oam_mosaic_assets.core.density_tiles import density_recipe
from oam_mosaic_assets.core.ground import SHEETS
from oam_mosaic_assets.core.splice import TooMuchChanged
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged


@dg.asset(
    group_name="coverage",
    kinds={"parquet", "polars"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="1",
)
def density_cells(
    context: dg.AssetExecutionContext,
    stac_footprints: Artifact,
    releases: dg.ResourceParam[Releases],
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """Image counts per cell of a Web Mercator grid, z4-17, in total and by kind, and the ground covered.

    An image counts once at each zoom, in the cell that contains its centroid. Areas are measured on the WGS84
    ellipsoid. For z6 tiles in which nothing changed since the public build, its numbers are taken over.
    """
    clock = time.perf_counter()
    folder = scratch.folder("density_cells")
    tables = DensityTables.within(folder)
    taken_at = datetime.fromisoformat(stac_footprints.facts["snapshot"]["taken_at"])
    with failing_clearly(), TemporaryDirectory(dir=folder) as parts:
        before = public_density(context, releases, scratch)
        images, taken_over, counted_sheets = None, None, SHEETS
        if not isinstance(before, str):
            try:
                images, changed = changed_sheets(
                    before.footprints, stac_footprints.path, then=before.taken_at, taken_at=taken_at
                )
                taken_over, counted_sheets = TakenOver(before.tables, changed), int(changed.sum())
            except TooMuchChanged as error:
                before = f"{error}"
        counted = write_density(
            stac_footprints.path, tables, taken_at=taken_at, scratch=Path(parts), taken_over=taken_over
        )
    seconds = time.perf_counter() - clock
    how = f"all counted from scratch: {before}"
    if not isinstance(before, str):
        how = f"images changed: {images:,}; {counted_sheets:,} of {SHEETS:,} sheets are counted again"
    return dg.MaterializeResult(
        value=with_facts(
            stac_footprints,
            *tables.files,
            stage="density_cells",
            seconds=seconds,
            counted=counted.images,
            area_km2=counted.area_km2,
            covered_km2=counted.covered_km2,
            density={
                "recipe": density_recipe(),
                "from": None if isinstance(before, str) else before.build,
                "images_changed": images,
                "why_anew": before if isinstance(before, str) else None,
            },
        ),
        metadata={
            "images": counted.images,
            "dagster/row_count": counted.cells,
            "how": how,
            "zooms of cells": f"{FINER}-{DEEPEST}",
            "area_km2": round(counted.area_km2, 1),
            "covered_km2": round(counted.covered_km2, 1),
            "seconds": round(seconds, 2),
        },
    )

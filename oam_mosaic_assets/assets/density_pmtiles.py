"""The archive of the density grid, staged: private until it has passed its audit."""

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl
import shapely

from oam_mosaic_assets.assets.staged import staged_archive
from oam_mosaic_assets.assets.taking_over import public_build, public_density
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.density import years_of
from oam_mosaic_assets.core.density_tables import DensityTables
from oam_mosaic_assets.core.density_tiles import DensityBefore, density_metadata, write_density_archive
from oam_mosaic_assets.core.product import DENSITY
from oam_mosaic_assets.core.statistics import excluded_of
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged


@dg.asset(
    group_name="coverage",
    kinds={"pmtiles"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="1",
)
def density_pmtiles(
    context: dg.AssetExecutionContext,
    density_cells: Artifact,
    releases: dg.ResourceParam[Releases],
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """How many images lie where: layer `density`, z0-13, with a polygon and a centre point per cell.

    Tiles whose cells have not changed are taken over from the public build. Private until
    `published_mosaic` makes it public.
    """
    clock, facts = time.perf_counter(), density_cells.facts
    tables, counted = DensityTables.within(density_cells.path.parent), facts["density"]
    folder = scratch.folder(DENSITY.asset)
    archive = folder / DENSITY.name
    with failing_clearly():
        metadata = density_metadata(
            snapshot=facts["snapshot"]["digest"],
            taken_at=facts["snapshot"]["taken_at"],
            images=facts["counted"],
            excluded=excluded_of(facts),
            years=years_of(pl.scan_parquet(tables.kinds, glob=False)),
        )
        before = _before(context, releases, scratch, counted)
        made, reused = write_density_archive(
            tables,
            archive,
            metadata=metadata,
            scratch=folder,
            before=None if isinstance(before, str) else before,
        )
    return staged_archive(
        context,
        density_cells,
        archive,
        DENSITY,
        taken_over={
            "from": None if isinstance(before, str) else counted["from"],
            "images_changed": counted["images_changed"],
            "why_anew": before if isinstance(before, str) else None,
            "tiles_made": made,
            "tiles_reused": reused,
        },
        plan=counted["recipe"],
        versions={"GEOS": shapely.geos_version_string},
        clock=clock,
    )


def _before(
    context: dg.AssetExecutionContext, releases: Releases, scratch: Scratch, counted: Mapping[str, Any]
) -> DensityBefore | str:
    """The public build's grid, or why none of its tiles are taken over.

    Args:
        counted: the facts in which `density_cells` says how it counted.
    """
    if counted["why_anew"]:
        return str(counted["why_anew"])
    build = public_build(context, releases, scratch, DENSITY, plan=counted["recipe"])
    if isinstance(build, str):
        return build
    kept = public_density(context, releases, scratch)
    if isinstance(kept, str):
        return kept
    if (build.build, kept.build) != (counted["from"], counted["from"]):
        return f"{kept.build} became public after the images were counted"
    return DensityBefore(build.archive, kept.tables)

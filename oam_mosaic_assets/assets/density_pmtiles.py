"""The archive of the density grid, staged: nobody reads it before it is audited."""

import time

import dagster as dg
import polars as pl

from oam_mosaic_assets.assets.density_cells import KINDS
from oam_mosaic_assets.assets.staged import staged
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.density import years_of
from oam_mosaic_assets.core.density_tiles import density_metadata, write_density_archive
from oam_mosaic_assets.core.product import DENSITY
from oam_mosaic_assets.core.statistics import excluded_of
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
def density_pmtiles(density_cells: Artifact, scratch: Scratch) -> dg.MaterializeResult[Artifact]:
    """How many images lie where: layer `density`, z0-13, of each cell a polygon and its middle.

    Staged under its build's name and private until `published_mosaic` makes it public.
    """
    clock, facts = time.perf_counter(), density_cells.facts
    folder = scratch.folder(DENSITY.asset)
    archive, kinds = folder / DENSITY.name, density_cells.file(KINDS)
    with failing_clearly():
        metadata = density_metadata(
            snapshot=facts["snapshot"]["digest"],
            taken_at=facts["snapshot"]["taken_at"],
            images=facts["counted"],
            excluded=excluded_of(facts),
            years=years_of(pl.scan_parquet(kinds, glob=False)),
        )
        write_density_archive(density_cells.path, kinds, archive, metadata=metadata, scratch=folder)
    with open_archive(archive) as opened:
        tiles = opened.header["addressed_tiles_count"]
    metadata = {"images": facts["counted"], "tiles": tiles, "zooms": "0-13"}
    return staged(density_cells, DENSITY, archive, clock=clock, metadata=metadata)

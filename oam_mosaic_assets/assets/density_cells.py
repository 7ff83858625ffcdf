"""How many images lie where, and how much ground they cover: counted once for all that tells of it."""

import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from oam_mosaic_assets.core.artifact import Artifact, with_facts
from oam_mosaic_assets.core.density import DEEPEST, FINER
from oam_mosaic_assets.core.density_tables import write_density
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged

CELLS = "density_cells.parquet"
KINDS = "density_kinds.parquet"


@dg.asset(
    group_name="coverage",
    kinds={"parquet", "polars"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="1",
)
def density_cells(stac_footprints: Artifact, scratch: Scratch) -> dg.MaterializeResult[Artifact]:
    """Images by cells of a Web Mercator grid, z4-17, and by what is known of them; the ground they cover.

    An image counts once at each zoom, in the cell that its centroid lies in. Areas are on WGS84's ellipsoid.
    """
    clock = time.perf_counter()
    folder = scratch.folder("density_cells")
    cells, kinds = folder / CELLS, folder / KINDS
    with failing_clearly(), TemporaryDirectory(dir=folder) as parts:
        counted = write_density(
            stac_footprints.path,
            cells=cells,
            kinds=kinds,
            taken_at=datetime.fromisoformat(stac_footprints.facts["snapshot"]["taken_at"]),
            scratch=Path(parts),
        )
    seconds = time.perf_counter() - clock
    return dg.MaterializeResult(
        value=with_facts(
            stac_footprints,
            cells,
            kinds,
            stage="density_cells",
            seconds=seconds,
            counted=counted.images,
            area_km2=counted.area_km2,
            covered_km2=counted.covered_km2,
        ),
        metadata={
            "images": counted.images,
            "dagster/row_count": counted.cells,
            "zooms of cells": f"{FINER}-{DEEPEST}",
            "area_km2": round(counted.area_km2, 1),
            "covered_km2": round(counted.covered_km2, 1),
            "seconds": round(seconds, 2),
        },
    )

"""The catalogue in numbers, staged: private until they have passed their audit."""

import time
from shutil import copyfile
from typing import Final

import dagster as dg
import polars as pl

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.staged import staged
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.density import NAMED, totals_of
from oam_mosaic_assets.core.density_tables import DensityTables
from oam_mosaic_assets.core.product import STATISTICS
from oam_mosaic_assets.core.release import as_json
from oam_mosaic_assets.core.statistics import statistics_of
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged

SHEETS_COVERED: Final = "sheets_covered.parquet"
"""How much of each sheet is covered, for the audit; a copy, as each staged file belongs to one asset."""


@dg.asset(
    group_name="coverage",
    kinds={"json"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="2",
)
def catalog_statistics(
    density_cells: Artifact,
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """The number of images, in total and by kind, the area they cover, and the latest capture.

    Staged under its build's name and private until `published_mosaic` makes it public.
    """
    clock = time.perf_counter()
    folder = scratch.folder(STATISTICS.asset)
    document, sheets = folder / STATISTICS.name, folder / SHEETS_COVERED
    with failing_clearly():
        tables = DensityTables.within(density_cells.path.parent)
        kinds = totals_of(pl.scan_parquet(tables.kinds, glob=False))
        stated = statistics_of(
            density_cells.facts, kinds, build=density_cells.build, collection=mosaic_plan.collection
        )
        document.write_bytes(as_json(stated))
        copyfile(tables.sheets, sheets)
    return staged(
        density_cells,
        STATISTICS,
        document,
        sheets,
        clock=clock,
        metadata={  # numbers are plotted over time
            **{name: stated[name] for name in ("items", "area_km2", "covered_km2")},
            "latest_capture": stated["latest_capture"] or "unknown",
            **{f"catalog: {name}": count for name, count in stated["catalog"].items()},
            "excluded": stated["excluded"]["total"],
            # a kind without images any more drops to zero; with no number, the plot would have a gap
            **(dict.fromkeys(NAMED, 0) | stated["counts"]),
        },
    )

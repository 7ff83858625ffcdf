"""The footprints as tippecanoe reads them."""

import time

import dagster as dg

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.core.artifact import Artifact, with_facts
from oam_mosaic_assets.core.snapshot import write_geojson
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged


@dg.asset(
    group_name="coverage",
    kinds={"geojson", "polars"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="2",
)
def footprints_geojson(
    stac_footprints: Artifact, mosaic_plan: dg.ResourceParam[MosaicPlan], scratch: Scratch
) -> dg.MaterializeResult[Artifact]:
    """Newline-delimited GeoJSON, a footprint a line, the oldest first: the newest is drawn on top."""
    clock = time.perf_counter()
    with failing_clearly():
        geojson = scratch.folder("footprints_geojson") / "footprints.geojsonl"
        widened = write_geojson(stac_footprints.path, geojson, plan=mosaic_plan.tiling)
    seconds = time.perf_counter() - clock
    return dg.MaterializeResult(
        value=with_facts(
            stac_footprints, geojson, stage="footprints_geojson", seconds=seconds, widened=widened
        ),
        metadata={
            "dagster/row_count": stac_footprints.facts["images"],
            "widened to stay visible": widened,
            "seconds": round(seconds, 2),
        },
    )

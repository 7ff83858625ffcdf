"""Coverage tile by tile, staged: private until it has passed its audit."""

import dagster as dg

from oam_mosaic_assets.assets.covering import draw_coverage
from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.product import WHOLE
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged


@dg.asset(
    group_name="coverage",
    kinds={"numpy", "pmtiles"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="1",
)
def whole_coverage_pmtiles(
    context: dg.AssetExecutionContext,
    stac_footprints: Artifact,
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    progress: dg.ResourceParam[Progress],
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """Where imagery exists, as translucent raster tiles: every tile that a footprint overlaps, in full.

    z0-15 by default; all tiles share one picture, so it is tiny. Private until `published_mosaic`
    makes it public.
    """
    return draw_coverage(
        context,
        stac_footprints,
        WHOLE,
        mosaic_plan.whole,
        before="that takes only seconds",
        processes=mosaic_plan.processes,
        scratch=scratch,
        progress=progress,
    )

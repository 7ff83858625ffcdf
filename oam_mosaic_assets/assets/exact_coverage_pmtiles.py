"""Coverage pixel by pixel, staged: private until it has passed its audit."""

import dagster as dg

from oam_mosaic_assets.assets.covering import draw_coverage
from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.taking_over import public_build
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.product import EXACT
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
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
def exact_coverage_pmtiles(
    context: dg.AssetExecutionContext,
    stac_footprints: Artifact,
    releases: dg.ResourceParam[Releases],
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    progress: dg.ResourceParam[Progress],
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """Where imagery exists, as translucent raster tiles: every pixel that a footprint overlaps.

    z0-15 by default, for clients that only show raster tiles. Blocks of tiles in which nothing changed
    since the public build are taken over from it. Private until `published_mosaic` makes it public.
    """
    plan = mosaic_plan.exact
    with failing_clearly():
        before = public_build(context, releases, scratch, EXACT, plan=plan.digest())
    return draw_coverage(
        context,
        stac_footprints,
        EXACT,
        plan,
        before=before,
        processes=mosaic_plan.processes,
        scratch=scratch,
        progress=progress,
    )

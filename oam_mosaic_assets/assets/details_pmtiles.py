"""The archive of details, staged: private until it has passed its audit."""

import dagster as dg

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.tiling import make_tiles
from oam_mosaic_assets.assets.tiling_in_parts import in_parts
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.product import DETAILS
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource


@dg.asset(
    group_name="coverage",
    kinds={"tippecanoe", "pmtiles"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="2",
)
def details_pmtiles(
    context: dg.AssetExecutionContext,
    details_geojson: Artifact,
    stac_footprints: Artifact,
    releases: dg.ResourceParam[Releases],
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    progress: dg.ResourceParam[Progress],
    tippecanoe: TippecanoeResource,
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """What each image is: layer `globalcoverage` with title, licence, dates and addresses, z0-13.

    Tiles in which nothing changed since the public build are taken over from it. Staged under its build's
    name and private until `published_mosaic` makes it public.
    """
    return make_tiles(
        context,
        stac_footprints,
        details_geojson,
        DETAILS,
        mosaic_plan.details,
        releases=releases,
        tippecanoe=tippecanoe,
        scratch=scratch,
        progress=progress,
    )


details_in_parts = in_parts(details_pmtiles, "details_geojson", DETAILS, lambda plan: plan.details)
"""The same asset in several steps; see `BUILD_PARTS`."""

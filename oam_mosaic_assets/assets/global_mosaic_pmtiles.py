"""The archive of the mosaic itself, staged: private until it has passed its audit."""

import dagster as dg

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.tiling import make_tiles
from oam_mosaic_assets.assets.tiling_in_parts import in_parts
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.product import MOSAIC
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
def global_mosaic_pmtiles(
    context: dg.AssetExecutionContext,
    stac_footprints: Artifact,
    footprints_geojson: Artifact,
    releases: dg.ResourceParam[Releases],
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    progress: dg.ResourceParam[Progress],
    tippecanoe: TippecanoeResource,
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """Where imagery exists: layer `globalcoverage`, Web Mercator XYZ tiles (EPSG:3857), z0-15 by default.

    Tiles in which nothing changed since the public build are taken over from it. Staged under its build's
    name and private until `published_mosaic` makes it public.
    """
    return make_tiles(
        context,
        stac_footprints,
        footprints_geojson,
        MOSAIC,
        mosaic_plan.tiling,
        releases=releases,
        tippecanoe=tippecanoe,
        scratch=scratch,
        progress=progress,
    )


global_mosaic_in_parts = in_parts(
    global_mosaic_pmtiles, "footprints_geojson", MOSAIC, lambda plan: plan.tiling
)
"""The same asset in several steps; see `BUILD_PARTS`."""

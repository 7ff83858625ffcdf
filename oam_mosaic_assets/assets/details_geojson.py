"""The footprints with the details of each image, as input for tippecanoe."""

import dagster as dg

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.tiling import write_lines
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.product import DETAILS
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource


@dg.asset(
    group_name="coverage",
    kinds={"geojson", "polars"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="3",
)
def details_geojson(
    context: dg.AssetExecutionContext,
    stac_footprints: Artifact,
    releases: dg.ResourceParam[Releases],
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    tippecanoe: TippecanoeResource,
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """Newline-delimited GeoJSON, one feature per line with title, licence, dates and addresses.

    The oldest come first, so that the newest are drawn on top. Unknown values are left out. Holds all
    footprints, or only those that changed since the public build.
    """
    return write_lines(
        context,
        stac_footprints,
        scratch.folder("details_geojson") / "details.geojsonl",
        DETAILS,
        mosaic_plan.details,
        releases=releases,
        tippecanoe=tippecanoe,
        scratch=scratch,
    )

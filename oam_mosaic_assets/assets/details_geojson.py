"""The footprints with what is known of each image, as tippecanoe reads them."""

import dagster as dg

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.tiling import write_lines
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged


@dg.asset(
    group_name="coverage",
    kinds={"geojson", "polars"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="2",
)
def details_geojson(
    stac_footprints: Artifact, mosaic_plan: dg.ResourceParam[MosaicPlan], scratch: Scratch
) -> dg.MaterializeResult[Artifact]:
    """Newline-delimited GeoJSON, a footprint a line with its title, licence, dates and addresses.

    The oldest comes first: the newest is drawn on top. What is not known is left out.
    """
    return write_lines(
        stac_footprints,
        scratch.folder("details_geojson") / "details.geojsonl",
        mosaic_plan.details,
        stage="details_geojson",
    )

"""The images of one partition, read and combined: a step that any machine can run."""

import time
from typing import Final

import dagster as dg

from oam_mosaic_assets.assets.global_imagery_pmtiles import bring_up_to_date, in_words, told_of
from oam_mosaic_assets.core.imagery.blocks import Tile
from oam_mosaic_assets.errors import CatalogueRefused
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets.gateways.imagery_mosaic import PARTITIONS, ByPartition, ImageryMosaic
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch

IMAGERY_PARTITIONS: Final = dg.DynamicPartitionsDefinition(name=PARTITIONS)
"""The z6 tiles that contain images; `global_imagery_pmtiles` keeps the list up to date."""


@dg.asset(
    group_name="coverage",
    kinds={"pmtiles"},
    owners=["team:openaerialmap"],
    partitions_def=IMAGERY_PARTITIONS,
    code_version="1",
    op_tags={
        "dagster-k8s/config": {
            "container_config": {
                "resources": {
                    "requests": {"cpu": "1", "memory": "768Mi"},
                    "limits": {"cpu": "2", "memory": "1536Mi"},
                }
            }
        }
    },
)
def imagery_blocks(
    context: dg.AssetExecutionContext,
    imagery: dg.ResourceParam[ImageryMosaic],
    releases: dg.ResourceParam[Releases],
    progress: dg.ResourceParam[Progress],
    scratch: Scratch,
) -> dg.MaterializeResult[None]:
    """The pixels of one z6 tile, kept in the store for `global_imagery_pmtiles` to assemble.

    Takes its input from the store alone: the images of the public build. Those that the build could not read
    within its budget are read here without a budget, on as many machines as the backfill is spread over.
    """
    clock = time.perf_counter()
    tile = Tile.named(context.partition_key)
    with failing_clearly():
        current = releases.current()
        folder = scratch.folder("imagery_blocks")
        footprints = folder / "footprints.parquet"
        key = releases.keys.footprints(current[0].build) if current else ""
        if not current or releases.store.get_file(key, footprints) is None:
            raise CatalogueRefused(
                f"{releases.store.origin} has no public build whose images could be read.",
                hint="Publish a build first: job `global_mosaic`, or `oam-mosaic build`.",
            )
        with ByPartition(footprints, folder) as images:
            tally = bring_up_to_date(context, imagery, images, [tile], scratch, progress, budget=Budget())
    context.log.info("%s: %s", context.partition_key, in_words(tally, f"{tally.images:,} images"))
    return dg.MaterializeResult(metadata={**told_of(tally), "seconds": round(time.perf_counter() - clock, 2)})

"""The archive itself, staged: nobody reads it before it is audited."""

import time

import dagster as dg

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.published_mosaic import refuse_mixture
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.artifact import Artifact, sha256_of, with_facts
from oam_mosaic_assets.core.product import MOSAIC
from oam_mosaic_assets.resources.failures import failing_clearly
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
    footprints_geojson: Artifact,
    stac_footprints: Artifact,
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    progress: dg.ResourceParam[Progress],
    tippecanoe: TippecanoeResource,
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """Where imagery exists: layer `globalcoverage`, Web Mercator XYZ tiles (EPSG:3857), z0-15 by default.

    Staged under its build's name and private until `published_mosaic` makes it public.
    """
    clock, plan = time.perf_counter(), mosaic_plan.tiling
    with failing_clearly():
        refuse_mixture(footprints_geojson, stac_footprints)
        version = tippecanoe.version()
        archive = tippecanoe.build(
            plan,
            stac_footprints.path,
            footprints_geojson.path,
            scratch.folder("global_mosaic_pmtiles"),
            name=MOSAIC.name,
            snapshot=footprints_geojson.facts["snapshot"]["digest"],
            progress=progress,
            log=context.log,
        )
    with open_archive(archive) as opened:
        tiles, size, bounds = opened.header["addressed_tiles_count"], opened.size, opened.bounds
    seconds, digest = time.perf_counter() - clock, sha256_of(archive)
    build = footprints_geojson.build
    context.log.info("%s: %s tiles in %.1f MB", build, f"{tiles:,}", size / 1e6)
    artifact = with_facts(
        footprints_geojson,
        archive,
        stage="global_mosaic_pmtiles",
        seconds=seconds,
        digests={archive.name: digest},
        product={"tiles": tiles, "bytes": size, "sha256": digest, "bounds": bounds},
        plan=plan.digest(version),
        versions={"tippecanoe": version},
    )
    return dg.MaterializeResult(
        value=artifact,
        metadata={
            "images": artifact.facts["images"],
            "tiles": tiles,
            "zooms": f"{plan.zoom_min}-{plan.zoom_max}",
            "tippecanoe": version,
            "seconds": round(seconds, 2),
        },
        data_version=dg.DataVersion(digest[:16]),
    )

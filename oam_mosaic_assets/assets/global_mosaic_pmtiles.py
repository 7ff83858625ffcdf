"""The archive itself, staged: nobody reads it before it is audited."""

import time

import dagster as dg

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.published_mosaic import refuse_mixture
from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.artifact import Artifact, sha256_of, with_facts
from oam_mosaic_assets.core.product import MOSAIC
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.last_build import last_build
from oam_mosaic_assets.gateways.mosaic_tiles import Footprints
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource

BEFORE = "before"
"""The folder in scratch that holds the public build while a new one is made and audited."""


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

    Tiles that nothing changed in since the public build are taken over from it. Staged under its build's name
    and private until `published_mosaic` makes it public.
    """
    clock, plan = time.perf_counter(), mosaic_plan.tiling
    with failing_clearly():
        refuse_mixture(footprints_geojson, stac_footprints)
        version, snapshot = tippecanoe.version(), footprints_geojson.facts["snapshot"]
        archive = scratch.folder("global_mosaic_pmtiles") / MOSAIC.name
        before: Before | str = "the run was asked to"
        if ANEW_TAG not in context.run.tags:
            before = last_build(releases, scratch.shared_folder(BEFORE), plan=plan.digest(version))
        footprints = Footprints(
            table=stac_footprints.path,
            geojson=footprints_geojson.path,
            snapshot=snapshot["digest"],
            bounds=tuple(snapshot["bounds"]),
        )
        made = tippecanoe.build(plan, footprints, archive, before=before, progress=progress, log=context.log)
    with open_archive(archive) as opened:
        tiles, size, bounds = opened.header["addressed_tiles_count"], opened.size, opened.bounds
    seconds, digest = time.perf_counter() - clock, sha256_of(archive)
    build = footprints_geojson.build
    how = f"all made anew: {made.why_anew}"
    if isinstance(before, Before) and not made.why_anew:
        reused = f"{made.tiles_reused:,} taken over from {before.build}"
        how = f"{made.changed:,} images changed, {made.tiles_made:,} tiles made, {reused}"
    context.log.info("%s: %s tiles in %.1f MB, %s", build, f"{tiles:,}", size / 1e6, how)
    artifact = with_facts(
        footprints_geojson,
        archive,
        stage="global_mosaic_pmtiles",
        seconds=seconds,
        digests={archive.name: digest},
        product={"tiles": tiles, "bytes": size, "sha256": digest, "bounds": bounds},
        plan=plan.digest(version),
        taken_over={
            "from": before.build if isinstance(before, Before) and not made.why_anew else None,
            "tiles_made": made.tiles_made,
            "tiles_reused": made.tiles_reused,
            "images_changed": made.changed,
            "why_anew": made.why_anew or None,
        },
        versions={"tippecanoe": version},
    )
    return dg.MaterializeResult(
        value=artifact,
        metadata={
            "images": artifact.facts["images"],
            "tiles": tiles,
            "tiles made": made.tiles_made,
            "tiles reused": made.tiles_reused,
            "how": how,
            "zooms": f"{plan.zoom_min}-{plan.zoom_max}",
            "tippecanoe": version,
            "seconds": round(seconds, 2),
        },
        data_version=dg.DataVersion(digest[:16]),
    )

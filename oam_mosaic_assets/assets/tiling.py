"""What every archive that tippecanoe makes of the footprints has in common: its GeoJSON, its tiles."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from oam_mosaic_assets.assets.published_mosaic import refuse_mixture
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.artifact import Artifact, sha256_of, with_facts
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.snapshot import write_geojson
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.mosaic_tiles import Footprints
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource


def write_lines(
    footprints: Artifact,
    geojson: Path,
    plan: TilingPlan,
    *,
    stage: str,
    columns: Sequence[str] = ("id",),
    properties: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> dg.MaterializeResult[Artifact]:
    """Write the footprints as tippecanoe reads them; see `core.snapshot.write_geojson`.

    Args:
        footprints: of the snapshot.
        geojson: the file to write.
        plan: what is to be made of it.
        stage: the asset's name.
        columns: of the footprints, from which the properties are made.
        properties: of a feature.
    """
    clock = time.perf_counter()
    with failing_clearly():
        widened = write_geojson(footprints.path, geojson, plan=plan, columns=columns, properties=properties)
    seconds = time.perf_counter() - clock
    return dg.MaterializeResult(
        value=with_facts(footprints, geojson, stage=stage, seconds=seconds, widened=widened),
        metadata={
            "dagster/row_count": footprints.facts["images"],
            "widened to stay visible": widened,
            "seconds": round(seconds, 2),
        },
    )


def make_tiles(
    context: dg.AssetExecutionContext,
    footprints: Artifact,
    geojson: Artifact,
    product: Product,
    plan: TilingPlan,
    *,
    before: Before | str,
    tippecanoe: TippecanoeResource,
    scratch: Scratch,
    progress: Progress,
) -> dg.MaterializeResult[Artifact]:
    """Have the archive made that is a product.

    Args:
        context: of the product's asset.
        footprints: of the snapshot.
        geojson: the same as tippecanoe reads it.
        product: what it is.
        plan: how it is tiled.
        before: the public build to take tiles over from, or why none.
        tippecanoe: what makes it.
        scratch: where.
        progress: told how far it is.
    """
    clock = time.perf_counter()
    with failing_clearly():
        refuse_mixture(geojson, footprints)
        version, snapshot = tippecanoe.version(), geojson.facts["snapshot"]
        archive = scratch.folder(product.asset) / product.name
        shown = Footprints(
            table=footprints.path,
            geojson=geojson.path,
            snapshot=snapshot["digest"],
            bounds=tuple(snapshot["bounds"]),
        )
        made = tippecanoe.build(plan, shown, archive, before=before, progress=progress, log=context.log)
    with open_archive(archive) as opened:
        tiles, size, bounds = opened.header["addressed_tiles_count"], opened.size, opened.bounds
    seconds, digest = time.perf_counter() - clock, sha256_of(archive)
    how = f"all made anew: {made.why_anew}"
    if isinstance(before, Before) and not made.why_anew:
        reused = f"{made.tiles_reused:,} taken over from {before.build}"
        how = f"{made.changed:,} images changed, {made.tiles_made:,} tiles made, {reused}"
    context.log.info("%s: %s tiles in %.1f MB, %s", geojson.build, f"{tiles:,}", size / 1e6, how)
    artifact = with_facts(
        geojson,
        archive,
        stage=product.asset,
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

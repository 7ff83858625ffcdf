"""What all archives of the footprints have in common: their GeoJSON, their tiles, what they take over."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from oam_mosaic_assets.assets.published_mosaic import refuse_mixture
from oam_mosaic_assets.assets.staged import staged_archive
from oam_mosaic_assets.assets.taking_over import public_build
from oam_mosaic_assets.core.artifact import Artifact, with_facts
from oam_mosaic_assets.core.fragment import Fragment
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.snapshot import write_geojson
from oam_mosaic_assets.core.splice import Before, Splice, splice_from
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.last_build import BEFORE, kept_archive
from oam_mosaic_assets.gateways.mosaic_tiles import Footprints
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource

SPLICE = ".splice.npz"
"""Suffix of the file beside the GeoJSON that says which tiles to make; absent if all are made."""


def write_lines(
    context: dg.AssetExecutionContext,
    footprints: Artifact,
    geojson: Path,
    product: Product,
    plan: TilingPlan,
    *,
    releases: Releases,
    tippecanoe: TippecanoeResource,
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """Write tippecanoe's input: all footprints, or those that changed.

    Args:
        context: the context of the asset.
        footprints: the footprints of the snapshot.
        geojson: the file to write.
        product: which product is made from it.
        plan: how that is tiled.
        releases: where the public build is stored.
        tippecanoe: what draws them.
        scratch: where files go.
    """
    clock = time.perf_counter()
    with failing_clearly():
        recipe = plan.digest(tippecanoe.version())
        before = public_build(context, releases, scratch, product, plan=recipe)
        splice, files = splice_from(before, footprints.path, plan), [geojson]
        images = None
        if isinstance(splice, Splice):
            images = splice.images
            files.append(geojson.with_suffix(SPLICE))
            splice.save(files[-1])
        widened = write_geojson(footprints.path, geojson, plan=plan, images=images)
    seconds = time.perf_counter() - clock
    how = f"made from scratch: {splice}" if isinstance(splice, str) else f"images changed: {splice.changed:,}"
    taken_over: dict[str, Any] = {"from": None, "images_changed": None, "why_anew": splice}
    if isinstance(before, Before) and isinstance(splice, Splice):
        taken_over = {"from": before.build, "images_changed": splice.changed, "why_anew": None}
    stage = context.asset_key.path[-1]
    return dg.MaterializeResult(
        value=with_facts(footprints, *files, stage=stage, seconds=seconds, taken_over=taken_over),
        metadata={
            "dagster/row_count": footprints.facts["images"] if images is None else len(images),
            "how": how,
            "widened to stay visible": widened,
            "seconds": round(seconds, 2),
        },
    )


def make_tiles(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    footprints: Artifact,
    geojson: Artifact,
    product: Product,
    plan: TilingPlan,
    *,
    releases: Releases,
    tippecanoe: TippecanoeResource,
    scratch: Scratch,
    progress: Progress,
    fragments: Sequence[Fragment] = (),
    seconds_before: float = 0.0,
) -> dg.MaterializeResult[Artifact]:
    """Make the archive of a product; tiles in which nothing changed come from the public build.

    Args:
        context: the context of the product's asset.
        footprints: the footprints of the snapshot.
        geojson: what `write_lines` made from them.
        product: which product is made.
        plan: how it is tiled.
        releases: where the public build is stored.
        tippecanoe: what makes it.
        scratch: where files go.
        progress: receives the share done.
        fragments: all its tiles, if other steps have made them.
        seconds_before: how long those steps took, added up.
    """
    clock = time.perf_counter() - seconds_before
    with failing_clearly():
        refuse_mixture(geojson, footprints)
        version = tippecanoe.version()
        recipe, taken_over = plan.digest(version), geojson.facts["taken_over"]
        splice = before = None
        if taken_over["from"]:
            splice = splice_beside(geojson)
            before = _taken_from(taken_over["from"], releases, scratch, product, recipe)
        archive = scratch.folder(product.asset) / product.name
        shown = shown_by(footprints, geojson)
        if fragments:
            made = tippecanoe.merge(plan, shown, archive, fragments)
        else:
            made = tippecanoe.build(
                plan, shown, archive, splice=splice, before=before, progress=progress, log=context.log
            )
    return staged_archive(
        context,
        geojson,
        archive,
        product,
        taken_over={**taken_over, "tiles_made": made.tiles_made, "tiles_reused": made.tiles_reused},
        plan=recipe,
        versions={"tippecanoe": version},
        clock=clock,
    )


def splice_beside(geojson: Artifact) -> Splice:
    """What `write_lines` left beside the lines.

    Raises:
        TilingFailed: another version of this project wrote it.
    """
    try:
        return Splice.load(geojson.file(geojson.path.with_suffix(SPLICE).name))
    except KeyError:  # a run may be re-executed from failure by other code
        raise TilingFailed(
            f"{geojson.path.name} was written by another version of this project.",
            hint="Build again from the start: job `global_mosaic`, or `oam-mosaic build`.",
        ) from None


def shown_by(footprints: Artifact, geojson: Artifact) -> Footprints:
    """What is to be drawn.

    Args:
        footprints: the footprints of the snapshot.
        geojson: what `write_lines` made from them.
    """
    snapshot = geojson.facts["snapshot"]
    return Footprints(
        table=footprints.path,
        geojson=geojson.path,
        snapshot=snapshot["digest"],
        bounds=tuple(snapshot["bounds"]),
    )


def _taken_from(build: str, releases: Releases, scratch: Scratch, product: Product, recipe: str) -> Path:
    """The archive of the build that supplies every tile that is not remade; another may be public by now."""
    archive = kept_archive(releases, scratch.shared_folder(BEFORE), product, build, plan=recipe)
    if isinstance(archive, Path):
        return archive
    raise TilingFailed(
        f"{product.name} can no longer take over tiles from {build}: {archive}.",
        hint="Build again: the next build starts from what is public by then.",
    )

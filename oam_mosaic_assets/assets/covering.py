"""What both coverage archives have in common: they are drawn from the footprints, without tippecanoe."""

import time
from dataclasses import asdict

import dagster as dg
import shapely

from oam_mosaic_assets.assets.staged import staged_archive
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.coverage import Shown, make_coverage
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch


def draw_coverage(
    context: dg.AssetExecutionContext,
    footprints: Artifact,
    product: Product,
    plan: CoveragePlan,
    *,
    before: Before | str,
    processes: int,
    scratch: Scratch,
    progress: Progress,
) -> dg.MaterializeResult[Artifact]:
    """Draw the coverage archive of a product.

    Args:
        context: the context of the product's asset.
        footprints: the footprints of the snapshot.
        product: which product is drawn.
        plan: how it is drawn.
        before: the public build to take tiles over from, or why there is none.
        processes: how many draw in parallel; 0 means one per processor.
        scratch: where files go.
        progress: receives the share done.
    """
    clock = time.perf_counter()
    snapshot = footprints.facts["snapshot"]
    archive = scratch.folder(product.asset) / product.name
    said = f"z{plan.zoom_min}-{plan.zoom_max} of {product.name}"
    with failing_clearly():
        made = make_coverage(
            plan,
            Shown(footprints.path, snapshot["digest"], tuple(snapshot["bounds"])),
            archive,
            before=before,
            processes=processes,
            on_progress=lambda share: progress.step(context.log, "drawing", share, said),
        )
    came_from = before.build if isinstance(before, Before) and not made.why_anew else None
    return staged_archive(
        context,
        footprints,
        archive,
        product,
        taken_over={**asdict(made), "from": came_from, "why_anew": made.why_anew or None},
        plan=plan.digest(),
        versions={"GEOS": shapely.geos_version_string},
        clock=clock,
    )

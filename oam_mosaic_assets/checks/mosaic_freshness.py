"""Whether what is public is what we published, and recent enough; asks the store, not the event log."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dagster as dg

from oam_mosaic_assets.assets.plan import MosaicPlan
from oam_mosaic_assets.assets.published_mosaic import PUBLISHED
from oam_mosaic_assets.assets.stac_footprints import TAKEDOWN_TAG
from oam_mosaic_assets.core.freshness import judge_freshness
from oam_mosaic_assets.errors import MosaicError
from oam_mosaic_assets.gateways.catalogue.source import Catalogue
from oam_mosaic_assets.gateways.comparison import compare
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.takedowns import FINISH_TAKEDOWN
from oam_mosaic_assets.resources.failures import WHAT_TO_DO, failing_clearly
from oam_mosaic_assets.resources.scratch import Scratch

WHAT_HELPS: Final = (
    "Find out why no newer build was published (Dagster's UI shows it), or who else writes to the bucket; "
    "oam-mosaic status shows the current state."
)


@dg.asset_check(
    asset=PUBLISHED,
    name="mosaic_is_fresh",
    blocking=True,
    description="The public mosaic exists, is the one we published, and its snapshot is recent enough.",
)
def mosaic_is_fresh(
    context: dg.AssetCheckExecutionContext,
    mosaic_plan: dg.ResourceParam[MosaicPlan],
    releases: dg.ResourceParam[Releases],
    catalogue: dg.ResourceParam[Catalogue],
    scratch: Scratch,
) -> dg.AssetCheckResult:
    """Look at pointer, objects and catalogue. Blocking, so that a stale mosaic fails its run."""
    with failing_clearly():
        pointer, differences = releases.looked_at(context.log.info)
        hold = releases.holds.present()
        # a takedown searches the store once its run has ended
        unfinished = [] if TAKEDOWN_TAG in context.run.tags else releases.takedowns.unfinished()
    comparison = None
    if pointer and not pointer.is_comparable(catalogue.kind):
        context.log.info("The public mosaic shows another source, so it is not compared with the one set")
    elif pointer and mosaic_plan.box is None:  # the images in the box are not the whole catalogue
        try:
            comparison = compare(catalogue, releases, pointer, scratch=Path(scratch.root))
            if comparison is None:
                context.log.info("How many images the catalogue now holds is unknown: its API does not say")
        except MosaicError as error:
            context.log.warning("How many images the catalogue now holds is unknown: %s", error)
    verdict = judge_freshness(
        pointer,
        differences=differences,
        comparison=comparison,
        now=datetime.now(UTC),
        warn_hours=mosaic_plan.fresh_warn_hours,
        fail_hours=mosaic_plan.fresh_fail_hours,
        held=str(hold) if hold else "",
        not_gone=len(unfinished),
    )
    context.log.info(verdict.text)
    hint = FINISH_TAKEDOWN if verdict.is_late_only and unfinished else WHAT_HELPS
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN if verdict.is_late_only else dg.AssetCheckSeverity.ERROR,
        description=verdict.text,
        metadata={**({} if verdict.passed else {WHAT_TO_DO: hint}), **verdict.numbers},
    )

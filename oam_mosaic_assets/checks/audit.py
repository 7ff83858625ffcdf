"""The audit of a staged product, as asset checks that block the publication of the whole build."""

from collections.abc import Iterator, Mapping

import dagster as dg

from oam_mosaic_assets.assets.published_mosaic import refuse_mixture
from oam_mosaic_assets.assets.stac_footprints import TAKEDOWN_TAG
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.release import how_to_confirm
from oam_mosaic_assets.core.sizes import size_in_words
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.last_build import BEFORE, last_build
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.io_managers.object_store import CONFIRM_TAG
from oam_mosaic_assets.resources.auditor import Audit, Auditor
from oam_mosaic_assets.resources.failures import WHAT_TO_DO, failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch


def audit_of(product: Product, checks: Mapping[str, str]) -> dg.AssetChecksDefinition:
    """The checks of a product.

    Args:
        product: what its asset staged.
        checks: names of the checks, in the order they are made, with what each says.
    """
    asset = dg.AssetKey(product.asset)

    @dg.multi_asset_check(
        name=f"{product.word}_audit",
        description="Checks the staged product against the footprints, and against what it took over.",
        specs=[
            dg.AssetCheckSpec(
                name,
                asset=asset,
                blocking=True,
                description=description,
                additional_deps=["stac_footprints"],
            )
            for name, description in checks.items()
        ],
        ins={"staged": dg.AssetIn(asset), "footprints": dg.AssetIn("stac_footprints")},
    )
    def audited(
        context: dg.AssetCheckExecutionContext,
        staged: Artifact,
        footprints: Artifact,
        auditor: dg.ResourceParam[Auditor],
        releases: dg.ResourceParam[Releases],
        progress: dg.ResourceParam[Progress],
        scratch: Scratch,
    ) -> Iterator[dg.AssetCheckResult]:
        facts = staged.facts["product"]
        tiles = f"{facts['tiles']:,} tiles, " if "tiles" in facts else ""
        text = f"{product.name}, {tiles}{size_in_words(facts['bytes'])}"
        progress.step(context.log, "auditing", 0.0, text)
        with failing_clearly():
            refuse_mixture(staged, footprints)
            before = _taken_over(product, staged, releases, scratch)
            audit = auditor.of(
                product,
                staged,
                footprints,
                before=before,
                on_progress=lambda share: progress.step(context.log, "auditing", share, text),
            )
        confirmed = context.run.tags.get(CONFIRM_TAG)
        advice = _advice(
            audit,
            staged.build,
            is_takedown=TAKEDOWN_TAG in context.run.tags,
            is_taken_over=before is not None,
        )
        found = {verdict.name: verdict for verdict in audit.verdicts}
        for name in checks:
            # what a broken file left open has not been shown to be right
            verdict = found.get(name) or Verdict.failing(name, "not judged: another check failed")
            level = "info" if verdict.passed else "warning" if verdict.is_guard else "error"
            context.log.log(level, "%s: %s", name, verdict.text)
            overruled = not verdict.passed and verdict.is_guard and confirmed is not None
            yield dg.AssetCheckResult(
                check_name=name,
                asset_key=asset,
                passed=verdict.passed or overruled,
                severity=dg.AssetCheckSeverity.ERROR,
                description=f"{verdict.text}; confirmed: {confirmed}" if overruled else verdict.text,
                metadata={
                    **verdict.numbers,
                    **({} if verdict.passed or overruled else {WHAT_TO_DO: advice}),
                    "build": staged.build,
                    "seconds": audit.seconds,
                },
            )

    return audited


def _taken_over(product: Product, staged: Artifact, releases: Releases, scratch: Scratch) -> Before | None:
    """The build that tiles were taken over from, if it is still the public one."""
    build = staged.facts.get("taken_over", {}).get("from")
    if build is None:
        return None
    before = last_build(releases, scratch.shared_folder(BEFORE), product, plan=staged.facts["plan"])
    return before if isinstance(before, Before) and before.build == build else None


def _advice(audit: Audit, build: str, *, is_takedown: bool, is_taken_over: bool) -> str:
    """What a maintainer can do about a build that is not published."""
    if audit.failures:
        again = "repeat the takedown" if is_takedown else "build again"
        hint = " As tiles were taken over, oam-mosaic build --anew may pass." if is_taken_over else ""
        return f"Fix the cause and {again}.{hint} This build was deleted; the public mosaic stays as it was."
    return f"If this is as it should be, {how_to_confirm(None if is_takedown else build)}"

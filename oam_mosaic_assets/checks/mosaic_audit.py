"""The audit of the staged archive, as asset checks that block its publication."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from oam_mosaic_assets.assets.global_mosaic_pmtiles import BEFORE, global_mosaic_pmtiles
from oam_mosaic_assets.assets.published_mosaic import CONFIRM_TAG, refuse_mixture
from oam_mosaic_assets.assets.stac_footprints import stac_footprints
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.audit import CHECKS, Verdict
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.last_build import last_build
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.auditor import Audit, Auditor
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch

_SPECS = [
    dg.AssetCheckSpec(
        name,
        asset=global_mosaic_pmtiles.key,
        blocking=True,
        description=description,
        additional_deps=[stac_footprints.key],
    )
    for name, description in CHECKS.items()
]


@dg.multi_asset_check(
    name="mosaic_audit",
    specs=_SPECS,
    ins={"archive": dg.AssetIn(global_mosaic_pmtiles.key), "footprints": dg.AssetIn(stac_footprints.key)},
)
def mosaic_audit(
    context: dg.AssetCheckExecutionContext,
    archive: Artifact,
    footprints: Artifact,
    auditor: dg.ResourceParam[Auditor],
    releases: dg.ResourceParam[Releases],
    progress: dg.ResourceParam[Progress],
    scratch: Scratch,
) -> Iterator[dg.AssetCheckResult]:
    """Hold the staged archive against the footprints; what it took over, against the build it is of."""
    facts = archive.facts["archive"]
    text = f"{facts['tiles']:,} tiles, {facts['bytes'] / 1e6:.1f} MB"
    progress.step(context.log, "auditing", 0.0, text)
    with failing_clearly():
        refuse_mixture(archive, footprints)
        audit = auditor.of(
            archive,
            footprints,
            before=_taken_over(archive, releases, scratch.shared_folder(BEFORE)),
            on_progress=lambda share: progress.step(context.log, "auditing", share, text),
        )
        if audit.failures:  # it can never be published, by nobody
            releases.staged.discard(archive.build)
    confirmed = context.run.tags.get(CONFIRM_TAG)
    found = {verdict.name: verdict for verdict in audit.verdicts}
    for name in CHECKS:
        # what a broken archive left open was not found to be right
        verdict = found.get(name) or Verdict.failing(name, "not judged: the archive could not be read")
        level = "info" if verdict.passed else "warning" if verdict.is_guard else "error"
        context.log.log(level, "%s: %s", name, verdict.text)
        overruled = not verdict.passed and verdict.is_guard and confirmed is not None
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key=global_mosaic_pmtiles.key,
            passed=verdict.passed or overruled,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{verdict.text}; confirmed: {confirmed}" if overruled else verdict.text,
            metadata={
                **verdict.numbers,
                **({} if verdict.passed or overruled else {"what to do": _advice(audit, archive.build)}),
                "build": archive.build,
                "seconds": audit.seconds,
            },
        )


def _taken_over(archive: Artifact, releases: Releases, folder: Path) -> Before | None:
    """The build that the archive took tiles over from, as long as it is the public one."""
    if archive.facts["taken_over"]["from"] is None:
        return None
    before = last_build(releases, folder, plan=archive.facts["plan"])
    return (
        before if isinstance(before, Before) and before.build == archive.facts["taken_over"]["from"] else None
    )


def _advice(audit: Audit, build: str) -> str:
    """What a maintainer does about a build that is not published."""
    if audit.failures:
        return "Mend the cause and build again. This build was deleted; what is public stays as it was."
    return f"If that is right, say so: oam-mosaic publish {build} --confirm REASON"

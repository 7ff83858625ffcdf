"""What a failed run leaves in staging is taken away with it, unless a person may still publish it."""

import dagster as dg

from oam_mosaic_assets.errors import HeldBack, MosaicError
from oam_mosaic_assets.gateways.releases import Releases


@dg.failure_hook(required_resource_keys={"releases"})
def discard_staged(context: dg.HookContext) -> None:
    """Delete the staged objects of the build that this run was making."""
    releases: Releases = context.resources.releases
    failed = context.op_exception
    if isinstance(failed, dg.DagsterError):  # Dagster's own: a check said no
        return  # the audit itself discards what nobody may publish, and a guard's no a person may overrule
    if isinstance(failed, dg.Failure) and failed.metadata.get("kind") == dg.MetadataValue.text(
        HeldBack.__name__
    ):
        return
    records = context.instance.get_records_for_run(
        context.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    materializations = [each.asset_materialization for each in records]
    worked_on = {str(each.metadata["build"].value) for each in materializations if each}
    try:
        # a name may be claimed already, and nothing materialised yet
        for build in worked_on.union(releases.named_by(context.run_id)):
            releases.discard(build)
    except MosaicError as error:  # the failure itself must stay the one that is seen
        context.log.warning("What the run had staged could not be deleted yet: %s", error)

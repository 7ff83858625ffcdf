"""What a failed run leaves in staging is deleted, unless a person may still publish it."""

import logging
from typing import Final

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, WILL_RETRY_TAG  # not exported

from oam_mosaic_assets.core.audit import GUARDS
from oam_mosaic_assets.errors import HeldBack, MosaicError
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import INTERRUPTED, KIND

KEPT: Final = {"oam-mosaic/staged": "kept"}
"""Tag of a step whose failure leaves what is staged: other steps have done much of the asset's work, and a
run re-executed from the failure continues with it. Otherwise, the next publication sweeps it up."""

PLANNED: Final = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED

CANCELLED: Final = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


@dg.failure_hook(required_resource_keys={"releases"})
def discard_staged(context: dg.HookContext) -> None:
    """Delete the staged objects of the build that this run was making."""
    if context.op.tags.items() >= KEPT.items():
        return
    failed = context.op_exception
    if isinstance(failed, dg.DagsterError):  # Dagster's own: a check failed
        return  # what failed its audit is deleted when the run ends; a guard may be overruled by a person
    if isinstance(failed, dg.Failure) and failed.metadata.get(KIND) == dg.MetadataValue.text(
        HeldBack.__name__
    ):
        return
    _discard(context.run_id, context.instance, context.resources.releases, context.log)


def discard_at_the_end(context: dg.InitResourceContext) -> None:
    """Delete the same where no hook does: the run was stopped by a signal or from the UI, or an audit failed.

    Until then, the audits of other products may still need it. If a guard holds the build back instead,
    delete those that were held back before it. To be called when the run's resources are torn down: if steps
    are processes, after each of them.
    """
    if context.run is None or context.instance is None:
        return
    run, instance = context.run.run_id, context.instance
    logged = instance.all_logs(run, of_type={PLANNED, dg.DagsterEventType.ASSET_CHECK_EVALUATION})
    events = [each.dagster_event for each in logged if each.dagster_event]
    planned = [each.asset_check_planned_data for each in events if each.event_type is PLANNED]
    evaluations = [each.asset_check_evaluation_data for each in events if each.event_type is not PLANNED]
    is_wrong = any(
        each.blocking and not each.passed and each.check_name not in GUARDS and "build" in each.metadata
        for each in evaluations
    )
    releases = context.resources.releases
    if is_wrong or _is_cancelled(run, instance) or _is_stopped(context.run, instance):
        _discard(run, instance, releases, context.log)
        return
    products = {dg.AssetKey(each.asset) for each in releases.keys.products}
    audits = {each.asset_check_key for each in planned if each.asset_key in products}
    if not audits <= {each.asset_check_key for each in evaluations}:
        return  # a product may turn out to be wrong, or fail, which ends the build that is held back
    for each in evaluations:
        if each.blocking and not each.passed and each.check_name in GUARDS:
            _let_wait_alone(str(each.metadata["build"].value), releases, context.log)


def _let_wait_alone(build: str, releases: Releases, log: logging.Logger | None) -> None:
    try:
        releases.let_wait_alone(build)
    except MosaicError as error:  # the next build that is held back does it
        if log:
            log.warning("The builds that were held back before %s could not be deleted yet: %s", build, error)


def _is_cancelled(run: str, instance: dg.DagsterInstance) -> bool:
    """Whether somebody terminated it, and so wants nothing from it."""
    known = instance.get_run_by_id(run)
    return known is not None and known.status in CANCELLED


def _is_stopped(run: dg.DagsterRun, instance: dg.DagsterInstance) -> bool:
    """Whether a step without the tag `KEPT` was stopped; one with it may just have had its pod evicted."""
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    events = [each.dagster_event for each in failures if each.dagster_event]
    stopped = {
        str(event.node_handle)
        for event in events
        if (error := event.step_failure_data.error) and error.cls_name == INTERRUPTED
    }
    if not stopped:
        return False
    plan = instance.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
    kept = {each.node_handle_id for each in plan.steps if (each.tags or {}).items() >= KEPT.items()}
    return not stopped <= kept


def _is_retried(run: str, instance: dg.DagsterInstance) -> bool:
    """Whether a retry replaces this run, or will: it uses what is staged.

    Dagster took the run for dead, or ended it at its time limit; the daemon starts the retry later.
    """
    known = instance.get_run_by_id(run)
    if known is None or not known.is_failure:
        return False
    if known.tags.get(WILL_RETRY_TAG) == "true":
        return True
    return bool(instance.get_runs(dg.RunsFilter(tags={PARENT_RUN_ID_TAG: run}), limit=1))


def _discard(run: str, instance: dg.DagsterInstance, releases: Releases, log: logging.Logger | None) -> None:
    if _is_retried(run, instance):
        return
    records = instance.get_records_for_run(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    materializations = [each.asset_materialization for each in records]
    worked_on = {str(each.metadata["build"].value) for each in materializations if each}
    try:
        # a name may already be claimed before anything is materialised
        for build in worked_on.union(releases.staged.named_by(run)):
            releases.staged.discard(build)
    except MosaicError as error:  # the original failure must stay visible
        # if nothing was materialised there is little to delete, and this error may have stopped the run
        if log and worked_on:
            log.warning("What the run had staged could not be deleted yet: %s", error)

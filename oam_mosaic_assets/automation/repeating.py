"""A sensor that repeats a build that nobody watched and that failed for a reason that may pass by itself."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import RETRY_NUMBER_TAG, SCHEDULE_NAME_TAG  # not exported

from oam_mosaic_assets.automation.jobs import global_mosaic
from oam_mosaic_assets.resources.failures import stated_in

INTERVAL_SECONDS = 60

CHANGE_TAG = "oam-mosaic/change"
"""Tag of the runs that `follow_catalogue` starts, and of their repeats; names the change to build."""

REPEATS_TAG = "oam-mosaic/repeats"
"""Tag of the runs that this sensor starts; the id of the first run, which failed."""

ATTEMPTS = 3
"""How many runs there are in all."""

AGAIN_AFTER = timedelta(minutes=5)
"""Between the end of such a run and the next."""

_TOLD_BY = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}


@dg.sensor(
    job=global_mosaic,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a build again, twice at most, if the schedule or follow_catalogue had started it and "
    "it failed for a reason that may pass by itself, such as a server that was away.",
)
def repeat_failed_build(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look at the newest build; those before it no longer matter."""
    newest = context.instance.get_run_records(dg.RunsFilter(job_name=global_mosaic.name), limit=1)
    if not newest or not newest[0].dagster_run.is_failure:
        return dg.SkipReason("The newest build did not fail.")
    failed, due = newest[0].dagster_run, repeated_at(context.instance, newest[0])
    if due is None:
        return dg.SkipReason(f"Run {failed.run_id} failed; it is not repeated: see how it ended.")
    if datetime.now(UTC) < due:
        return dg.SkipReason(f"Run {failed.run_id} failed; it is repeated soon after {due:%H:%M} UTC.")
    change = {name: value for name, value in failed.tags.items() if name == CHANGE_TAG}
    return dg.RunRequest(run_key=failed.run_id, tags={REPEATS_TAG: _first_of(failed), **change})


def repeated_at(instance: dg.DagsterInstance, record: dg.RunRecord) -> datetime | None:
    """When a run is to be repeated, UTC; None if it is not, or has been already."""
    run = record.dagster_run
    if not run.is_failure or not _is_unwatched(run):
        return None
    repeats = _repeats_of(instance, run)
    # a run whose process died is retried by Dagster, with the same tags, which is no attempt of its own
    attempts = 1 + sum(not _is_retry(each) for each in repeats)
    if _has_later(repeats, run) or attempts >= ATTEMPTS or not may_have_passed(told_by(instance, run.run_id)):
        return None
    return ended_at(record) + AGAIN_AFTER


def is_repeated(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether another run has been started in its place."""
    return _has_later(_repeats_of(instance, run), run)


def ended_at(record: dg.RunRecord) -> datetime:
    """When a run ended, UTC."""
    return datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)


def told_by(instance: dg.DagsterInstance, run: str) -> list[dg.DagsterEvent]:
    """The events that tell what a run failed for."""
    return [each.dagster_event for each in instance.all_logs(run, of_type=_TOLD_BY) if each.dagster_event]


def may_have_passed(told: Iterable[dg.DagsterEvent]) -> bool:
    """Whether nothing that a run failed for needs a person.

    Args:
        told: what `told_by` found of that run.
    """
    said = list[bool]()
    for each in told:
        if each.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            if is_refusal(each.asset_check_evaluation_data):
                return False
        elif stated := stated_in(each):
            said.append(stated.rerun_may_help)
    return bool(said) and all(said)


def is_refusal(found: dg.AssetCheckEvaluation) -> bool:
    """Whether a check failed that blocks what comes after it."""
    return not found.passed and bool(found.blocking) and found.severity is dg.AssetCheckSeverity.ERROR


def _is_unwatched(run: dg.DagsterRun) -> bool:
    """Whether a build was started by no person, neither at first nor, with the same tags, once more."""
    is_ours = not run.tags.keys().isdisjoint({SCHEDULE_NAME_TAG, CHANGE_TAG, REPEATS_TAG})
    is_by_hand = bool(run.parent_run_id or run.get_parent_run_id()) and not _is_retry(run)
    return run.job_name == global_mosaic.name and is_ours and not is_by_hand


def _is_retry(run: dg.DagsterRun) -> bool:
    return RETRY_NUMBER_TAG in run.tags


def _first_of(run: dg.DagsterRun) -> str:
    return run.tags.get(REPEATS_TAG, run.run_id)


def _repeats_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterRun]:
    """The runs that repeat the first one, which this run is or repeats; the newest first."""
    tags = {REPEATS_TAG: _first_of(run)}
    return list(instance.get_runs(dg.RunsFilter(job_name=global_mosaic.name, tags=tags)))


def _has_later(repeats: Sequence[dg.DagsterRun], run: dg.DagsterRun) -> bool:
    return bool(repeats) and repeats[0].run_id != run.run_id

"""A sensor that repeats a build that nobody watched and that failed for a reason that may pass by itself."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import SCHEDULE_NAME_TAG  # not exported

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
    due = repeated_at(context.instance, newest[0]) if newest else None
    if due is None:
        return dg.SkipReason("The newest build is not one to be repeated.")
    failed = newest[0].dagster_run
    if datetime.now(UTC) < due:
        return dg.SkipReason(f"Run {failed.run_id} failed; it is repeated at {due:%H:%M} UTC.")
    change = {name: value for name, value in failed.tags.items() if name == CHANGE_TAG}
    return dg.RunRequest(run_key=failed.run_id, tags={REPEATS_TAG: _first_of(failed), **change})


def repeated_at(instance: dg.DagsterInstance, record: dg.RunRecord) -> datetime | None:
    """When a run is to be repeated, UTC; None if it is not, or has been already."""
    run = record.dagster_run
    if not run.is_failure or run.tags.keys().isdisjoint({SCHEDULE_NAME_TAG, CHANGE_TAG, REPEATS_TAG}):
        return None
    repeats = _repeats_of(instance, _first_of(run))
    is_last = not repeats or repeats[0].run_id == run.run_id
    if not is_last or len(repeats) >= ATTEMPTS - 1 or not _may_have_passed(instance, run.run_id):
        return None
    return ended_at(record) + AGAIN_AFTER


def is_repeated(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether another run has been started in its place."""
    repeats = _repeats_of(instance, _first_of(run))
    return bool(repeats) and repeats[0].run_id != run.run_id


def ended_at(record: dg.RunRecord) -> datetime:
    """When a run ended, UTC."""
    return datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)


def _first_of(run: dg.DagsterRun) -> str:
    return run.tags.get(REPEATS_TAG, run.run_id)


def _repeats_of(instance: dg.DagsterInstance, first: str) -> list[dg.DagsterRun]:
    """The runs in the place of a first one, the newest first."""
    return list(instance.get_runs(dg.RunsFilter(job_name=global_mosaic.name, tags={REPEATS_TAG: first})))


def _may_have_passed(instance: dg.DagsterInstance, run: str) -> bool:
    """Whether what a run failed for needs no person."""
    for each in instance.all_logs(run, of_type=dg.DagsterEventType.STEP_FAILURE):
        if each.dagster_event and (stated := stated_in(each.dagster_event)):
            return stated.rerun_may_help
    return False

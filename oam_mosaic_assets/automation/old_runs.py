"""Dagster keeps its records of runs for ever; those of old runs are deleted here. No build is touched."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage  # not exported

from oam_mosaic_assets.automation.jobs import (
    PLAIN_LOG,
    global_mosaic,
    mosaic_freshness,
    publish_held_build,
    rollback,
)

KEPT: Final = timedelta(days=90)
"""How long they are kept; as those of schedules and sensors, see `retention` in `dagster.yaml`."""

AT_ONCE: Final = 1_000
"""How many runs of a job are deleted at a time; the others are the next time."""

_ENDED: Final = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def delete_old_runs(context: dg.OpExecutionContext, now: datetime) -> int:
    """Delete the records and the output of runs that ended long ago; returns how many.

    Not of those that read partitions of imagery: these would count as missing.
    """
    jobs = (global_mosaic, publish_held_build, rollback, mosaic_freshness, old_runs)
    deleted = 0
    for job in jobs:
        old = dg.RunsFilter(job_name=job.name, statuses=_ENDED, updated_before=now - KEPT)
        for run in context.instance.get_runs(old, limit=AT_ONCE, ascending=True):
            try:
                _delete(context.instance, run.run_id)
            except Exception as error:  # noqa: BLE001  # a damaged file of one run must not keep all others
                context.log.warning(f"The records of the run {run.run_id} could not be deleted: {error}")
            else:
                deleted += 1
    return deleted


def _delete(instance: dg.DagsterInstance, run: str) -> None:
    instance.compute_log_manager.delete_logs(prefix=[run])
    instance.delete_run(run)
    events = instance.event_log_storage
    if isinstance(events, SqliteEventLogStorage):  # it empties the run's file, but leaves it as large
        Path(events.path_for_shard(run)).unlink(missing_ok=True)


@dg.op(out=dg.Out(dg.Nothing), description="Deletes Dagster's records of runs that ended 90 days ago.")
def forget(context: dg.OpExecutionContext) -> None:
    """Delete them, and say how many there were."""
    context.log.info("%s old runs deleted", delete_old_runs(context, datetime.now(UTC)))


@dg.job(
    description="Delete Dagster's records of runs that ended more than 90 days ago.",
    executor_def=dg.in_process_executor,
    config=PLAIN_LOG,
)
def old_runs() -> None:
    """Delete them in an op that belongs to no asset."""
    forget()

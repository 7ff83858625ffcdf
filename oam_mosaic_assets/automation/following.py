"""A sensor that follows the catalogue: it starts a build soon after something changed there."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg

from oam_mosaic_assets.automation.jobs import global_mosaic
from oam_mosaic_assets.automation.repeating import CHANGE_TAG, ended_at, may_have_passed, told_by
from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.errors import MosaicError, PublicationHeld
from oam_mosaic_assets.resources.failures import stated_in
from oam_mosaic_assets.resources.watch import Watch

INTERVAL_SECONDS = 30
"""Time between two looks. Each hashes the collection inside PostgreSQL: 0.1 s for 22,792 images."""

LONGEST_WAIT = timedelta(minutes=5)
"""A build starts when two looks in a row agree, or after this, so that a bulk upload causes few builds."""

MUCH_LATER = timedelta(hours=1)
"""After this, a change is asked for again whose runs all failed for a reason that may have passed by now."""

_AT_WORK = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def catalogue_sensor(*, is_on: bool) -> dg.SensorDefinition:
    """The sensor that follows the catalogue.

    Args:
        is_on: whether it runs from the start; it can be switched in the UI either way.
    """

    @dg.sensor(
        name="follow_catalogue",
        job=global_mosaic,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED,
        description="Starts a build when the catalogue's watermark moves: a new, changed or deleted image.",
    )
    def follow_catalogue(
        context: dg.SensorEvaluationContext, watch: dg.ResourceParam[Watch]
    ) -> dg.RunRequest | dg.SkipReason:
        at_work = context.instance.get_runs(
            dg.RunsFilter(job_name=global_mosaic.name, statuses=list(_AT_WORK)), limit=1
        )
        if at_work:
            return dg.SkipReason(f"Run {at_work[0].run_id} is in progress.")
        try:
            look = watch.look()
        except MosaicError as error:
            return dg.SkipReason(f"Cannot tell whether anything changed. {error}")
        if waits := look.waits or _waits(context, look.public, look.basis):
            return dg.SkipReason(waits)
        before = look.public and f"{look.public.build} of {look.public.published_at}"  # also after a rollback
        return _asked_for(context.instance, f"{look.basis} after {before or 'nothing'}")

    return follow_catalogue


def _asked_for(instance: dg.DagsterInstance, change: str) -> dg.RunRequest | dg.SkipReason:
    """A run for this change, unless it had one; `repeat_failed_build` repeats it if that may help.

    A hold may have stopped that run. It has ended since, as the sensor asks for none during a hold.
    """
    tags = {CHANGE_TAG: change}
    had = instance.get_run_records(dg.RunsFilter(job_name=global_mosaic.name, tags=tags), limit=1)
    if not had:
        return dg.RunRequest(run_key=change, tags=tags)
    last, due = had[0].dagster_run, ended_at(had[0]) + MUCH_LATER
    told = told_by(instance, last.run_id)
    may_help = last.is_failure and may_have_passed(told)
    if _was_held(told) or (may_help and datetime.now(UTC) >= due):
        return dg.RunRequest(run_key=f"{change} after {last.run_id}", tags=tags)
    later = f" It is built again at {due:%H:%M} UTC, if not before." if may_help else ""
    return dg.SkipReason(f"Run {last.run_id} was for this change; see how it ended.{later}")


def _was_held(told: Iterable[dg.DagsterEvent]) -> bool:
    """Whether a hold was what stopped a run."""
    return any(each is not None and each.kind == PublicationHeld.__name__ for each in map(stated_in, told))


def _waits(context: dg.SensorEvaluationContext, public: Pointer | None, basis: str) -> str:
    """Say why nothing is built now (empty if a build is due), and remember what was seen."""
    if public and public.basis == basis:
        context.update_cursor("")
        return f"{public.build} is up to date."
    now, seen = datetime.now(UTC), json.loads(context.cursor or "{}")
    since = datetime.fromisoformat(seen["since"]) if seen else now
    is_due = seen.get("basis") == basis or now - since >= LONGEST_WAIT
    # during an upload, what comes after this build is waited for just as long
    context.update_cursor(json.dumps({"basis": basis, "since": (now if is_due else since).isoformat()}))
    if is_due:
        return ""
    return f"The catalogue has been changing since {since:%H:%M:%S} UTC; waiting for it to settle."

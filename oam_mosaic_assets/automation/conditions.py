"""What is wrong now, according to Dagster's records: with the build, a held build, or what is public.

Nothing is remembered here: the same records always give the same answer. A terminated run does not count, nor
does a failed one that will be repeated; until then, the runs before it decide.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import product
from typing import Final

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState  # what the record holds; not exported
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from oam_mosaic_assets.assets.published_mosaic import PUBLISHED
from oam_mosaic_assets.automation.jobs import global_mosaic, mosaic_freshness
from oam_mosaic_assets.automation.repeating import ended_at, is_refusal, is_repeated, repeated_at
from oam_mosaic_assets.checks.mosaic_freshness import WHAT_HELPS, mosaic_is_fresh
from oam_mosaic_assets.core.alerts import Condition
from oam_mosaic_assets.core.audit import GUARDS
from oam_mosaic_assets.core.product import MOSAIC
from oam_mosaic_assets.core.release import build_name
from oam_mosaic_assets.errors import HeldBack
from oam_mosaic_assets.io_managers.object_store import BUILD
from oam_mosaic_assets.resources.failures import WHAT_TO_DO, root_of, stated_in

AT_A_TIME: Final = 25
"""Runs of a job, publications, or results of a check, read per query, newest first; as a rule the newest one
or two decide. Of runs before these many, only the logs of those that may have been held back are read."""

RETRY_GRACE: Final = timedelta(minutes=10)
"""After this, a run that is due but has not started is no longer waited for."""

LOOKS_WITHIN: Final = timedelta(hours=2)
"""If no look at the store is this recent, Dagster's freshness policy is asked, which only knows events."""

_TAG_DELAY: Final = timedelta(minutes=1)
"""Dagster records whether it will retry only after it has recorded that the run failed."""

_SEE_RUN: Final = "See the run's log in Dagster's UI."
_FRESH: Final = next(iter(mosaic_is_fresh.check_keys))
_TOLD_BY: Final = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
}


def conditions_of(instance: dg.DagsterInstance, *, now: datetime) -> list[Condition]:
    """Everything that is wrong now.

    Args:
        now: UTC.
    """
    return [*_builds(instance, now), *_freshness(instance, now)]


@dataclass(slots=True)
class _Failure:
    """Why a run failed.

    Attributes:
        text: what happened; quotes no exception messages but those of our own errors, which hold no secrets.
        kind: the class of our error; empty if it is not one of ours.
        checks: the blocking checks that failed.
        refusals: what these said.
        refused_advice: what the last of them advised.
    """

    text: str = ""
    advice: str = _SEE_RUN
    kind: str = ""
    build: str = ""
    checks: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    refused_advice: str = _SEE_RUN

    @property
    def is_held(self) -> bool:
        return self.kind == HeldBack.__name__ or (
            not self.kind and bool(self.checks) and self.checks <= GUARDS
        )

    @property
    def is_audit(self) -> bool:
        """Whether an audit failed. What is staged is then deleted, which ends steps that run beside it."""
        return bool(self.checks - GUARDS - {_FRESH.name})

    def note(self, found: dg.AssetCheckEvaluation) -> None:
        """Note a check, if it failed and blocks."""
        if not is_refusal(found):
            return
        self.checks.add(found.check_name)
        self.build = _build(found.metadata) or self.build
        self.refusals.append(f"{found.check_name}: {found.description}")
        self.refused_advice = _value(found.metadata, WHAT_TO_DO) or _SEE_RUN


def _builds(instance: dg.DagsterInstance, now: datetime) -> Iterator[Condition]:
    """`build` stands if the newest run failed; `held`, until that build or a newer one is published."""
    published, publisher = _published(instance)
    for number, record in enumerate(_failed(instance, now)):
        run = record.dagster_run
        if run.run_id != publisher and (
            any(_is_named_after(each, record) for each in published)
            or _is_retry_of_one(run, publisher, instance)
        ):
            return
        failure = _failure(instance, run.run_id)
        if failure.is_held and failure.build in published:
            return
        if failure.checks == {_FRESH.name}:  # published; `freshness` reports the rest
            return
        if not failure.is_held and number > 0:
            continue
        yield Condition(
            key="held" if failure.is_held else "build",
            since=ended_at(record),
            text=failure.text,
            advice=failure.advice,
            build=failure.build,
            run=run.run_id,
        )
        if failure.is_held:
            return


def _failed(instance: dg.DagsterInstance, now: datetime) -> Iterator[dg.RunRecord]:
    """The builds that failed since one succeeded, and count, newest first; of old ones, what may wait."""
    may_be_held = cache(partial(_may_be_held, instance))
    is_first = True
    for number, record in enumerate(_ended(instance, global_mosaic.name)):
        run = record.dagster_run
        if run.is_success and run.asset_selection and PUBLISHED not in run.asset_selection:
            continue  # somebody made only a part of the chain
        if run.is_success:
            return
        if number >= AT_A_TIME and not is_first and run.run_id not in may_be_held():
            continue
        if not _is_retried(instance, record, now):
            is_first = False
            yield record


def _freshness(instance: dg.DagsterInstance, now: datetime) -> Iterator[Condition]:
    """What is wrong with what is public, as of the last look at it."""
    looked_at = None
    if (last := _last_look(instance)) is not None:
        looked_at, run, found = last
        if not found.passed and found.severity is dg.AssetCheckSeverity.ERROR:
            yield _not_fresh(looked_at, found.description or "", build=_build(found.metadata), run=run)
            return
    looks = _ended(instance, mosaic_freshness.name)
    look = next((each for each in looks if not _is_retried(instance, each, now)), None)
    if look and look.dagster_run.is_failure and (not looked_at or ended_at(look) > looked_at):
        failure, run = _failure(instance, look.dagster_run.run_id), look.dagster_run.run_id
        text = f"It could not be checked. {failure.text}"
        yield _not_fresh(ended_at(look), text, advice=failure.advice, run=run)
        return
    state = instance.get_freshness_state_records([PUBLISHED]).get(PUBLISHED)
    if (
        state
        and state.freshness_state is FreshnessState.FAIL
        and (not looked_at or now - looked_at > LOOKS_WITHIN)
    ):
        yield _not_fresh(
            state.updated_at,
            "Dagster has recorded no publication within FRESH_FAIL_HOURS, and nothing checks the store.",
        )


def _last_look(instance: dg.DagsterInstance) -> tuple[datetime, str, dg.AssetCheckEvaluation] | None:
    """When what is public was last looked at, in which run, and what was found.

    Dagster lists looks in the order in which their runs began. A build looks last of all, after those that
    others took while it was made.
    """
    records = instance.event_log_storage.get_asset_check_execution_history(
        _FRESH, limit=AT_A_TIME, status=set(COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES)
    )
    looks = [
        (datetime.fromtimestamp(each.event.timestamp, UTC), each.run_id, each.event.dagster_event)
        for each in records
        if each.event is not None and each.event.dagster_event is not None
    ]
    if not looks:
        return None
    looked_at, run, event = max(looks, key=lambda look: look[0])
    return looked_at, run, event.asset_check_evaluation_data


def _not_fresh(
    since: datetime, text: str, *, advice: str = WHAT_HELPS, build: str = "", run: str = ""
) -> Condition:
    return Condition(key="freshness", since=since, text=text, advice=advice, build=build, run=run)


def _may_be_held(instance: dg.DagsterInstance) -> set[str]:
    """The builds that a guard stopped, and those that of late came as far as publication, which may stop too.

    Dagster keeps the results of checks together; a run's log, which says more, is its own file on SQLite.
    """
    guards = [dg.AssetCheckKey(dg.AssetKey(MOSAIC.asset), each) for each in GUARDS]
    wanted = [{AssetCheckExecutionRecordStatus.FAILED}, {AssetCheckExecutionRecordStatus.SUCCEEDED}]
    history = instance.event_log_storage.get_asset_check_execution_history
    return {
        each.run_id
        for key, status in product(guards, wanted)
        for each in history(key, AT_A_TIME, status=status)
    }


def _ended(instance: dg.DagsterInstance, job: str) -> Iterator[dg.RunRecord]:
    """The finished runs of a job, newest first."""
    filters = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
    last = None
    while records := instance.get_run_records(filters, limit=AT_A_TIME, cursor=last):
        yield from records
        last = records[-1].dagster_run.run_id


def _is_retried(instance: dg.DagsterInstance, record: dg.RunRecord, now: datetime) -> bool:
    """Whether another run replaces one that failed, or will."""
    run, ago = record.dagster_run, now - ended_at(record)
    if run.is_success:
        return False
    if is_repeated(instance, run):
        return True
    if (due := repeated_at(instance, record)) is not None:
        return now < due + RETRY_GRACE
    if not instance.run_retries_enabled or run.remote_job_origin is None:  # such as one of `oam-mosaic build`
        return False
    if AUTO_RETRY_RUN_ID_TAG in run.tags:
        return True
    promised = run.tags.get(WILL_RETRY_TAG)
    return ago < _TAG_DELAY if promised is None else promised == "true" and ago < RETRY_GRACE


def _published(instance: dg.DagsterInstance) -> tuple[list[str], str]:
    """The builds published of late, as the last may have been rolled back since; and the run of the last."""
    records = instance.fetch_materializations(PUBLISHED, limit=AT_A_TIME).records
    builds = (_build(each.asset_materialization.metadata) for each in records if each.asset_materialization)
    return [each for each in builds if each], records[0].run_id if records else ""


def _is_named_after(build: str, record: dg.RunRecord) -> bool:
    """Whether a build is newer than a run: its name gives a later second than the run was created in."""
    stamp, _, _ = build_name(_utc(record.create_timestamp), "").partition("-")
    return build.partition("-")[0] > stamp


def _is_retry_of_one(run: dg.DagsterRun, publisher: str, instance: dg.DagsterInstance) -> bool:
    """Whether a run and the publisher retry the same run, or one retries the other: they made one build."""
    if not publisher or (publishing := instance.get_run_by_id(publisher)) is None:
        return False
    return (run.root_run_id or run.run_id) == (publishing.root_run_id or publisher)


def _failure(instance: dg.DagsterInstance, run: str) -> _Failure:
    """Read why a run failed."""
    failure = _Failure()
    unknown = ending = ""
    for entry in instance.all_logs(run, of_type=_TOLD_BY):
        event = entry.dagster_event
        if event is None:
            continue
        if event.is_step_materialization:
            metadata = event.step_materialization_data.materialization.metadata
            failure.build = _build(metadata) or failure.build
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            failure.note(event.asset_check_evaluation_data)
        elif event.is_step_failure:
            error = event.step_failure_data.error
            if stated := stated_in(event):
                failure.kind, failure.text, failure.advice = stated.kind, stated.text, stated.advice
            elif error is not None and not failure.refusals:
                unknown = f"The step {event.step_key} failed with {root_of(error).cls_name}."
        elif event.is_run_failure:
            ending = (event.message or "").partition("\n")[0]
    if failure.refusals and (not failure.text or failure.is_audit):
        failure.kind, failure.advice = "", failure.refused_advice
        failure.text = "\n".join(failure.refusals)
    failure.text = failure.text or unknown or ending
    return failure


def _value(metadata: Mapping[str, dg.MetadataValue], name: str) -> str:
    return str(metadata[name].value) if name in metadata else ""


def _build(metadata: Mapping[str, dg.MetadataValue]) -> str:
    return _value(metadata, BUILD)


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)

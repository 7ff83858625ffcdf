"""The commands that run a Dagster job, in this process, against the instance that the UI shows."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef  # `DagsterInstance.get` takes no overrides
from dagster._core.storage.tags import MAX_RETRIES_TAG  # not exported
from rich.console import Console

from oam_mosaic_assets.assets.published_mosaic import PUBLISHED
from oam_mosaic_assets.assets.rollback import REASON_TAG
from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG, TAKEDOWN_TAG, UNCHANGED
from oam_mosaic_assets.automation.jobs import PLAIN_LOG, global_mosaic, imagery_partitions, rollback
from oam_mosaic_assets.automation.processes import this_process
from oam_mosaic_assets.automation.run_launcher import PROCESS_TAG
from oam_mosaic_assets.cli import kind_of
from oam_mosaic_assets.cli.releases import announcement
from oam_mosaic_assets.cli.terminal import LinesAbove, TerminalProgress
from oam_mosaic_assets.core.audit import GUARDS
from oam_mosaic_assets.core.product import IMAGERY
from oam_mosaic_assets.core.sizes import size_in_words
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.errors import AuditFailed, HeldBack, Passing, SettingsError
from oam_mosaic_assets.gateways.from_settings import store_of
from oam_mosaic_assets.gateways.imagery_mosaic import PARTITIONS
from oam_mosaic_assets.io_managers.object_store import BUILD_TAG, CONFIRM_TAG
from oam_mosaic_assets.resources.failures import INTERRUPTED, WHAT_TO_DO, cause_of, stated_in
from oam_mosaic_assets.resources.progress import LoggedProgress, Progress
from oam_mosaic_assets.resources.records import recording_clearly
from oam_mosaic_assets.settings import Settings

LOCATION_TAG = ".dagster/repository"
LOCATION = "__repository__@oam-mosaic"
"""Makes the UI list the run under its job: the only repository of the location that workspace.yaml names."""

BY_HAND: Mapping[str, str] = {LOCATION_TAG: LOCATION, MAX_RETRIES_TAG: "0"}
"""Tags of every run that a command starts. Its user sees it fail, so the daemon must not retry it."""

LONGEST_PARTITION = "604800"
"""A week, in seconds: longer than it takes to read a partition from slow hosts."""

PLAIN_INSTANCE: Mapping[str, Any] = {"telemetry": {"enabled": False}, "nux": {"enabled": False}}
"""The instance's settings if neither its home nor the current folder has a `dagster.yaml`. They are not kept
there: a daemon needs more, and `scripts/ui` leaves a file that it finds as it is."""

WRITTEN = (
    ".",
    "history",
    "history/runs",
    "history/runs.db",
    "history/runs/index.db",
    "schedules/schedules.db",
)
"""What Dagster writes to if its home holds its records; checked first, as its own error would be SQLite's."""

UNCAPTURED: Mapping[str, Any] = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}
"""Turns off Dagster's capture of standard output and error: a command's output is for its user, and each of
the processes that Dagster starts to capture it would print a traceback at Ctrl-C."""

UNPOOLED: Mapping[str, Any] = {"concurrency": {"pools": {"granularity": "run"}}}
"""Makes Dagster look at pools only when it takes a run from its queue, where no command's run ever is. A slot
that a command held would stay taken for hours if the command was killed where the daemon cannot see it, and
nothing else could be published; the lock in the store keeps publishers apart, and expires by itself."""


def run_job(
    job: str,
    *,
    confirm: str | None = None,
    build: str | None = None,
    reason: str | None = None,
    is_takedown: bool = False,
    anew: bool = False,
    partition: str | None = None,
) -> int:
    """Run a job to its end and report the outcome.

    Args:
        job: the job's name.
        confirm: why a person lets the build pass the guards.
        build: the earlier build to work on.
        reason: why a rollback is made.
        is_takedown: an image has to go from what is public.
        anew: build even if nothing changed.
        partition: the imagery partition, for the job that reads one.

    Returns:
        The exit code.
    """
    settings = Settings.read()
    stated = {
        CONFIRM_TAG: confirm,
        BUILD_TAG: build,
        REASON_TAG: reason,
        TAKEDOWN_TAG: "yes" if is_takedown else None,
        ANEW_TAG: "yes" if anew else None,
        PROCESS_TAG: this_process(),
        dg.MAX_RUNTIME_SECONDS_TAG: _time_limit(settings, job),
    }
    tags = {**BY_HAND, **{name: value for name, value in stated.items() if value}}
    # a stream of its own: line-buffered and UTF-8, however standard error is set up
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, encoding="utf-8") as stream:
        console = Console(file=stream, highlight=False, soft_wrap=True, markup=False)
        for line in announcement(settings, reads_catalogue=job == global_mosaic.name):
            console.print(line)
        console.print()
        log_to = LinesAbove(console) if console.is_terminal else stream
        home = settings.dagster_home.absolute()
        with recording_clearly(home), instance_at(home) as instance, _progress(console) as progress:
            # parts gain nothing here: one process would run them one after another
            in_here = settings.model_copy(update={"build_parts": 0, "build_executor": "in_process"})
            definitions = build_definitions(in_here, log_to=log_to, progress=progress)
            if partition:  # the build that found it may be recorded in another instance
                instance.add_dynamic_partitions(PARTITIONS, [partition])
            try:
                result = definitions.resolve_job_def(job).execute_in_process(
                    instance=instance,
                    tags=tags,
                    run_config=PLAIN_LOG,
                    raise_on_error=False,
                    partition_key=partition,
                )
            except dg.DagsterExecutionInterruptedError:  # before the first step
                raise KeyboardInterrupt from None
        if published := _published(result):
            _report(console, settings, published, result.run_id)
        return 0 if result.success else _explain(console, result, is_public=bool(published))


def instance_at(home: Path) -> dg.DagsterInstance:
    """The Dagster instance whose records the UI shows, set up for a command.

    Raises:
        SettingsError: its folder cannot be used, or its `dagster.yaml` is wrong.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        kept, given = home / "dagster.yaml", Path("dagster.yaml")
        if not kept.exists() and given.exists():  # Dagster reads its settings only from its home
            kept.write_bytes(given.read_bytes())
        os.environ["DAGSTER_HOME"] = str(home)
        ref = _configured(home, {} if kept.exists() else PLAIN_INSTANCE)
        keeps_records_here = ref.storage_data and ref.storage_data.class_name == "DagsterSqliteStorage"
        for path in map(home.joinpath, WRITTEN if keeps_records_here else ()):
            if path.exists() and not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    except OSError as error:
        where = "" if error.filename in {None, str(home)} else f": {error.filename}"
        what = "it is a file, not a folder" if home.is_file() else error.strerror
        raise SettingsError(
            f"DAGSTER_HOME, {home}, cannot be used: {what}{where}.",
            hint="Give this user write access there, or set DAGSTER_HOME to another folder.",
        ) from None
    return dg.DagsterInstance.from_ref(ref)


def _configured(home: Path, plain: Mapping[str, Any]) -> InstanceRef:
    """What the instance is made from: `dagster.yaml` in its home, or `plain` if there is none."""
    logging.getLogger("dagster").addFilter(_is_no_advice_to_make_one)
    try:
        return InstanceRef.from_dir(str(home), overrides={**plain, **UNCAPTURED, **UNPOOLED})
    except OSError:
        raise
    except Exception as error:  # of YAML, of Dagster, or `UnicodeDecodeError`
        why = " ".join(str(error).partition(" Expected: ")[0].split())  # after it, Dagster lists all there is
        raise SettingsError(
            f"{home / 'dagster.yaml'} cannot be used: {why}",
            hint="Correct it, or delete it: then that of the current folder counts, if there is one.",
        ) from error


def _is_no_advice_to_make_one(record: logging.LogRecord) -> bool:
    """Drops Dagster's advice to create a `dagster.yaml`: commands do without one on purpose."""
    return "No dagster instance configuration file" not in record.getMessage()


def _time_limit(settings: Settings, job: str) -> str | None:
    """The seconds after which the daemon ends this run, `0` for never; None leaves that to its own limit.

    That is too short for a run that may read images for as long as it takes: a build without a budget, or a
    partition, to which none applies. Others keep it: nothing else ends a run whose command was killed where
    the daemon cannot see it.
    """
    if job == imagery_partitions.name:
        return LONGEST_PARTITION
    reads_images = IMAGERY in settings.keys.products and job == global_mosaic.name
    return "0" if reads_images and settings.imagery_budget_hours is None else None


def _progress(console: Console) -> AbstractContextManager[Progress]:
    return TerminalProgress(console) if console.is_terminal else nullcontext(LoggedProgress())


def _published(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    """The metadata of what this run published; empty if it published nothing."""
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key == PUBLISHED:
            metadata = event.step_materialization_data.materialization.metadata
            return {name: value.value for name, value in metadata.items()}
    return {}


def _report(console: Console, settings: Settings, published: Mapping[str, Any], run: str) -> None:
    if UNCHANGED in published:
        console.print(
            f"\nNothing changed since {published['build']}, which stays public: {published['counts']}.\n"
            f"It is up to date with the catalogue as of {published['snapshot']}.\n\n"
            f"  archive   {published['address']}\n"
            f"  run       {run}, in Dagster's UI\n"
        )
        return
    is_rollback = "reason" in published
    done = f"Rolled back from {published['rolled back from']} to" if is_rollback else "Published"
    console.print(
        f"\n{done} {published['build']}: {published['counts']}, {size_in_words(published['bytes'])}\n\n"
        f"  archive   {published['address']}\n"
        f"  TileJSON  {store_of(settings).public_address(settings.keys.tilejson)}\n"
        f"  manifest  {published['manifest']}\n"
        f"  run       {run}, in Dagster's UI\n"
    )
    if is_rollback:
        console.print("Publication is held: no later build becomes public until `oam-mosaic resume`.\n")


def _explain(console: Console, result: dg.ExecuteInProcessResult, *, is_public: bool) -> int:
    """Print why a run failed; returns the exit code."""
    outcome = "Not rolled back" if result.job_def.name == rollback.name else "Not published"
    if is_public:
        outcome = "It is public, but could not be checked afterwards"
    cause = ""
    for event in result.all_events:
        if event.is_run_failure and event.job_failure_data.error is not None:
            cause = cause or cause_of(event.job_failure_data.error)
        if not event.is_step_failure:
            continue
        error = event.step_failure_data.error
        if error is not None and error.cls_name == INTERRUPTED:
            # Dagster has recorded it; the command ends like any other that is stopped
            raise KeyboardInterrupt(event.step_key)
        if stated := stated_in(event):
            told = f"{outcome}: {stated.text}\n\nWhat to do: {stated.advice}\n\n{kind_of(stated.kind)}"
            console.print(f"\n{told}")
            return stated.exit_code
        if error is not None:
            cause = f"an error in {event.step_key}: {cause_of(error)}"
    failed = [each for each in result.get_asset_check_evaluations() if not each.passed and each.blocking]
    if failed:
        return _explain_checks(console, failed, is_public=is_public)
    cause = cause or "something else went wrong"
    console.print(f"\n{outcome}: {cause}\n\nSee the log of run {result.run_id} in Dagster's UI.")
    return 1


def _explain_checks(console: Console, failed: Sequence[dg.AssetCheckEvaluation], *, is_public: bool) -> int:
    """Print which checks failed and what that means; returns the exit code."""
    are_guards = {each.check_name for each in failed} <= GUARDS
    if is_public:
        outcome = "It is public, but the check of what the store now holds failed"
    elif are_guards:
        outcome = "Not published: the build is held back until a person decides; nothing public has changed"
    else:
        outcome = "Not published: the audit failed; nothing public has changed"
    console.print(f"\n{outcome}.\n")
    for each in failed:
        console.print(f"  {each.check_name}: {each.description}")
    if is_public:
        return Passing.exit_code
    kind = HeldBack if are_guards else AuditFailed
    advice = [
        each.metadata[WHAT_TO_DO].value
        for each in failed
        if (each.check_name in GUARDS) == are_guards and WHAT_TO_DO in each.metadata
    ]
    if advice:
        console.print(f"\nWhat to do: {advice[0]}")
    console.print(f"\n{kind_of(kind.__name__)}")
    return kind.exit_code

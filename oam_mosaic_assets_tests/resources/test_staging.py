"""What a failed run leaves in staging is deleted with it, unless another run continues from it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_plan
from dagster._core.storage.tags import MAX_RETRIES_TAG, PARENT_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test

from oam_mosaic_assets.automation.jobs import PLAIN_LOG
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.product import DETAILS, MOSAIC
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.auditor import Auditor, of_footprints
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import Site, dagster_instance, quick_folder, some_items, write_items


@dataclass(slots=True)
class TakenForDead:
    """Marks the run as failed while it is publishing, as the daemon does, then makes it fail by itself."""

    instance: dg.DagsterInstance
    is_retried: bool

    def step(self, log: logging.Logger, stage: str, share: float | None, text: str) -> None:  # noqa: ARG002
        if stage != "publishing":
            return
        (run,) = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        self.instance.report_run_failed(run)
        if self.is_retried:
            create_run_for_test(
                self.instance,
                job_name=run.job_name,
                parent_run_id=run.run_id,
                root_run_id=run.run_id,
                tags={PARENT_RUN_ID_TAG: run.run_id},
            )
        raise StoreUnavailable("the store is gone")


@pytest.mark.parametrize("is_retried", [True, False])
def test_what_a_retry_works_on_with_is_not_taken_away_by_the_run_that_counts_as_failed(
    is_retried: bool,  # noqa: FBT001  # pytest passes it by name
) -> None:
    with quick_folder() as folder, dagster_instance() as instance:
        site = Site({"STAC_ITEMS": str(folder / "items.ndjson")}, instance, folder)
        write_items(site.items, some_items(30))
        progress = TakenForDead(instance, is_retried)
        outcome = site.run(progress=progress, tags={MAX_RETRIES_TAG: "0"})
        assert "the store is gone" in outcome.text
        staged = [each.key for each in site.store.keys(site.keys.staging_root)]
    assert any(key.endswith("/global-mosaic.pmtiles") for key in staged) is is_retried
    assert bool(staged) is is_retried


@dataclass(slots=True)
class EndedByTheDaemon:
    """Marks the run as failed while it is publishing, and interrupts it, as the daemon does in the end."""

    instance: dg.DagsterInstance

    def step(self, log: logging.Logger, stage: str, share: float | None, text: str) -> None:  # noqa: ARG002
        if stage != "publishing":
            return
        (run,) = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        self.instance.report_run_failed(run, "Exceeded maximum runtime of 21600 seconds.")
        raise dg.DagsterExecutionInterruptedError


@pytest.mark.parametrize(("retries", "will_be_retried"), [("1", "true"), ("0", "false")])
def test_what_a_run_had_staged_that_is_ended_at_its_time_limit_is_left_to_the_retry_to_come(
    retries: str, will_be_retried: str
) -> None:
    with quick_folder() as folder, dagster_instance() as instance:
        site = Site({"STAC_ITEMS": str(folder / "items.ndjson")}, instance, folder)
        write_items(site.items, some_items(30))
        outcome = site.run(progress=EndedByTheDaemon(instance), tags={MAX_RETRIES_TAG: retries})
        run = instance.get_run_by_id(outcome.run_id)
        assert run is not None
        assert (run.status, run.tags[WILL_RETRY_TAG]) == (dg.DagsterRunStatus.FAILURE, will_be_retried)
        staged = [each.key for each in site.store.keys(site.keys.staging_root)]
    is_kept = will_be_retried == "true"
    assert any(key.endswith("/global-mosaic.pmtiles") for key in staged) is is_kept
    assert bool(staged) is is_kept


def run_by_steps(site: Site, *steps: str, **resources: Any) -> None:
    """Make a build step by step, each with resources of its own, as if each were a process."""
    job = build_definitions(Settings.read(site.environment), **resources).resolve_job_def("global_mosaic")
    run = site.instance.create_run_for_job(job, run_config=PLAIN_LOG)
    for each in steps:
        plan = create_execution_plan(job, run_config=PLAIN_LOG, step_keys_to_execute=[each])
        execute_plan(plan, InMemoryJob(job), site.instance, run, run_config=PLAIN_LOG)


@pytest.mark.parametrize("is_broken", [True, False])
def test_a_build_that_waits_goes_only_for_one_that_waits_in_its_place(
    is_broken: bool,  # noqa: FBT001  # pytest passes it by name
) -> None:
    """Where steps are processes, a guard holds a build back before its other audits are made."""
    with quick_folder() as folder, dagster_instance() as instance:
        environment = {"STAC_ITEMS": str(folder / "items.ndjson"), "MOSAIC_PRODUCTS": "mosaic,details"}
        site = Site(environment, instance, folder)
        write_items(site.items, some_items(30))
        site.published()
        write_items(site.items, some_items(20))
        older = site.run()
        releases, plan = Releases(site.store, site.keys), TilingPlan(zoom_max=site.settings.zoom_max)
        assert releases.staged.held() == [older.build]

        def unhappy(*_: Any, **__: Any) -> list[Verdict]:
            return [Verdict.failing("archive_is_whole", "something is broken")]

        details = unhappy if is_broken else of_footprints(details_plan(plan.zoom_max))
        examiners = {MOSAIC.name: of_footprints(plan), DETAILS.name: details}
        run_by_steps(
            site,
            *("stac_footprints", "footprints_geojson", "global_mosaic_pmtiles"),
            *("details_geojson", "details_pmtiles", "mosaic_audit", "details_audit"),
            auditor=Auditor(releases, examiners, max_set_aside_share=0.1, max_shrink_share=0.1),
        )

        (waiting,) = releases.staged.held()
        assert (waiting == older.build) is is_broken

"""What a failed run leaves in staging is deleted with it, unless another run continues from it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import dagster as dg
import pytest
from dagster._core.storage.tags import MAX_RETRIES_TAG, PARENT_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test

from oam_mosaic_assets.errors import StoreUnavailable
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

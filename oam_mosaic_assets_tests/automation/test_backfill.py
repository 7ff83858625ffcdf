"""A backfill of imagery partitions leaves room for what must run every day and every hour."""

from __future__ import annotations

import threading
from collections import Counter

import dagster as dg

from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.live_dagster import (
    LiveDagster,
    environment_of,
    running_dagster,
    until,
)
from oam_mosaic_assets_tests.chain import quick_folder, run_chain, some_items, write_items
from oam_mosaic_assets_tests.servers.image_hosts import scripted_host

PARTITIONS = 6


def statuses(live: LiveDagster, backfill: str) -> Counter[str]:
    """How many of a backfill's runs have each status."""
    found = live.ask(
        """
        query Runs($filter: RunsFilter!) {
          runsOrError(filter: $filter) { ... on Runs { results { status } } }
        }
        """,
        filter={"tags": [{"key": "dagster/backfill", "value": backfill}]},
    )
    return Counter(run["status"] for run in found["runsOrError"]["results"])


def test_what_must_run_goes_before_partitions() -> None:
    definitions = build_definitions(Settings.read({"MOSAIC_PRODUCTS": "imagery"}))
    given = {job.name: job.tags.get("dagster/priority", "0") for job in definitions.resolve_all_job_defs()}
    del given["__ASSET_JOB"]
    assert {name for name, priority in given.items() if int(priority) > 0} == {
        *("global_mosaic", "publish_held_build", "rollback", "mosaic_freshness")
    }
    assert given["imagery_partitions"] == "0"


def test_the_freshness_check_runs_while_a_backfill_does() -> None:
    answers = threading.Event()
    with quick_folder() as folder, scripted_host() as host:
        items = some_items(PARTITIONS)
        for item in items:
            item["assets"]["visual"]["href"] = host.address(f"{item['id']}.tif")
        write_items(folder / "items.ndjson", items)
        environment = environment_of(
            folder,
            STAC_ITEMS=str(folder / "items.ndjson"),
            MOSAIC_PRODUCTS="imagery",
            IMAGERY_PRIVATE_HOSTS=host.host,
        )
        with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
            outcome = run_chain({**environment, "IMAGERY_BUDGET_HOURS": "0"}, instance)
            assert outcome.success, outcome.log
            partitions = instance.get_dynamic_partitions("imagery")
        assert len(partitions) == PARTITIONS
        host.script = lambda _: answers.wait(300) and None
        with running_dagster(folder, environment) as live:
            try:
                started = live.ask(
                    """
                    mutation Backfill($parameters: LaunchBackfillParams!) {
                      launchPartitionBackfill(backfillParams: $parameters) {
                        __typename
                        ... on LaunchBackfillSuccess { backfillId }
                        ... on PythonError { message }
                      }
                    }
                    """,
                    parameters={
                        "assetSelection": [{"path": ["imagery_blocks"]}],
                        "partitionNames": partitions,
                    },
                )["launchPartitionBackfill"]
                assert started["__typename"] == "LaunchBackfillSuccess", started
                backfill = started["backfillId"]
                until(lambda: statuses(live, backfill).total() == PARTITIONS, live.said)
                until(lambda: statuses(live, backfill)["STARTED"] == 2, live.said)
                assert live.finished(live.launch("mosaic_freshness")) == "SUCCESS"
                assert statuses(live, backfill)["QUEUED"] > 0  # on slow machines, some have ended meanwhile
            finally:
                answers.set()

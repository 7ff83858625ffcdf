"""Dagster's own records do not grow for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from oam_mosaic_assets.automation.old_runs import KEPT
from oam_mosaic_assets_tests.chain import Site, dagster_instance, quick_folder, some_items, write_items

ANEW = {"oam-mosaic/anew": "yes"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """An installation with an instance of its own: nobody else's runs are deleted."""
    with quick_folder() as folder, dagster_instance(is_capturing=True) as instance:
        made = Site({"STAC_ITEMS": str(folder / "items.ndjson")}, instance, folder)
        write_items(made.items, some_items(3))
        yield made


def aged(site: Site, run: str) -> Path:
    """Make a run one that ended long ago; returns the file with its events."""
    home = Path(site.instance.root_directory)
    long_ago = (datetime.now(UTC) - KEPT - timedelta(hours=1)).replace(tzinfo=None)
    with sqlite3.connect(home / "history" / "runs.db") as database:
        database.execute("UPDATE runs SET update_timestamp = ? WHERE run_id = ?", (f"{long_ago}", run))
    events = home / "history" / "runs" / f"{run}.db"
    assert events.exists()
    return events


def recorded(site: Site) -> set[str]:
    """The runs that Dagster knows of."""
    return {each.run_id for each in site.instance.get_runs()}


def added(site: Site, job: str, status: dg.DagsterRunStatus) -> str:
    """A run of which only the record is there, from long ago."""
    run = site.instance.add_run(dg.DagsterRun(job_name=job, status=status)).run_id
    site.instance.report_engine_event("began", job_name=job, run_id=run)
    aged(site, run)
    return run


def test_what_ended_long_ago_is_deleted_and_nothing_else(site: Site) -> None:
    old, recent = site.run(job="mosaic_freshness"), site.run(job="mosaic_freshness")
    at_work = added(site, "global_mosaic", dg.DagsterRunStatus.STARTED)
    partition = added(site, "imagery_partitions", dg.DagsterRunStatus.SUCCESS)
    events = aged(site, old.run_id)
    output = Path(site.instance.root_directory, "storage", old.run_id)
    assert output.exists()

    tidied = site.run(job="old_runs")

    assert tidied.success, tidied.log
    assert recorded(site) == {recent.run_id, at_work, partition, tidied.run_id}
    assert not events.exists()
    assert not output.exists()
    assert site.instance.all_logs(recent.run_id)


def test_a_damaged_record_keeps_no_other(site: Site) -> None:
    damaged, old = (site.run(job="mosaic_freshness") for _ in range(2))
    aged(site, damaged.run_id).write_bytes(b"no database")
    aged(site, old.run_id)

    tidied = site.run(job="old_runs")

    assert tidied.success, tidied.log
    assert f"The records of the run {damaged.run_id} could not be deleted" in tidied.log
    assert old.run_id not in recorded(site)


def test_a_build_that_is_public_outlives_its_run(site: Site) -> None:
    published = site.run(tags=ANEW)
    assert published.success, published.log
    aged(site, published.run_id)
    assert site.run(job="old_runs").success
    assert published.run_id not in recorded(site)
    site.stays_whole()
    again = site.run(tags=ANEW)
    assert again.success, again.log

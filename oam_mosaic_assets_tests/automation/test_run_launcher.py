"""How a run is found to have died with its code server, or with the command that ran it."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._daemon.monitoring import run_monitoring

from oam_mosaic_assets.automation.run_launcher import CodeServerRunLauncher, is_deserted
from oam_mosaic_assets_tests.automation.forked import forked
from oam_mosaic_assets_tests.automation.live_dagster import until
from oam_mosaic_assets_tests.chain import (
    REPOSITORY,
    Site,
    quick_folder,
    slow_tippecanoe,
    some_items,
    write_items,
)


def run_at(path: Path) -> dg.DagsterRun:
    address = {"host": "localhost", "socket": str(path)}
    return dg.DagsterRun(job_name="global_mosaic", tags={GRPC_INFO_TAG: json.dumps(address)})


@pytest.mark.parametrize("is_bound", [False, True], ids=["its socket is gone", "nobody listens there"])
def test_a_run_whose_code_server_is_gone_has_died_with_it(tmp_path: Path, *, is_bound: bool) -> None:
    path = tmp_path / "socket"
    if is_bound:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    found = CodeServerRunLauncher().check_run_worker_health(run_at(path))

    assert found.status is WorkerStatus.NOT_FOUND
    assert found.msg == "the code server that ran it is gone, and the run with it"


def test_a_code_server_that_is_too_busy_to_answer_is_not_gone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()

        assert not is_deserted(str(tmp_path / "socket"))


def test_the_embedded_instance_is_told_so_within_half_a_minute(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_bytes((REPOSITORY / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, CodeServerRunLauncher)
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_poll_interval_seconds <= 30


def test_a_build_whose_command_was_killed_is_marked_as_failed(site: Site) -> None:
    with tiling(site):
        while_it_runs = monitored(site.instance)

    after = monitored(site.instance)

    assert while_it_runs.status is dg.DagsterRunStatus.STARTED
    assert after.status is dg.DagsterRunStatus.FAILURE
    (ended,) = site.instance.all_logs(after.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "the command that ran it was killed, and the run with it" in (ended.message or "")
    assert site.run().success, "nothing waits for it"


@pytest.mark.parametrize(
    ("products", "hours", "status"),
    [
        ("mosaic,imagery", "none", dg.DagsterRunStatus.STARTED),
        ("mosaic,imagery", "4", dg.DagsterRunStatus.FAILURE),
        ("mosaic", "none", dg.DagsterRunStatus.FAILURE),
    ],
)
def test_a_command_that_may_read_images_for_as_long_as_it_takes_is_not_ended_after_six_hours(
    site: Site, monkeypatch: pytest.MonkeyPatch, products: str, hours: str, status: dg.DagsterRunStatus
) -> None:
    budget = {"IMAGERY_BUDGET_HOURS": hours, "IMAGERY_BUDGET_GB": "0"}
    with tiling(site, MOSAIC_PRODUCTS=products, **budget):
        assert monitored(site.instance).status is dg.DagsterRunStatus.STARTED
        monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda: time.time() + 7 * 3600)
        assert monitored(site.instance).status is status


def test_a_partition_that_is_read_by_hand_is_not_ended_after_six_hours(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the budget of builds is."""
    with quick_folder() as folder, socket.create_server(("127.0.0.1", 0)) as silent:
        host, (item,) = f"127.0.0.1:{silent.getsockname()[1]}", some_items(1)
        item["assets"]["visual"]["href"] = f"http://{host}/image.tif"
        settings = {"MOSAIC_PRODUCTS": "mosaic,imagery", "IMAGERY_PRIVATE_HOSTS": host}
        site = Site({"STAC_ITEMS": str(folder / "items.ndjson"), **settings}, instance, folder)
        write_items(site.items, [item])
        assert site.run({"IMAGERY_BUDGET_HOURS": "0"}).success
        with at_work(site, "imagery"):
            silent.settimeout(60)
            with silent.accept()[0]:  # and never answer
                assert monitored(instance).status is dg.DagsterRunStatus.STARTED
                later = time.time() + 7 * 3600
                monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda: later)
                run = monitored(instance)
    assert (run.job_name, run.status) == ("imagery_partitions", dg.DagsterRunStatus.STARTED)


@contextmanager
def tiling(site: Site, **settings: str) -> Iterator[None]:
    """Run the command `build`, which is killed at the end of the block, while it tiles."""
    number = site.folder / "number"
    number.unlink(missing_ok=True)
    slow = {"TIPPECANOE": slow_tippecanoe(site.folder, number)}
    with at_work(site, "build", "--anew", **slow, **settings) as build:
        until(lambda: build.exitcode is not None or number.exists(), lambda: "it does not tile")
        assert build.exitcode is None
        yield


def at_work(site: Site, *arguments: str, **settings: str) -> AbstractContextManager[BaseProcess]:
    """Run a command, which is killed at the end of the block."""
    _, environment = site.command_line()
    return forked(
        arguments,
        environment=environment | settings,
        folder=site.folder,
        output=site.folder / "output",
        errors=site.folder / "said",
    )


def monitored(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """The newest run, once the daemon's monitoring has looked at it."""
    (record,) = instance.get_run_records(limit=1)
    workspace: Any = None  # only needed to resume a run
    run_monitoring.monitor_started_run(instance, workspace, record, logging.getLogger(__name__))
    run = instance.get_run_by_id(record.dagster_run.run_id)
    assert run is not None
    return run

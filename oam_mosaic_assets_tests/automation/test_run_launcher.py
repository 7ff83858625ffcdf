"""How a run is found to have died with its code server, when that server listened on a socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from oam_mosaic_assets.automation.run_launcher import CodeServerRunLauncher, is_deserted
from oam_mosaic_assets_tests.chain import REPOSITORY


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

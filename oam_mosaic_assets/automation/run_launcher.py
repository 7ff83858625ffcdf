"""Starts runs, and detects those that died with the code server or the command that ran them.

If only a run's process dies, the code server reports it. If the server dies as well, or the process was a
command such as `oam-mosaic build`, nobody does: Dagster's own launcher has no health check, and the run would
count as started for hours, holding its slot in the pool.
"""

import json
import socket
from typing import Any, Final

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG, HIDDEN_TAG_PREFIX
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from oam_mosaic_assets.automation.processes import has_ended

GONE: Final = "the code server that ran it is gone, and the run with it"
ENDED: Final = "the command that ran it was killed, and the run with it"

PROCESS_TAG: Final = f"{HIDDEN_TAG_PREFIX}oam-mosaic-process"
"""Tag of a run that a command runs in its own process: see `this_process`. The UI does not show it."""


class CodeServerRunLauncher(DefaultRunLauncher):
    """Starts runs in the code server, and asks it whether it still runs them."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Lets run monitoring call the health check, and mark runs as failed that are no longer at work."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the code server that answers now is the one that runs it, or the command is still there.

        If none answers over the network, nothing is known, and nobody could retry the run: it counts as at
        work until a server answers or its time limit is reached. The daemon's own code server listens on a
        socket; if nothing listens there, it has ended.
        """
        address: dict[str, Any] | None = json.loads(run.tags.get(GRPC_INFO_TAG, "null"))
        if address is None:  # `oam-mosaic build`: a process that this launcher did not start
            if has_ended(run.tags.get(PROCESS_TAG, "")):
                return CheckRunHealthResult(WorkerStatus.NOT_FOUND, ENDED)
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it was not started in a code server")
        if address.get("socket") and is_deserted(address["socket"]):
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, GONE)
        client = DagsterGrpcClient(
            host=address["host"],
            port=address.get("port"),
            socket=address.get("socket"),
            use_ssl=bool(address.get("use_ssl")),
        )
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "the code server does not answer")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, GONE)


def is_deserted(path: str) -> bool:
    """Whether no server listens on a local socket; none ever will again, as the next uses another one."""
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return True
        except OSError:  # it is there, but busy
            pass
    return False

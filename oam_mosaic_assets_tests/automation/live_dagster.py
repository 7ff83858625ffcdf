"""A real Dagster for the tests: webserver and daemon as separate processes, queried as the UI does.

- `environment_of`: the environment of a maintainer's shell, without settings from the tests' own shell.
- `running_dagster`, `running_webserver`: the processes, and `LiveDagster`, which queries them as the UI does.
- `running_daemon`: the daemon alone; `running_program`: any one of the processes.
- `until`: waits for something they do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import REPOSITORY
from oam_mosaic_assets_tests.servers.ports import free_port

WORKSPACE: Final = REPOSITORY / "workspace.yaml"
LOCATION: Final = {"repositoryLocationName": "oam-mosaic", "repositoryName": "__repository__"}

_SECONDS: Final = 180
"""How long anything may take: other tests keep the machine busy."""


def environment_of(folder: Path, **settings: str) -> dict[str, str]:
    """The environment of an installation that keeps everything in one folder.

    Args:
        settings: further settings, by variable name.
    """
    ours = {name.upper() for name in Settings.model_fields} | {"PORT"}  # of scripts/ui
    home = folder / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_bytes((REPOSITORY / "dagster.yaml").read_bytes())
    return {
        **{name: value for name, value in os.environ.items() if name not in ours},
        "DAGSTER_HOME": str(home),
        "MOSAIC_STORE": str(folder / "store"),
        "MOSAIC_SCRATCH": str(folder / "scratch"),
        "ZOOM_MAX": "10",
        "MOSAIC_PRODUCTS": "mosaic",
        **settings,
    }


def program(name: str) -> str:
    """The path of a program installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


@contextmanager
def running_dagster(folder: Path, environment: Mapping[str, str]) -> Iterator[LiveDagster]:
    """Run a webserver and a daemon; see `running_webserver`."""
    with running_daemon(folder, environment), running_webserver(folder, environment) as live:
        yield live


@contextmanager
def running_daemon(folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon; it and everything it started end with the block."""
    with running_program(["dagster-daemon", "run", "-w", str(WORKSPACE)], folder, environment) as daemon:
        yield daemon


@contextmanager
def running_webserver(
    folder: Path, environment: Mapping[str, str], *options: str, workspace: Path = WORKSPACE
) -> Iterator[LiveDagster]:
    """Run a webserver; it and everything it started end with the block.

    Args:
        folder: its working directory, where it leaves its log; contains no `.env` file.
        environment: as returned by `environment_of`.
        options: further options of `dagster-webserver`.
        workspace: the file that names the code location.

    Raises:
        RuntimeError: it did not start; the message quotes its log.
    """
    port = free_port()
    serve = ["dagster-webserver", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port), *options]
    with running_program(serve, folder, environment) as webserver:
        live = LiveDagster(f"http://127.0.0.1:{port}", webserver, folder)
        live.wait_until_ready()
        yield live


@contextmanager
def running_program(
    command: list[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program installed beside this Python; it and everything it started end with the block.

    Its output is appended to its log in the folder, where `LiveDagster.said` finds it.
    """
    name, *arguments = command
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", program(name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            # so long do webserver and daemon wait for the code server
            env={"DAGSTER_GRPC_TIMEOUT_SECONDS": f"{_SECONDS}", **environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # kills its code server and its runs too
        process.wait()


@dataclass(frozen=True, slots=True)
class LiveDagster:
    """A webserver, queried as its UI queries it.

    Attributes:
        address: `http://127.0.0.1:PORT`.
        webserver: its process.
        folder: where the logs are.
    """

    address: str
    webserver: subprocess.Popen[bytes]
    folder: Path

    def wait_until_ready(self) -> None:
        """Wait until it serves, which it does once it has loaded the code location."""
        deadline = time.monotonic() + _SECONDS
        while self.webserver.poll() is None and time.monotonic() < deadline:
            try:
                if requests.get(f"{self.address}/server_info", timeout=5).ok:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.25)
        raise RuntimeError(f"the webserver did not start: {self.said()}")

    def said(self) -> str:
        """The logs of both processes."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("dagster*.log")))

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Send a query or a mutation; returns the `data` of the response."""
        answer = requests.post(
            f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=_SECONDS
        ).json()
        assert not answer.get("errors"), answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def launch(
        self, job: str, assets: list[str] | None = None, *, tags: Mapping[str, str] | None = None
    ) -> str:
        """Start a job, or some of its assets, as the UI's buttons do; returns the run's id."""
        selector: dict[str, Any] = {**LOCATION, "jobName": job}
        if assets:
            selector["assetSelection"] = [{"path": [asset]} for asset in assets]
        started = self.ask(
            """
            mutation Launch($parameters: ExecutionParams!) {
              launchRun(executionParams: $parameters) {
                __typename
                ... on LaunchRunSuccess { run { runId } }
                ... on PythonError { message }
                ... on RunConfigValidationInvalid { errors { message } }
              }
            }
            """,
            parameters={
                "selector": selector,
                "mode": "default",
                "runConfigData": "{}",
                "executionMetadata": {
                    "tags": [{"key": name, "value": value} for name, value in (tags or {}).items()]
                },
            },
        )["launchRun"]
        assert started["__typename"] == "LaunchRunSuccess", started
        run: str = started["run"]["runId"]
        return run

    def terminate(self, run: str) -> None:
        """Stop a run, as the UI's button does."""
        stopped = self.ask(
            "mutation Stop($run: String!) { terminateRun(runId: $run) { __typename } }", run=run
        )["terminateRun"]
        assert stopped["__typename"] == "TerminateRunSuccess", stopped

    def runs(self, **tags: str) -> list[str]:
        """Ids of the runs that have these tags, newest first."""
        found = self.ask(
            """
            query Runs($filter: RunsFilter!) {
              runsOrError(filter: $filter) { ... on Runs { results { runId } } }
            }
            """,
            filter={"tags": [{"key": f"dagster/{name}", "value": value} for name, value in tags.items()]},
        )
        return [run["runId"] for run in found["runsOrError"]["results"]]

    def wait_for_run(self, **tags: str) -> str:
        """Wait until a run with these tags is started; returns its id."""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            if found := self.runs(**tags):
                return found[-1]
            time.sleep(0.5)
        raise AssertionError(f"no run with {tags}: {self.said()}")

    def finished(self, run: str) -> str:
        """Wait for a run to end; returns its final status."""
        return self._wait_for_status(run, {"SUCCESS", "FAILURE", "CANCELED"})

    def started(self, run: str) -> str:
        """Wait until a run has started, or already ended; returns its status."""
        return self._wait_for_status(run, {"STARTED", "SUCCESS", "FAILURE", "CANCELED"})

    def _wait_for_status(self, run: str, awaited: set[str]) -> str:
        query = "query Run($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
        deadline = time.monotonic() + _SECONDS
        status = ""
        while time.monotonic() < deadline:
            status = str(self.ask(query, run=run)["runOrError"]["status"])
            if status in awaited:
                return status
            time.sleep(0.5)
        raise AssertionError(f"run {run} is {status} after {_SECONDS} s: {self.said()}")


def until(happens: Callable[[], bool], said: Callable[[], str]) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it never did; the message is what the processes logged.
    """
    deadline = time.monotonic() + _SECONDS
    while not happens():
        assert time.monotonic() < deadline, said()
        time.sleep(0.3)

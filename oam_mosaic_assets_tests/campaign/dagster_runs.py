"""Builds run by Dagster's daemon: started, stopped and watched as the UI does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from oam_mosaic_assets_tests.automation.live_dagster import (
    LiveDagster,
    running_daemon,
    running_webserver,
)
from oam_mosaic_assets_tests.campaign.builds import BUILD_SECONDS, Ended

ENDED: Final = frozenset({"SUCCESS", "FAILURE", "CANCELED"})

_RUN: Final = """
query Run($run: ID!) { runOrError(runId: $run) { ... on Run {
  status
  tags { key value }
  eventConnection(limit: 1000) { events { __typename ... on MessageEvent { message }
    ... on ExecutionStepFailureEvent { error { message } failureMetadata { description } } } }
} } }
"""


@dataclass(slots=True)
class Dagster:
    """A daemon and a webserver, each of which can be killed and restarted."""

    folder: Path
    environment: Mapping[str, str]
    live: LiveDagster
    _held: dict[str, ExitStack] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def running(cls, folder: Path, environment: Mapping[str, str]) -> Iterator[Dagster]:
        """Run both for the duration of the block."""
        with ExitStack() as daemon, ExitStack() as webserver:
            daemon.enter_context(running_daemon(folder, environment))
            live = webserver.enter_context(running_webserver(folder, environment))
            made = cls(folder, environment, live, {"daemon": daemon, "webserver": webserver})
            try:
                yield made
            finally:
                for each in made._held.values():
                    each.close()

    def restart_daemon(self) -> None:
        """Kill the daemon and everything it started, and start it again."""
        self._held["daemon"].close()
        self._held["daemon"].enter_context(running_daemon(self.folder, self.environment))

    def restart_webserver(self) -> None:
        """Kill the webserver and everything it started, and start it again."""
        self._held["webserver"].close()
        self.live = self._held["webserver"].enter_context(running_webserver(self.folder, self.environment))


@dataclass(slots=True)
class DagsterBuild:
    """A run of `global_mosaic`, or its latest automatic retry."""

    dagster: Dagster
    run: str
    scratch: Path

    @property
    def pid(self) -> int:
        """Id of the process, tippecanoe aside, that has scratch files open."""
        for each in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                opened = (file.path for file in each.open_files())
                if each.name() != "tippecanoe" and any(path.startswith(str(self.scratch)) for path in opened):
                    return each.pid
        raise ProcessLookupError(f"no process works on run {self.run}")

    def is_running(self) -> bool:
        return self.status() not in ENDED

    def status(self) -> str:
        """The run's status in Dagster."""
        return str(self._ask()["status"])

    def stop(self) -> None:
        """Stop it as the UI's button does; in a thread, as that call blocks until its process is gone."""
        stop = self.dagster.live.terminate
        threading.Thread(target=stop, args=(self.run,), daemon=True).start()

    def wait(self) -> Ended:
        """Wait for it to end, and for each run by which the daemon retries it."""
        statuses, said = [], []
        while True:
            status, words = self._end()
            statuses.append(status)
            said += words
            again = {"key": "dagster/will_retry", "value": "true"} in self._ask()["tags"]
            if status != "FAILURE" or not again:
                break
            self.run = self.dagster.live.wait_for_run(parent_run_id=self.run)
        ended = " then ".join(statuses)
        return Ended(ended, "\n".join(said).strip() or f"the run is {ended}")

    def _end(self) -> tuple[str, list[str]]:
        """How it ended, and what it said; the daemon notices within half a minute that its process died."""
        deadline, gone = time.monotonic() + BUILD_SECONDS, 0
        while (status := self.status()) not in ENDED and time.monotonic() < deadline:
            time.sleep(0.5)
            gone = 0 if status != "STARTED" or self._is_at_work() else gone + 1
            if gone > 120:
                break
        while self._is_at_work() and time.monotonic() < deadline:
            time.sleep(0.2)  # the run's process reports its end before it cleans up
        said = []
        for event in self._ask()["eventConnection"]["events"]:
            if event["__typename"] == "ExecutionStepFailureEvent":
                stated = event["failureMetadata"] or event["error"]
                said.append(str(stated.get("description") or stated.get("message")))
        return status, said

    def abandon(self) -> None:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            psutil.Process(self.pid).kill()

    def _is_at_work(self) -> bool:
        try:
            return self.pid > 0
        except ProcessLookupError:
            return False

    def _ask(self) -> dict[str, Any]:
        for _ in range(60):
            with suppress(requests.RequestException):  # the webserver may still be starting
                return self.dagster.live.ask(_RUN, run=self.run)["runOrError"]
            time.sleep(1)
        raise RuntimeError(f"the webserver is gone: {self.dagster.live.said()}")

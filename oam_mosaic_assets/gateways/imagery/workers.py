"""Processes that read images: kept busy, watched, and replaced when one dies or takes too long."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from oam_mosaic_assets.core.imagery.outcome import COMPUTED, Reason
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.children import LAST_WORDS, dies_with_parent
from oam_mosaic_assets.gateways.imagery.addresses import Rules

_ALLOWED: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")
"""Environment variables that a worker inherits: no secrets, and nothing that GDAL reads."""

_LONGEST_ANSWER: Final = 2**20
_READY: Final = b"ready\n"
"""A worker's first line, once it has imported everything."""

_MODULE: Final = "oam_mosaic_assets.gateways.imagery"

STARTING_SECONDS: Final = 120.0
"""How long a worker may take until it is ready; it usually takes less than one."""

GRACE_SECONDS: Final = 30.0
"""Extra time for a worker to report by itself that an image is slow, before it is killed."""

ALONE_SECONDS: Final = 2.0
"""How long the first worker runs alone: it reads a few images in the time that another takes to start."""


@dataclass(slots=True, eq=False)
class Job:
    """What a worker is to do.

    Attributes:
        order: the job as `worker` reads it.
        host: the host that it requests data from; empty if none.
        tag: for the caller's use.
    """

    order: Mapping[str, Any]
    host: str = ""
    tag: Any = None


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    job: Job | None = None
    deadline: float = 0.0
    is_ready: bool = False
    said: bytearray = field(default_factory=bytearray)


class Workers:
    """A pool of worker processes; `run` gives them jobs.

    Attributes:
        count: how many processes there are at most.
        faults: how many times in a row each host has failed, in all that these processes did.
    """

    def __init__(
        self,
        rules: Rules,
        limits: Mapping[str, Any],
        *,
        count: int = 2,
        per_host: int = 4,
        memory: int = 512 * 2**20,
    ) -> None:
        """Nothing is started yet.

        Args:
            rules: which addresses may be requested.
            limits: for one image: fields of `source.Limits`, `seconds` among them.
            count: how many processes to run.
            per_host: how many jobs may request data from one host at a time.
            memory: bytes of data that each process may hold.
        """
        self.count = count
        self.faults: Counter[str] = Counter()
        self._per_host = per_host
        self._seconds = float(limits["seconds"])
        self._told = json.dumps(
            {
                "private_hosts": sorted(rules.private_hosts),
                "s3_endpoint": rules.s3_endpoint,
                "limits": dict(limits),
                "memory": memory,
            }
        )
        self._workers: list[_Worker] = []
        self._alone_until = 0.0
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers[:]:
            self._end(worker)
        self._selector.close()

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that are running."""
        return [each.process.pid for each in self._workers]

    def run(
        self, next_job: Callable[[Callable[[Job], bool]], Job | None]
    ) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Run all jobs, and yield each with its answer as it is done.

        Args:
            next_job: returns a job that may start now, as its argument decides; None if there is none until
                another is done, and at the end.

        Raises:
            TilingFailed: a worker did not start, which is no image's fault.
            OSError: the files that a job names cannot be read or written, as on a full disk.
        """
        busy: Counter[str] = Counter()

        def may_begin(job: Job) -> bool:
            return not job.host or busy[job.host] < self._per_host

        while True:
            while self._has_room and (job := next_job(may_begin)) is not None:
                busy[job.host] += 1
                self._begin(self._idle(), job)
            if not any(each.job for each in self._workers):
                return
            for worker, answer in self._answered():
                job, worker.job = worker.job, None
                if job is not None:
                    busy[job.host] -= 1
                    yield job, answer

    @property
    def _has_room(self) -> bool:
        return self._may_start or any(each.job is None for each in self._workers)

    @property
    def _may_start(self) -> bool:
        if not self._workers:
            return True
        return len(self._workers) < self.count and time.monotonic() >= self._alone_until

    def _idle(self) -> _Worker:
        """A worker without a job; started only if none is idle."""
        return next((each for each in self._workers if each.job is None), None) or self._start()

    def _start(self) -> _Worker:
        environment = {name: os.environ[name] for name in _ALLOWED if name in os.environ}
        process = subprocess.Popen(  # noqa: S603
            [*dies_with_parent(), sys.executable, "-m", _MODULE, self._told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # it writes nothing there once it is ready
            env={**environment, "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupt from the terminal is for the parent
        )
        os.set_blocking(_stdout(process).fileno(), False)
        worker = _Worker(process)
        self._alone_until = self._alone_until or time.monotonic() + ALONE_SECONDS
        self._workers.append(worker)
        self._selector.register(_stdout(process), selectors.EVENT_READ, worker)
        return worker

    def _begin(self, worker: _Worker, job: Job) -> None:
        worker.job = job
        worker.deadline = time.monotonic() + STARTING_SECONDS
        if worker.is_ready:
            self._give_order(worker, job)

    def _give_order(self, worker: _Worker, job: Job) -> None:
        """Tell a worker what to do; not before it is ready, as it reads nothing and its pipe may be full."""
        worker.deadline = self._deadline
        stdin = worker.process.stdin
        with suppress(OSError):  # it has died; `_answered` reports it
            if stdin is not None:
                stdin.write(json.dumps(job.order).encode() + b"\n")
                stdin.flush()

    @property
    def _deadline(self) -> float:
        """Until when an image that is begun now must be done."""
        return time.monotonic() + self._seconds + GRACE_SECONDS

    def _answered(self) -> Iterator[tuple[_Worker, dict[str, Any]]]:
        """Wait until some are done, or dead, or out of time, or until another worker may start."""
        soonest = min(each.deadline for each in self._workers if each.job)
        if len(self._workers) < self.count and time.monotonic() < self._alone_until:
            soonest = min(soonest, self._alone_until)
        for key, _ in self._selector.select(max(0.0, soonest - time.monotonic())):
            if (answer := self._answer_of(key.data)) is not None:
                yield key.data, answer
        for worker in [each for each in self._workers if each.job and each.deadline < time.monotonic()]:
            # the caller may have been busy since `select`, and the answer there for long
            answer = self._answer_of(worker)
            if answer is None and worker.deadline < time.monotonic():
                answer = self._lost(worker, Reason.SLOW)
            if answer is not None:
                yield worker, answer

    def _answer_of(self, worker: _Worker) -> dict[str, Any] | None:
        """What a worker has answered, or that it died; None if neither is so yet. Does not wait."""
        try:
            piece = os.read(_stdout(worker.process).fileno(), 65536)
        except BlockingIOError:
            return None
        worker.said += piece
        if not piece or len(worker.said) > _LONGEST_ANSWER:
            return self._lost(worker, Reason.CRASHED)
        if not worker.is_ready and _READY in worker.said:
            del worker.said[: worker.said.index(_READY) + len(_READY)]
            worker.is_ready = True
            if worker.job:
                self._give_order(worker, worker.job)
        if not worker.is_ready or not worker.said.endswith(b"\n"):
            return None
        answer: dict[str, Any] = json.loads(bytes(worker.said))
        worker.said.clear()
        if fault := answer.get("fault"):
            raise OSError(*fault)
        return answer

    def _lost(self, worker: _Worker, reason: Reason) -> dict[str, Any]:
        """End a worker; the answer for its image. Raises TilingFailed if it had not started."""
        computed = reason is Reason.SLOW and not _is_waiting(worker.process)
        last_words = self._end(worker)
        how = "was stopped" if reason is Reason.SLOW else f"ended with code {worker.process.returncode}"
        if not worker.is_ready:
            raise TilingFailed(
                f"A process that reads images {how} before it had started.\n{last_words}",
                hint="Mend what its last output names, such as a missing or broken library, and run again.",
            )
        costs = {"requests": 1, "bytes": 0, "seconds": 0.0}  # at least; it did not live to tell
        detail = COMPUTED if computed else f"its process {how}"
        return {"reason": reason, "detail": detail, "etag": "", **costs}

    def _end(self, worker: _Worker) -> str:
        """End a worker; the last lines that it wrote to stderr before it was ready."""
        self._workers.remove(worker)
        self._selector.unregister(_stdout(worker.process))
        worker.process.kill()
        _, said = worker.process.communicate()
        lines: list[str] = said.decode(errors="replace").splitlines()
        return "\n".join(lines[-LAST_WORDS:]) or "It printed nothing."


def _stdout(process: subprocess.Popen[bytes]) -> Any:
    return process.stdout


def _is_waiting(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process waits, as for a host whose headers trickle in; see proc_pid_stat(5)."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].startswith("S")

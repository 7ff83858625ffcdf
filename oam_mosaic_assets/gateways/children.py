"""Programs as child processes: monitored while they run, stopped together, and never left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import IO, Final, cast

from oam_mosaic_assets.errors import DiskFull, TilingFailed

LAST_WORDS: Final = 20
"""How many of the last lines of stderr an error quotes."""

GRACE_SECONDS: Final = 5.0
"""Between SIGTERM and SIGKILL."""

_FULL: Final = re.compile(r"no space left|disk is full|ENOSPC|short write", re.IGNORECASE)


class NotStarted(Exception):
    """A program does not exist or may not be executed; the message says why."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run.

    Attributes:
        name: what errors call it.
        command: reports its progress on stderr: lines of JSON with the percentage as `progress`.
    """

    name: str
    command: Sequence[str]


def run_together(
    programs: Sequence[Program],
    *,
    at_once: int,
    beside: Sequence[Program] = (),
    beside_at_once: int = 1,
    on_progress: Callable[[float], None],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run programs to completion. If one fails or this is cancelled, all of them are stopped.

    Args:
        programs: started in this order.
        at_once: how many of them run at the same time.
        beside: others to run alongside, in this order.
        beside_at_once: how many of those run at the same time.
        on_progress: called with the share of all work that is done, 0 to 1.
        environment: of each; None for this process's own.

    Raises:
        NotStarted: one cannot be started.
        DiskFull: one ran out of disk space.
        TilingFailed: one failed or was killed; the message quotes its last lines of stderr.
    """
    waiting, done = [(deque(programs), at_once), (deque(beside), beside_at_once)], 0
    at_work: list[_Child] = []
    try:
        while at_work or any(queue for queue, _ in waiting):
            for kind, (queue, most) in enumerate(waiting):
                while queue and sum(each.kind == kind for each in at_work) < most:
                    program = queue.popleft()
                    at_work.append(_Child(program.name, _started(program.command, environment), kind))
            for each in _heard(at_work):
                if not each.has_ended():
                    continue
                at_work.remove(each)
                each.explain()
                done += 1
            share = (done + sum(each.share for each in at_work)) / (len(programs) + len(beside))
            on_progress(share)
    finally:
        for each in at_work:
            _end(each.process)


@dataclass(frozen=True, slots=True)
class Running:
    """A running program.

    Attributes:
        finish: waits for its end; raises as `run_together` does.
        stdin: for requests to it; None unless `is_asked`.
        stdout: for its answers; None unless `is_asked`.
    """

    finish: Callable[[], None]
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None


@contextmanager
def running(program: Program, *, is_asked: bool = False) -> Iterator[Running]:
    """Run a program in the background; it is stopped when the block ends.

    It should write little to stderr, which is not read before `finish`.

    Args:
        program: the program.
        is_asked: whether its stdin and stdout are pipes to this process.

    Raises:
        TilingFailed: it cannot be started.
    """
    try:
        process = _started(program.command, None, is_asked=is_asked)
    except NotStarted as error:
        raise TilingFailed(f"{program.name} could not be started: {error}.", hint="Run again.") from None
    child: _Child | None = _Child(program.name, process)

    def finish() -> None:
        nonlocal child
        if child is not None:
            while not child.has_ended():
                pass
            ended, child = child, None
            ended.explain()

    try:
        yield Running(finish, process.stdin, process.stdout)
    finally:
        if child is not None:
            _end(process)


def _started(
    command: Sequence[str], environment: Mapping[str, str] | None, *, is_asked: bool = False
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603
            [*dies_with_parent(), *command],
            stdin=subprocess.PIPE if is_asked else subprocess.DEVNULL,
            stdout=subprocess.PIPE if is_asked else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            # a process group of its own, so that all it starts can be stopped with it
            start_new_session=True,
        )
    except OSError as error:
        raise NotStarted(error.strerror) from None


def dies_with_parent() -> list[str]:
    """What goes before a command for the kernel to end it: a process that is killed cannot clean up."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class _Child:
    """A running program, and its output on stderr."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], kind: int = 0) -> None:
        self.name = name
        self.kind = kind
        self.process, self.stderr = process, cast("IO[bytes]", process.stderr)  # it is a pipe
        self.share = 0.0
        self.last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._unended = b""

    def has_ended(self) -> bool:
        """Read from its stderr, waiting if necessary; whether it was closed."""
        said = os.read(self.stderr.fileno(), 65536)
        *lines, self._unended = (self._unended + said).split(b"\n")
        for line in [*lines, *([] if said else [self._unended])]:
            self._hear(line.decode(errors="replace").strip())
        return not said

    def _hear(self, line: str) -> None:
        try:
            percent = float(json.loads(line)["progress"])
        except (ValueError, TypeError, KeyError):
            if line:
                self.last_words.append(line[:500])
        else:
            self.share = min(max(percent / 100.0, 0.0), 1.0)

    def explain(self) -> None:
        """Wait for its end; raises if it failed."""
        code = self.process.wait()
        _end(self.process)
        if code:
            _explain(self.name, code, "\n".join(self.last_words))


def _heard(children: Sequence[_Child]) -> list[_Child]:
    """Wait for those that have written something or have ended."""
    ready = wait([each.stderr.fileno() for each in children])
    return [each for each in children if each.stderr.fileno() in ready]


def _end(child: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sign)
        except ProcessLookupError:
            break
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
    for each in (child.stdin, child.stdout, child.stderr):
        if each is not None:
            with suppress(BrokenPipeError):  # input that it no longer read
                each.close()


def _explain(name: str, code: int, last_words: str) -> None:
    full = [line for line in last_words.splitlines() if _FULL.search(line)]
    if full:  # for our own processes the other lines are a traceback, which helps nobody here
        raise DiskFull(
            f"{name} ran out of disk space: {full[-1].strip()}",
            hint="Free some space in the scratch folder, or point MOSAIC_SCRATCH at a larger disk: about "
            "ten times the size of the archive is needed.",
        )
    names = {sign.value: sign.name for sign in signal.Signals}  # some real-time signals have none
    how = f"was killed by signal {names.get(-code, -code)}" if code < 0 else f"failed with exit code {code}"
    hint = "See its last output above; run the build again once the cause is fixed."
    if code == -signal.SIGKILL:
        hint = "The kernel kills processes when memory runs out: look for it in `dmesg`, then run again."
    raise TilingFailed(f"{name} {how}.\n{last_words or 'It printed nothing.'}", hint=hint)

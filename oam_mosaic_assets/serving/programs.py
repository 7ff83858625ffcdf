"""Martin and nginx as child processes: found, started, logged, and never left behind."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from oam_mosaic_assets.errors import ServerMissing

LAST_WORDS: Final = 12
"""How many of a program's last lines an error quotes."""

GRACE_SECONDS: Final = 5.0
"""Between asking a program to stop and killing it."""

_INHERITED: Final = (
    "PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


def find_program(name: str, stated: Path | None) -> Path:
    """The program at the path that the settings name, else the one on the PATH or where Debian puts it.

    Raises:
        ServerMissing: there is none, or it is not executable.
    """
    place = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    found = shutil.which(str(stated) if stated else name, path=place)
    if found is None:
        looked = f"{stated} is not an executable program" if stated else f"it is not on the PATH ({place})"
        raise ServerMissing(
            f"The program {name} was not found: {looked}.",
            hint=f"Install it (docs/serving.md says how), or set {name.upper()} to its path.",
        )
    return Path(found)


def find_njs(nginx: Path) -> Path:
    """Nginx's JavaScript module, in the folder of its modules.

    Raises:
        ServerMissing: it is not there.
    """
    answer = subprocess.run([nginx, "-V"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    folder = re.search(r"--modules-path=(\S+)", answer.stderr)
    module = Path(folder[1] if folder else "/usr/lib/nginx/modules", "ngx_http_js_module.so")
    if not module.is_file():
        raise ServerMissing(
            f"nginx's JavaScript module was not found at {module}.",
            hint="Install it; on Debian: apt-get install libnginx-mod-http-js.",
        )
    return module


def free_port() -> int:
    """A port of the loopback interface that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A running child process. Its output goes to the log; it ends when this process does."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: logging.Logger,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            name: what the log calls it.
            command: program and arguments; no secrets, as every user can read them.
            environment: added to the few variables that it inherits, none of which is a setting of ours.

        Raises:
            ServerMissing: it cannot be started.
        """
        self.name = name
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._may_have_orphans = True
        inherited = {each: os.environ[each] for each in _INHERITED if each in os.environ}
        setpriv = shutil.which("setpriv")
        # TERM, not KILL, so that nginx ends its workers
        dies_with_us = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        try:
            self._child = subprocess.Popen(  # noqa: S603
                [*dies_with_us, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**inherited, **(environment or {})},
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise ServerMissing(
                f"{name} could not be started: {error.strerror}.",
                hint=f"Set {name.upper()} to the path of a working one.",
            ) from None
        self._listener = threading.Thread(target=self._listen, args=(log,), daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it is still running."""
        return self._child.poll() is None

    @property
    def end(self) -> str:
        """How it ended, in words, with its last lines of output."""
        if not self.is_running:
            self.kill()
            self._listener.join(1.0)
        code = self._child.poll()
        how = "is still running" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code}"
        words = "\n".join(self._last_words)
        return f"{self.name} {how}" + (f":\n{words}" if words else "")

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal."""
        self._child.send_signal(sign)

    def stop(self, *, sign: signal.Signals = signal.SIGTERM, grace: float = GRACE_SECONDS) -> None:
        """Ask it to end, if it is running; kill it if it does not, and whatever it started and left."""
        try:
            self._child.send_signal(sign)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(grace)
        finally:  # even if a second Ctrl-C ends the wait
            self.kill()
        self._child.wait()
        self._listener.join(1.0)

    def kill(self) -> None:
        """Kill it and all that it started: the workers of a killed nginx would keep its ports."""
        if self._may_have_orphans:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._may_have_orphans = False  # later, its number may be another's

    def _listen(self, log: logging.Logger) -> None:
        if self._child.stdout is None:
            return
        with self._child.stdout as said:
            for line in said:
                words = _COLOUR.sub("", line).rstrip()
                if words:
                    self._last_words.append(words[:500])
                    log.info("%s: %s", self.name, words)


def until(happens: Callable[[], bool], *, seconds: float, pause: float = 0.05) -> bool:
    """Wait for something to happen; returns whether it did in time."""
    deadline = monotonic() + seconds
    while not happens():
        if monotonic() > deadline:
            return False
        sleep(pause)
    return True

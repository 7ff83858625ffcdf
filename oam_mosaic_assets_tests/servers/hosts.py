"""Simulated hosts, as far as the kernel allows: each with its own network, disk, processes and name.

- `running_host(disk, reach)`: a context manager; the host ends with the block, or with this process.
- `Host.start`: runs a program there; `Host.cut_power`: kills everything there at once.

A host is a set of namespaces, which `unshare` can make for any user, not just root. Its network is a loopback
interface and nothing else. The sockets that listen there on the ports it may reach are handed to this
process, which forwards each connection to the server on the same port here; every other port refuses. It sees
no processes but its own. It can write only to its disk: the folders for temporary files, where tests and
their servers keep everything, are replaced by empty ones in memory, and all else is read-only.

Where namespaces are forbidden, as in many containers, a host is just plain processes, and a warning says so;
in the gate, the test fails.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fcntl import ioctl
from functools import cache
from pathlib import Path
from typing import Final

import psutil
import pytest

from oam_mosaic_assets_tests.gate import is_gate
from oam_mosaic_assets_tests.servers.proxy import running_proxy

PLAIN: Final = "hosts are plain processes"
"""How the warning begins."""

_NAMESPACES: Final = ["--user", "--net", "--mount", "--pid", "--ipc", "--uts"]
_UNSHARE: Final = ["unshare", *_NAMESPACES, "--map-root-user", "--mount-proc", "--fork", "--kill-child"]
_CODE: Final = Path(__file__).parents[2]
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a folder for temporary files, too
_SET_FLAGS, _UP = 0x8914, 1
"""Of an interface: SIOCSIFFLAGS and IFF_UP."""


@dataclass
class Host:
    """Where programs run.

    Attributes:
        disk: the only folder that is also visible from outside; all output goes to `log` in it.
        reach: the ports that it can reach.
    """

    disk: Path
    reach: Sequence[int]
    _unshare: subprocess.Popen[bytes] | None = None
    _enter: Sequence[str] = ()
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def is_of_its_own(self) -> bool:
        """Whether it is isolated, rather than plain processes."""
        return self._unshare is not None

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Run a program, with `disk` as its working directory.

        Args:
            environment: the whole environment; by default that of this process.
        """
        with (self.disk / "log").open("ab") as log:
            process = subprocess.Popen(
                [*self._enter, "env", f"--chdir={self.disk}", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def can(self, *command: str) -> bool:
        """Whether a program succeeds there."""
        return self.start(*command).wait(60) == 0

    def connects(self, port: int) -> bool:
        """Whether something listens on a port of the loopback interface, as seen from there."""
        return self.can("bash", "-c", f"</dev/tcp/127.0.0.1/{port}")

    def said(self) -> str:
        return (self.disk / "log").read_text(errors="replace")

    def cut_power(self) -> None:
        """Kill everything that runs there, as a power failure would."""
        if self._unshare:
            self._unshare.kill()  # the first process there dies with it, and takes all others along
            self._unshare.wait()
        for each in self._started:
            if not self._unshare and each.poll() is None:
                os.killpg(each.pid, signal.SIGKILL)
            each.wait()

    def boot(self, here: socket.socket, there: socket.socket) -> list[socket.socket]:
        """Start the first process.

        Args:
            here: one end of a socket pair; the first process lives until it is closed.
            there: the other end.

        Returns:
            The listening sockets of the host, in the order of `reach`.
        """
        first = [sys.executable, "-m", __name__, str(self.disk), str(there.fileno()), *map(str, self.reach)]
        with there, (self.disk / "log").open("ab") as log:
            self._unshare = subprocess.Popen(
                [*_UNSHARE, *first], cwd=_CODE, pass_fds=[there.fileno()], stdout=log, stderr=log
            )
        _, numbers, _, _ = socket.recv_fds(here, 1, len(self.reach))
        if not numbers:
            raise RuntimeError(f"the host did not start: {self.said()}")
        (init,) = psutil.Process(self._unshare.pid).children()
        self._enter = ["nsenter", f"--target={init.pid}", *_NAMESPACES, "--preserve-credentials"]
        return [socket.socket(fileno=each) for each in numbers]


@cache
def refusal() -> str:
    """Why namespaces cannot be made here, or nothing can be mounted in them; empty if both work."""
    mounting = ["mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    tried = subprocess.run([*_UNSHARE, *mounting], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


@contextmanager
def running_host(disk: Path, reach: Sequence[int]) -> Iterator[Host]:
    """Run a host with nothing running on it yet.

    Args:
        disk: a folder, whose name becomes the host name.
        reach: ports of the loopback interface here, reachable from the host under the same numbers.

    Raises:
        RuntimeError: it did not start; the message quotes its output.
    """
    host = Host(disk, reach)
    with ExitStack() as ends:
        if refused := refusal():
            if is_gate():
                pytest.fail(f"no host can be simulated here: {refused}")
            warnings.warn(f"{PLAIN}: {refused}", stacklevel=2)
        else:
            here, there = map(ends.enter_context, socket.socketpair())
            for port, listening in zip(reach, host.boot(here, there), strict=True):
                ends.enter_context(running_proxy(f"http://127.0.0.1:{port}", listening))
        ends.callback(host.cut_power)  # before the proxies, which wait for connections to end
        yield host


def _init(disk: Path, channel: int, ports: Sequence[int]) -> None:
    """Run as the first process: turn its namespaces into a host, and stay."""
    socket.sethostname(disk.name)
    _leave_no_disk_but(disk)
    with socket.socket() as any_socket:
        ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))
    listening = [socket.create_server(("127.0.0.1", port)) for port in ports]
    with socket.socket(fileno=channel) as outside:
        socket.send_fds(outside, [b"."], [each.fileno() for each in listening])
        for each in listening:
            each.close()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans become its children: have them reaped
        outside.recv(1)  # nothing is ever sent: returns when the other end is closed


def _leave_no_disk_but(disk: Path) -> None:
    """Hide the folders for temporary files, except what is needed in them; make all else read-only."""
    before = [Path(each.mountpoint) for each in psutil.disk_partitions(all=True)]
    hidden = [Path(tempfile.gettempdir()), _SHARED_MEMORY, disk.parent]
    # what was opened before can still be mounted once it is hidden
    seen = {each: os.open(each, os.O_PATH) for each in (disk, _CODE, Path(sys.prefix), Path(sys.base_prefix))}
    for folder in hidden:
        if folder.is_dir():
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "none", folder], check=True)
    for folder, descriptor in seen.items():
        if not folder.exists():
            folder.mkdir(parents=True)
            way = f"/proc/{os.getpid()}/fd/{descriptor}"
            subprocess.run(["mount", "--no-canonicalize", "--bind", way, folder], check=True)
    for folder in {*before, *seen} - {*hidden, disk}:  # refused for those now hidden, or that are no mounts
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    _init(Path(sys.argv[1]), int(sys.argv[2]), [*map(int, sys.argv[3:])])

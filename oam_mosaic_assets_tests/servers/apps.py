"""Web applications of others, under uvicorn, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

from oam_mosaic_assets_tests.servers.ports import free_port

START_SECONDS = 60
STOP_SECONDS = 10


@contextmanager
def running_app(factory: str, ready: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Serve an application; yields its address, without a trailing slash.

    Args:
        factory: what makes it, as `module:function`.
        ready: a path that it answers once it has started.
        environment: variables for it besides this process's own.

    Raises:
        RuntimeError: it exited or does not answer; the message has the end of its log.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["setpriv", "--pdeathsig", "KILL", "--"]
    command += [sys.executable, "-m", "uvicorn", "--factory", factory]
    with tempfile.TemporaryDirectory(prefix="mosaic-app-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            _wait_until_it_answers(f"{address}{ready}", server, log)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_it_answers(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(address, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise RuntimeError(f"{address} does not answer:\n{log.read_text(errors='replace')[-2000:]}")

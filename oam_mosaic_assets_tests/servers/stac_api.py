"""A STAC API as OpenAerialMap runs it: stac-fastapi-pgstac under uvicorn, on a test database."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase

START_SECONDS = 60
STOP_SECONDS = 10


@contextmanager
def running_stac_api(database: PgstacDatabase) -> Iterator[str]:
    """Serve a pgSTAC database; yields the address of the landing page, without a trailing slash.

    Raises:
        RuntimeError: the server exited or does not answer; the message has the end of its log.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["setpriv", "--pdeathsig", "KILL", "--"]
    command += [sys.executable, "-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app"]
    with tempfile.TemporaryDirectory(prefix="mosaic-stac-api-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env=os.environ | database.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            _wait_until_it_answers(address, server, log)
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
            if requests.get(f"{address}/_mgmt/ping", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise RuntimeError(f"the STAC API did not start:\n{log.read_text(errors='replace')[-2000:]}")

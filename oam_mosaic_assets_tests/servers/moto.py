"""A moto server for the tests: S3 without Amazon, in a process of its own.

It hides private objects from strangers, and honours the conditions of PutObject and GetObject. It ignores
those on the source of a copy, and accepts any access key.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from oam_mosaic_assets_tests.servers.s3 import S3Server

_READY_SECONDS: Final = 60


@contextmanager
def running_moto() -> Iterator[S3Server]:
    """Run an empty moto server, which ends with the block, or with this process.

    Raises:
        RuntimeError: it did not start; the message quotes its output.
    """
    program = Path(sys.executable).with_name("moto_server")
    with TemporaryDirectory(prefix="moto-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as said:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", program, "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        try:
            yield S3Server(_wait_for_address(process, log), access_key="moto", secret_key="moto-secret")
        finally:
            process.kill()
            process.wait()


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Read the address from what the server prints once it listens; the kernel chooses the port."""
    deadline = time.monotonic() + _READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if address := re.search(r"Running on (http://[0-9.:]+)", log.read_text()):
            return address[1]
        time.sleep(0.05)
    raise RuntimeError(f"moto_server did not start: {log.read_text()}")

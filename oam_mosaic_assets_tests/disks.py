"""Disks that are nearly full."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oam_mosaic_assets_tests.gate import leave_out


@contextmanager
def a_small_disk() -> Iterator[Path]:
    """A file system of one megabyte, which only root can mount; in CI it is an error if that fails."""
    with tempfile.TemporaryDirectory(prefix="mosaic-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
        )
        if mounted.returncode:
            leave_out("no file system can be mounted here: run this as root")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def fill(disk: Path, room: int) -> None:
    """Fill a disk until `room` KiB are left."""
    with (disk / "filler").open("wb") as filler:
        status = os.statvfs(disk)
        filler.write(bytes(status.f_bavail * status.f_bsize - room * 1024))

"""A folder for the files of one process, removed when it ends; what killed processes left is swept up."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from oam_mosaic_assets.errors import SettingsError

_LOCK: Final = "in-use.lock"


@contextmanager
def folder_in_use(root: Path) -> Iterator[Path]:
    """A new folder, locked for the duration of the block and removed when it ends.

    Args:
        root: `MOSAIC_SCRATCH`; created if missing.

    Raises:
        SettingsError: it cannot be created.
    """
    root = root.absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as fault:  # a file, or below /proc
        what = "it is a file, not a folder" if root.is_file() else fault.strerror
        raise SettingsError(
            f"MOSAIC_SCRATCH, {root}, cannot be used: {what}.",
            hint="Set MOSAIC_SCRATCH to a folder that this user may write to.",
        ) from None
    _sweep(root)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    # locked before the lock file has the name that a sweep looks for
    unnamed = folder / f"{_LOCK}.new"
    lock = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(folder / _LOCK)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep(root: Path) -> None:
    """Remove folders whose process is dead: the kernel released their lock."""
    for folder in root.glob("run-*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # being made, or being removed, at this moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(lock)

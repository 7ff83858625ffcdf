"""A folder for the files of one process, removed when it ends; what killed processes left is swept up.

The lock of `run-x` is the file `run-x.lock` beside it. It is there before the folder and goes after it, so
that a folder has a lock at whatever moment its process is killed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.gateways.folder_store import REFUSALS

_LOCK: Final = ".lock"

UNUSABLE: Final = REFUSALS | {errno.ENOENT}  # the latter below /proc
"""What an `OSError` says of a folder that is no place for this user's files; anything else may pass."""


@contextmanager
def folder_in_use(root: Path) -> Iterator[Path]:
    """A new folder, locked for the duration of the block and removed when it ends.

    Args:
        root: `MOSAIC_SCRATCH`; created if missing.

    Raises:
        SettingsError: it is no place for this user's files.
        OSError: anything else, which may pass.
    """
    root = root.absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        lock, descriptor = _new_lock(root)
    except OSError as fault:
        if fault.errno not in UNUSABLE:
            raise
        # unlike `Path.is_file`, this raises nothing if a folder above may not be entered
        what = "it is a file, not a folder" if os.path.isfile(root) else fault.strerror  # noqa: PTH113
        raise not_usable(root, what) from None
    folder = lock.with_suffix("")
    try:
        folder.mkdir(0o700)
        yield folder
    finally:
        _remove(folder, lock)
        os.close(descriptor)


@contextmanager
def leaving_no_folder(root: Path) -> Iterator[None]:
    """Remove `MOSAIC_SCRATCH` at the end of the block if it was not there, for commands that only look."""
    missing = [each for each in (root, *root.parents) if not each.exists()]
    try:
        yield
    finally:
        with suppress(OSError):  # somebody else uses it by now
            for each in missing:
                each.rmdir()


def not_usable(root: Path, why: str | None) -> SettingsError:
    """The error if `MOSAIC_SCRATCH` cannot be used."""
    return SettingsError(
        f"MOSAIC_SCRATCH, {root}, cannot be used: {why}.",
        hint="Set MOSAIC_SCRATCH to a folder that this user may write to.",
    )


def _new_lock(root: Path) -> tuple[Path, int]:
    """A new lock, held: its file, and the descriptor that holds it."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix="run-", suffix=_LOCK, dir=root)
        if _hold(lock := Path(name), descriptor):
            return lock, descriptor
        os.close(descriptor)  # a sweep was faster


def _hold(lock: Path, descriptor: int) -> bool:
    """Hold a lock, unless somebody else does, or removed it since it was opened."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return lock.exists()


def _remove(folder: Path, lock: Path) -> None:
    """Remove a folder and then its lock, which stays with what cannot be removed, for a later sweep."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock.unlink(missing_ok=True)


def _sweep(root: Path) -> None:
    """Remove folders whose process is dead: the kernel released their lock."""
    for lock in root.glob(f"run-*{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # its process, or another sweep, has just removed it
        try:
            if _hold(lock, descriptor):
                _remove(lock.with_suffix(""), lock)
        finally:
            os.close(descriptor)

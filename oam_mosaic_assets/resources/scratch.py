"""A folder for the files of one process at work, gone when it ends; what a killed one left is swept up."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from oam_mosaic_assets.resources.failures import failing_clearly

_LOCK = "in-use.lock"


class Scratch(dg.ConfigurableResource):  # type: ignore[type-arg]  # its value is itself
    """Scratch space below a root folder.

    Attributes:
        root: the folder; made where it is missing.
    """

    root: str
    _folder: Path | None = PrivateAttr(default=None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Scratch"]:  # noqa: ARG002
        """Hold a folder for as long as this process works on a run."""
        root = Path(self.root).absolute()
        with failing_clearly():
            root.mkdir(parents=True, exist_ok=True)
            _sweep(root)
            self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
            lock = os.open(self._folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield self
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(lock)

    def folder(self, name: str) -> Path:
        """An empty folder of this name; what it held before is gone."""
        if self._folder is None:
            raise dg.DagsterInvariantViolationError("scratch space exists only while a run is at work")
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


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

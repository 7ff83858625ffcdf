"""A folder for the files of one process at work, gone when it ends; what a killed one left is swept up."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.resources.interrupts import interrupts_arrive

_LOCK = "in-use.lock"


class Scratch(dg.ConfigurableResource):  # type: ignore[type-arg]  # its value is itself
    """Scratch space below a root folder.

    Attributes:
        root: the folder; made where it is missing.
    """

    root: str
    _held: ExitStack | None = PrivateAttr(default=None)
    _folder: Path | None = PrivateAttr(default=None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Scratch"]:  # noqa: ARG002
        """Hold a folder for as long as this process works on a run, from when it is first asked for.

        Made then, and not here, what goes wrong is a step's failure, which says what to do.
        """
        with interrupts_arrive(), ExitStack() as held:
            self._held, self._folder = held, None
            try:
                yield self
            finally:
                self._held = None

    def folder(self, name: str) -> Path:
        """An empty folder of this name; what it held before is gone."""
        folder = self._path(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def shared_folder(self, name: str) -> Path:
        """The folder of this name, with what this process put there before."""
        folder = self._path(name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _path(self, name: str) -> Path:
        if self._held is None:
            raise dg.DagsterInvariantViolationError("scratch space exists only while a run is at work")
        if self._folder is None:
            self._folder = self._held.enter_context(_folder_in_use(Path(self.root).absolute()))
        return self._folder / name


@contextmanager
def _folder_in_use(root: Path) -> Iterator[Path]:
    """A new folder, locked as long as this process lives, and gone when the block ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as fault:  # nobody can make a folder there, such as below /proc
        raise SettingsError(
            f"MOSAIC_SCRATCH, {root}, cannot be made: {fault.strerror}.",
            hint="Set MOSAIC_SCRATCH to a folder that this user may write to.",
        ) from None
    _sweep(root)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    # locked before it has the name that a sweep looks for
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

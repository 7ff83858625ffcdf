"""A folder for one process's files, deleted when it ends; what a killed process left is swept up."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from oam_mosaic_assets.gateways.scratch_folder import folder_in_use
from oam_mosaic_assets.resources.interrupts import interrupts_arrive


class Scratch(dg.ConfigurableResource):  # type: ignore[type-arg]  # its value is itself
    """Scratch space below a root folder.

    Attributes:
        root: the folder; created if missing.
    """

    root: str
    _held: ExitStack | None = PrivateAttr(default=None)
    _folder: Path | None = PrivateAttr(default=None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Scratch"]:  # noqa: ARG002
        """Hold a folder while this process works on a run, from its first use on.

        It is created then, and not here, so that an error is a step's failure, which says what to do.
        """
        with interrupts_arrive(), ExitStack() as held:
            self._held, self._folder = held, None
            try:
                yield self
            finally:
                self._held = None

    def folder(self, name: str) -> Path:
        """An empty folder of this name; what it held before is deleted."""
        folder = self._path(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def shared_folder(self, name: str) -> Path:
        """The folder of this name, with whatever this process has put there."""
        folder = self._path(name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _path(self, name: str) -> Path:
        if self._held is None:
            raise dg.DagsterInvariantViolationError("scratch space exists only during a run")
        if self._folder is None:
            self._folder = self._held.enter_context(folder_in_use(Path(self.root)))
        return self._folder / name

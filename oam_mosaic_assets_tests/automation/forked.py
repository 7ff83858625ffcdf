"""Run `oam-mosaic` in a process forked from one that has already imported Dagster.

The process has its own environment, working directory, exit code and output, like any other, but does not
spend its time importing Dagster, which is most of the cost of making a small mosaic. For tests of what a
command prints and leaves behind; how it starts, and what a terminal shows of it, also when it is stopped, is
tested on the installed program.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from oam_mosaic_assets.cli import main

PATIENCE_SECONDS: Final = 180.0

_processes: Final = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["oam_mosaic_assets.cli.build", "dagster._core.storage.sqlite_storage"])


def run_forked(
    arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run the command and wait for it to end.

    Args:
        environment: the complete environment.
        folder: the working directory.
    """
    with tempfile.TemporaryDirectory(prefix="mosaic-said-") as said:
        output, errors = Path(said, "output"), Path(said, "errors")
        with forked(
            arguments, environment=environment, folder=folder, output=output, errors=errors
        ) as process:
            process.join(PATIENCE_SECONDS)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(list(arguments), PATIENCE_SECONDS)
            return subprocess.CompletedProcess(
                list(arguments), process.exitcode, output.read_text(), errors.read_text()
            )


@contextmanager
def forked(
    arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, output: Path, errors: Path
) -> Iterator[BaseProcess]:
    """Run the command, which does not outlive the block.

    Args:
        environment, folder: as for `run_forked`.
        output, errors: files for its standard output and error, which are emptied first.
    """
    process = _processes.Process(
        target=_command, args=(list(arguments), dict(environment), folder, output, errors)
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _command(
    arguments: list[str], environment: dict[str, str], folder: Path, output: Path, errors: Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in enumerate((Path(os.devnull), output, errors)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.exit(main(arguments))

"""A running build, however it was started, and how it ended."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

BUILD_SECONDS: Final = 400.0
"""A build that waits for a dead publisher's lock takes two minutes longer."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a build ended.

    Attributes:
        how: the command's exit code, negative where a signal killed it, or the status of Dagster's run.
        said: everything it printed or reported.
    """

    how: str
    said: str

    @property
    def head(self) -> str:
        """The line that states the outcome."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("Not published", "It is public", "oam-mosaic:"))]
        published = [line for line in lines if line.startswith("Published")]
        return (told or published or lines or [""])[-1]

    @property
    def tail(self) -> str:
        """The last 1,500 characters of what it said."""
        return self.said[-1500:]


class Build(Protocol):
    """A running build."""

    @property
    def pid(self) -> int:
        """Id of the process that does the work."""

    def is_running(self) -> bool:
        """Whether it is still running."""

    def wait(self) -> Ended:
        """Wait for it to end."""

    def abandon(self) -> None:
        """Kill it, whatever it is doing."""


@dataclass(slots=True)
class CommandBuild:
    """`oam-mosaic build` as a process."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> Ended:
        code = self.process.wait(BUILD_SECONDS)
        return Ended(str(code), self.log.read_text(errors="replace"))

    def abandon(self) -> None:
        self.process.kill()
        self.process.wait()

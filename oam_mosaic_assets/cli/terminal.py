"""A run's progress on a terminal: one bar per stage, with the run's log lines above them."""

from __future__ import annotations

import io
import logging
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column


class TerminalProgress:
    """`resources.progress.Progress` on a terminal."""

    def __init__(self, console: Console) -> None:
        cut_to_fit = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # so that no other column is cut
        self._bars = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<10}", table_column=Column(no_wrap=True, min_width=10)),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", table_column=cut_to_fit),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            console=console,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()  # an unfinished stage is left showing as unfinished

    def step(self, log: logging.Logger, stage: str, share: float | None, text: str) -> None:  # noqa: ARG002
        """Move the stage's bar. A new stage finishes those before it."""
        if stage not in self._tasks:
            self._finish()
            self._tasks[stage] = self._bars.add_task(stage, total=None if share is None else 1.0, text=text)
        total = None if share is None else 1.0
        self._bars.update(self._tasks[stage], total=total, completed=share or 0.0, text=text)

    def _finish(self) -> None:
        for task in self._tasks.values():
            self._bars.update(task, total=1.0, completed=1.0)


class LinesAbove(io.StringIO):
    """A stream whose lines appear above the bars instead of among them."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def isatty(self) -> bool:
        """Yes: there are bars only on a terminal."""
        return True

    def write(self, text: str) -> int:
        """Print it through the console that draws the bars."""
        self._console.print(text, end="", markup=False, highlight=False)
        return len(text)

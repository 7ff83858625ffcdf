"""Function calls in processes of their own, for CPU-bound work.

Such a process has its own memory, ends with its parent, and is free of all that a Dagster process loads. A
call and its result are pickled into files, in a folder that nobody else writes to. Repeated calls of one
function go through pipes.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_exc
from typing import IO, Any, Final, ParamSpec, TypeVar, cast
from uuid import uuid4

from oam_mosaic_assets.core.aside import Aside, Result
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.allocator import collect_seldom, give_back_freed_memory
from oam_mosaic_assets.gateways.children import Program, Running, running

_AHEAD: Final = "--ahead"
"""Argument of a process that loads a module, then reads the path of its call's file from stdin."""

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is made by another process.

    Attributes:
        program: that process.
        asked: the file with the call; its result is written beside it.
    """

    program: Program
    asked: Path

    def result(self) -> Any:
        """The result, if the process succeeded."""
        return pickle.loads(_answer(self.asked).read_bytes())  # noqa: S301  # written by `main` below

    def error(self) -> Exception | None:
        """The exception that the call raised, if it raised one that can be pickled."""
        if not _error(self.asked).exists():
            return None
        raised: Exception = pickle.loads(_error(self.asked).read_bytes())  # noqa: S301
        return raised


def call(name: str, folder: Path, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Call:
    """Write a call to a file; nothing is started.

    Args:
        name: what errors call the process.
        folder: where the file goes.
        function: at module level, as the classes of its arguments must be.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """
    asked = folder / f"{uuid4().hex}.call"
    asked.write_bytes(pickle.dumps((function, args, kwargs)))
    command = [sys.executable, "-m", __name__, str(asked)]
    return Call(Program(name, command), asked)


@contextmanager
def calling(name: str, folder: Path, *, ahead: str = "") -> Iterator[Aside]:
    """Make each call in a process of its own; those still running when the block ends are stopped.

    Args:
        name: what errors call such a process.
        folder: for intermediate files.
        ahead: a module. The first call's process is started at once, and loads it while the caller prepares
            the call.

    Raises:
        TilingFailed, DiskFull: see `run_together`.
    """
    with TemporaryDirectory(dir=folder) as place, ExitStack() as held:
        ready = list[Running]()
        if ahead:
            program = Program(name, [sys.executable, "-m", __name__, _AHEAD, ahead])
            ready.append(held.enter_context(running(program, is_asked=True)))

        def begun(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Result[T]:
            made = call(name, Path(place), function, *args, **kwargs)
            if ready:
                process = ready.pop()
                _tell_which(process, made.asked)
            else:
                process = held.enter_context(running(made.program))
            finish = process.finish

            def result() -> T:
                try:
                    finish()
                except TilingFailed as failed:
                    raise (made.error() or failed) from None
                found: T = made.result()
                return found

            return result

        yield begun


@contextmanager
def each_of(
    name: str, function: Callable[[T], R], values: Iterable[T], *, processes: int
) -> Iterator[Iterator[R]]:
    """Call a function with each of many values, in processes that take turns.

    Args:
        name: what errors call such a process.
        function: at module level, as the classes of its values must be, or a `partial` of such a function.
        values: read ahead by one for each process.
        processes: how many.

    Yields:
        The results, in the order of the values; raises TilingFailed.
    """
    program = Program(name, [sys.executable, "-m", __name__])
    with ExitStack() as held:
        workers = [
            _Worker(held.enter_context(running(program, is_asked=True)), function) for _ in range(processes)
        ]
        yield _in_turn(workers, values)


def _in_turn(workers: Sequence[_Worker], values: Iterable[Any]) -> Iterator[Any]:
    at_work = deque[_Worker]()
    for worker, value in zip(cycle(workers), values, strict=False):
        if worker not in at_work:
            worker.ask(value)
            at_work.append(worker)
            continue
        at_work.rotate(-1)  # it was first in line
        answer = worker.answer()
        worker.ask(value)  # so that it works while the caller uses this answer
        yield answer
    for worker in at_work:
        yield worker.answer()
    for worker in workers:
        worker.end()


class _Worker:
    """A process that calls one function repeatedly."""

    def __init__(self, process: Running, function: Callable[[Any], Any]) -> None:
        self._finish = process.finish
        self._to, self._from = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        self.ask(function)

    def ask(self, value: Any) -> None:
        """Send it a value; it must have answered all earlier ones."""
        try:
            pickle.dump(value, self._to, pickle.HIGHEST_PROTOCOL)
            self._to.flush()
        except BrokenPipeError:
            self._finish()  # says why
            raise

    def answer(self) -> Any:
        """Wait for the result of the last value, and return it."""
        try:
            return pickle.load(self._from)  # noqa: S301  # written by `_answer_all` below
        except (EOFError, pickle.UnpicklingError):  # it ended before or during its answer
            self._finish()
            raise

    def end(self) -> None:
        """Let it end, as there is nothing left to do; raises if it fails."""
        self._to.close()
        self._finish()


def tell(share: float) -> None:
    """Report the share done, 0 to 1, to the parent; for programs started by `run_together`."""
    print(json.dumps({"progress": 100.0 * share}), file=sys.stderr, flush=True)  # noqa: T201


def _tell_which(process: Running, asked: Path) -> None:
    """Give a process that was started ahead its call; if it has failed already, its `finish` says why."""
    to = cast("IO[bytes]", process.stdin)
    with suppress(BrokenPipeError), to:
        to.write(bytes(asked))


def main() -> None:
    """Make the call in the file given as argument; without one, those requested on stdin."""
    give_back_freed_memory()
    if not sys.argv[1:]:
        _answer_all()
    elif sys.argv[1] == _AHEAD:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a pipe that nobody reads
        import_module(sys.argv[2])
        _answer_one(Path(os.fsdecode(sys.stdin.buffer.read())))
    else:
        _answer_one(Path(sys.argv[1]))


def _answer_one(asked: Path) -> None:
    function, args, kwargs = pickle.loads(asked.read_bytes())  # noqa: S301  # written by `call` above
    collect_seldom()
    try:
        result = function(*args, **kwargs)
    except Exception as raised:
        raised.add_note(format_exc())
        with suppress(Exception):  # not every error can be pickled; all are printed on stderr
            written = pickle.dumps(raised)
            pickle.loads(written)  # noqa: S301
            unfinished = asked.with_suffix(".part")
            unfinished.write_bytes(written)  # the disk may be full
            unfinished.replace(_error(asked))
        raise
    _answer(asked).write_bytes(pickle.dumps(result))


def _answer_all() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not pass for an answer
    function = pickle.load(sys.stdin.buffer)  # noqa: S301  # written by `_Worker` above
    collect_seldom()
    while True:
        try:
            value = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return
        pickle.dump(function(value), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _answer(asked: Path) -> Path:
    return asked.with_suffix(".answer")


def _error(asked: Path) -> Path:
    return asked.with_suffix(".error")


if __name__ == "__main__":
    main()

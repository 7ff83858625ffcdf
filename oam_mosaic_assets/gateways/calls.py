"""Calls of functions in processes of their own, for what keeps a processor busy.

Such a process has its own memory, ends with its parent, and nothing of a Dagster process is loaded into it.
The call and what comes of it travel in files, pickled; nobody else writes into that folder.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_exc
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

from oam_mosaic_assets.core.aside import Aside, Result
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.allocator import give_back_freed_memory
from oam_mosaic_assets.gateways.children import Program, running

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A call that another process makes.

    Attributes:
        program: that process.
        asked: the file with the call; what comes of it is written beside it.
    """

    program: Program
    asked: Path

    def result(self) -> Any:
        """What came of it, where the process ended well."""
        return pickle.loads(_answer(self.asked).read_bytes())  # noqa: S301  # by `main` below

    def error(self) -> Exception | None:
        """What was raised there, where the process did not and that can travel."""
        if not _error(self.asked).exists():
            return None
        raised: Exception = pickle.loads(_error(self.asked).read_bytes())  # noqa: S301
        return raised


def call(name: str, folder: Path, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Call:
    """Write down a call; nothing is started.

    Args:
        name: what errors call the process.
        folder: where it is written down.
        function: of a module, as its arguments' classes are.
        args: its arguments.
        kwargs: those by name.
    """
    asked = folder / f"{uuid4().hex}.call"
    asked.write_bytes(pickle.dumps((function, args, kwargs)))
    command = [sys.executable, "-m", __name__, str(asked)]
    return Call(Program(name, command), asked)


@contextmanager
def calling(name: str, folder: Path) -> Iterator[Aside]:
    """Makes each call in a process of its own; those that are not done at the end are ended.

    Args:
        name: what errors call such a process.
        folder: for files in between.

    Raises:
        TilingFailed, DiskFull: see `run_together`.
    """
    with TemporaryDirectory(dir=folder) as place, ExitStack() as held:

        def begun(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Result[T]:
            made = call(name, Path(place), function, *args, **kwargs)
            finish = held.enter_context(running(made.program))

            def result() -> T:
                try:
                    finish()
                except TilingFailed as failed:
                    raise (made.error() or failed) from None
                found: T = made.result()
                return found

            return result

        yield begun


def tell(share: float) -> None:
    """Let the parent know what is done, 0 to 1; for programs that `run_together` listens to."""
    print(json.dumps({"progress": 100.0 * share}), file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    """Make the call."""
    asked = Path(sys.argv[1])
    give_back_freed_memory()
    function, args, kwargs = pickle.loads(asked.read_bytes())  # noqa: S301  # by `call` above
    try:
        result = function(*args, **kwargs)
    except Exception as raised:
        raised.add_note(format_exc())
        with suppress(Exception):  # not every error can travel; each is said on stderr
            written = pickle.dumps(raised)
            pickle.loads(written)  # noqa: S301
            unfinished = asked.with_suffix(".part")
            unfinished.write_bytes(written)  # the disk may be full
            unfinished.replace(_error(asked))
        raise
    _answer(asked).write_bytes(pickle.dumps(result))


def _answer(asked: Path) -> Path:
    return asked.with_suffix(".answer")


def _error(asked: Path) -> Path:
    return asked.with_suffix(".error")


if __name__ == "__main__":
    main()

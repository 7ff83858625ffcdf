"""Functions for `test_calls`, in a module that a process imports at once: it needs none of the tests' own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from oam_mosaic_assets.core.archive import BrokenArchive
from oam_mosaic_assets.errors import DiskFull


class WithTwo(Exception):
    """Cannot be unpickled: `__init__` needs an argument that `args` does not hold."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)
        self.two = two


def process() -> int:
    return os.getpid()


def fail(kind: str) -> None:
    if kind == "no archive":
        raise BrokenArchive("its directory is broken")
    if kind == "no room":
        raise DiskFull("No room.", hint="Make some.")
    if kind == "cannot travel":
        raise WithTwo("of two words", "this")
    os.kill(os.getpid(), signal.SIGKILL)


def fail_after(anything: Callable[[], object]) -> None:
    anything()
    fail("no archive")


def fail_at(kind: str) -> str:
    if kind:
        fail(kind)
    return kind


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def noisy(size: int) -> int:
    print("." * size)  # noqa: T201
    return size


def loaded(module: str) -> bool:
    return module in sys.modules


def larger(size: int) -> bytes:
    return bytes(size)


def told(value: bytes) -> tuple[int, bytes]:
    print("no answer")  # noqa: T201
    return os.getpid(), value[::-1]

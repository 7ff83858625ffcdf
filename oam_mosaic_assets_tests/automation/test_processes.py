"""How one process finds out whether another has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from oam_mosaic_assets.automation.processes import has_ended, this_process

WAITS = f"from {this_process.__module__} import this_process; print(this_process(), flush=True); input()"


@contextmanager
def another() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that waits, and what identifies it."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_process_has_ended_once_it_was_killed_even_if_nobody_waits_for_it() -> None:
    with another() as (process, name):
        assert name.split()[2] == str(process.pid)
        assert not has_ended(name)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(name)
    assert has_ended(name)


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    *rest, start = this_process().split()
    assert not has_ended(" ".join([*rest, start]))
    assert has_ended(" ".join([*rest, str(int(start) - 1)]))


@pytest.mark.parametrize("part", [0, 1], ids=["on another machine", "in another container"])
def test_nothing_is_known_of_a_process_elsewhere(part: int) -> None:
    with another() as (_, name):
        pass
    stated = name.split()
    stated[part] = "another"
    assert has_ended(name)
    assert not has_ended(" ".join(stated))


@pytest.mark.parametrize("name", ["", "x", "a b c d", "a b 1 2 3"])
def test_what_names_no_process_has_not_ended(name: str) -> None:
    assert not has_ended(name)


@pytest.mark.parametrize("pid", ["../1", "-1", "0x1", "9" * 30])
def test_what_is_no_number_of_a_process_has_not_ended(pid: str) -> None:
    boot, namespace, _, start = this_process().split()
    assert not has_ended(f"{boot} {namespace} {pid} {start}")

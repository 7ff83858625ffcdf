"""Calls in processes of their own: their results come back, and so do their errors."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from oam_mosaic_assets.core.archive import BrokenArchive
from oam_mosaic_assets.core.aside import here
from oam_mosaic_assets.errors import DiskFull, TilingFailed
from oam_mosaic_assets.gateways import calls, children
from oam_mosaic_assets.gateways.calls import calling, each_of
from oam_mosaic_assets_tests.disks import a_small_disk, fill
from oam_mosaic_assets_tests.gateways.called import (
    fail,
    fail_after,
    fail_at,
    larger,
    loaded,
    noisy,
    process,
    sleep,
    told,
)

NAME = "A process of a test"
PATIENCE_SECONDS = 120


def test_it_is_made_in_another_process_while_this_one_goes_on(tmp_path: Path) -> None:
    with calling(NAME, tmp_path) as aside:
        one, two = aside(process), aside(larger, size=10)
        assert len({one(), os.getpid()}) == 2
        assert two() == bytes(10)
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_started_ahead_loads_what_it_will_need(tmp_path: Path) -> None:
    module = "colorsys"  # which nothing else loads
    with calling(NAME, tmp_path, ahead=module) as aside:
        ready = the_one_at_work()
        made = [aside(loaded, module), aside(process), aside(loaded, module)]
        found = [each() for each in made]
    assert found[0] is True
    assert found[1] != ready.pid
    assert found[2] is False


def test_a_process_that_is_started_ahead_is_ended_if_nobody_asks_it(tmp_path: Path) -> None:
    with calling(NAME, tmp_path, ahead="colorsys"):
        ready = the_one_at_work()
    assert not ready.is_running()


def test_a_process_that_cannot_load_what_it_will_need_is_explained(tmp_path: Path) -> None:
    with calling(NAME, tmp_path, ahead="no_such_module") as aside:
        ready = the_one_at_work()
        while ready.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        made = aside(process)
        with pytest.raises(TilingFailed, match="No module named 'no_such_module'"):
            made()


def test_a_process_that_is_started_ahead_raises_here_what_is_raised_there(tmp_path: Path) -> None:
    with calling(NAME, tmp_path, ahead="colorsys") as aside, pytest.raises(BrokenArchive, match="is broken"):
        aside(fail, "no archive")()


@pytest.mark.parametrize("ahead", ["", "colorsys"])
def test_what_a_library_prints_stops_nobody(tmp_path: Path, ahead: str) -> None:
    with calling(NAME, tmp_path, ahead=ahead) as aside:
        assert aside(noisy, 2**20)() == 2**20  # more than a pipe holds


def test_here_it_is_made_when_it_is_asked_for() -> None:
    assert here(larger, 3)() == bytes(3)


@pytest.mark.parametrize(
    ("kind", "expected", "words"),
    [
        ("no archive", BrokenArchive, "its directory is broken"),
        ("no room", DiskFull, "No room.\nMake some."),
        ("cannot travel", TilingFailed, "WithTwo: of two words"),
        ("killed", TilingFailed, "A process of a test was killed by signal SIGKILL"),
    ],
)
def test_what_is_raised_there_is_raised_here(
    tmp_path: Path, kind: str, expected: type[Exception], words: str
) -> None:
    with calling(NAME, tmp_path) as aside, pytest.raises(expected) as caught:
        aside(fail, kind)()
    assert words in str(caught.value)


def test_one_that_nobody_asks_any_more_is_ended(tmp_path: Path) -> None:
    with calling(NAME, tmp_path) as aside:
        aside(sleep, 600.0)
        others = psutil.Process().children()
        (child,) = (each for each in others if str(tmp_path) in " ".join(each.cmdline()))
    assert not child.is_running()


def test_a_full_disk_there_is_one_here(tmp_path: Path) -> None:
    with a_small_disk() as disk, calling(NAME, disk) as aside, pytest.raises(DiskFull):
        aside(larger, 64 * 2**20)()


def test_what_is_raised_there_is_told_also_where_it_cannot_be_written_down() -> None:
    words = "BrokenArchive: its directory is broken"
    with a_small_disk() as disk, calling(NAME, disk) as aside, pytest.raises(TilingFailed, match=words):
        aside(fail_after, partial(fill, disk, 0))()


def test_one_that_cannot_be_started_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(children.subprocess, "Popen", refuses)
    with (
        calling(NAME, tmp_path) as aside,
        pytest.raises(TilingFailed, match="not be started: Resource"),
    ):
        aside(process)


def at_work() -> list[psutil.Process]:
    """This process's children that make calls; it may have others, of a fixture."""
    return [each for each in psutil.Process().children() if calls.__name__ in each.cmdline()]


def the_one_at_work() -> psutil.Process:
    """The only one of these; for a moment after it was started, it has no command line."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (found := at_work()):
        assert time.monotonic() < until, "none was started"
        time.sleep(0.01)
    (ready,) = found
    return ready


def test_many_calls_of_a_function_are_answered_in_order_by_processes_that_take_turns() -> None:
    values = [b"ab" * size for size in (0, 1, 200_000, 3, 4, 500_000, 6)]  # more than a pipe holds
    with each_of(NAME, told, values, processes=2) as answers:
        by, found = zip(*answers, strict=True)
    assert list(found) == [each[::-1] for each in values]
    one, two = dict.fromkeys(by)
    assert by == (one, two, one, two, one, two, one)
    assert os.getpid() not in by


def test_of_no_values_nothing_comes() -> None:
    with each_of(NAME, told, [], processes=2) as answers:
        assert list(answers) == []


@pytest.mark.parametrize("values", [["", "", "{}"], ["{}"], ["", "{}", "", "", ""]])
@pytest.mark.parametrize(
    ("kind", "words"),
    [("no archive", "its directory is broken"), ("killed", f"{NAME} was killed by signal SIGKILL")],
)
def test_where_one_of_many_calls_fails_that_is_told_and_all_processes_end(
    values: list[str], kind: str, words: str
) -> None:
    asked = [each.format(kind) for each in values]
    with pytest.raises(TilingFailed, match=words), each_of(NAME, fail_at, asked, processes=2) as answers:
        list(answers)
    assert not at_work()


def test_where_the_values_fail_or_nobody_wants_more_all_processes_end() -> None:
    def broken() -> Iterator[float]:
        yield 0.0
        yield 600.0
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"), each_of(NAME, sleep, broken(), processes=2) as answers:
        list(answers)
    assert not at_work()
    with each_of(NAME, sleep, [0.0, 600.0, 0.0], processes=2) as answers:
        next(answers)
    assert not at_work()


def test_what_a_process_has_loaded_is_not_searched_for_cycles(tmp_path: Path) -> None:
    with calling(NAME, tmp_path) as aside:
        frozen, threshold = aside(gc.get_freeze_count), aside(gc.get_threshold)
        assert frozen() > 0
        assert threshold()[0] > 2_000  # more than any Python's own

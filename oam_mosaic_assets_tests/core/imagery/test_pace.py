"""The time left that the progress of an imagery build shows."""

from __future__ import annotations

from oam_mosaic_assets.core.imagery.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_is_told_by_the_pace_so_far() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.left(0, 100) == ""
    clock.now += 5
    assert pace.left(5, 100) == ""  # too early to tell
    clock.now += 55
    assert pace.left(10, 100) == ", about 9 min left"
    assert pace.left(10, 10_000) == ", about 17 h left"
    clock.now += 40
    assert pace.left(99, 100) == ", about 1 s left"
    assert pace.left(100, 100) == ""


def test_the_pace_of_long_ago_does_not_count() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.left(0, 1000)
    for done in range(1, 21):  # a slow host: a block a minute
        clock.now += 60
        pace.left(done, 1000)
    for _ in range(20):  # and a quick one: ten a minute
        clock.now += 60
        done += 10
        said = pace.left(done, 1000)
    assert said == ", about 78 min left"

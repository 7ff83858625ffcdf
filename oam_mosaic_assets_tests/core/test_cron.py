"""Cron expressions: Dagster accepts every one that we accept, and each comes due some day."""

from __future__ import annotations

from itertools import islice

import pytest
from dagster._utils.schedules import (
    cron_string_iterator,
    has_out_of_range_cron_interval,
    is_valid_cron_schedule,
)
from hypothesis import given
from hypothesis import strategies as st

from oam_mosaic_assets.core.cron import problem_with

numbers = st.integers(0, 62).map(str) | st.sampled_from(["*", "jan", "MON", "sunday", "L", "?"])
part = st.one_of(
    numbers,
    st.builds("{}-{}".format, numbers, numbers),
    st.builds("{}/{}".format, st.one_of(st.just("*"), numbers, st.just("1-9")), st.integers(0, 70)),
)
expressions = st.lists(st.lists(part, min_size=1, max_size=2).map(",".join), min_size=4, max_size=6).map(
    " ".join
)


@pytest.mark.parametrize(
    "expression",
    ["0 3 * * *", "15 */6 * * *", "0,30 1-5/2 1 jan,JUL mon-fri", "0 0 29 2 *", "0 0 31 * 7", "0  3 * *\t*"],
)
def test_what_every_cron_reads_is_let_through(expression: str) -> None:
    assert problem_with(expression) == ""
    assert is_valid_cron_schedule(expression)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("at three", "must have five fields"),
        ("0 3 * * * *", "must have five fields"),
        ("@daily", "must have five fields"),
        ("61 3 * * *", "has an invalid minute: '61'; it must be 0 to 59, or *"),
        ("0 24 * * *", "has an invalid hour: '24'"),
        ("0 3 0 * *", "has an invalid day: '0'"),
        ("0 3 * 13 *", "has an invalid month: '13'"),
        ("0 3 * * 8", "has an invalid weekday: '8'"),
        ("*/90 * * * *", "has an invalid minute: '*/90'"),
        ("*/0 * * * *", "has an invalid minute: '*/0'"),
        ("0 0 1 1-9/10 0", "has an invalid month: '1-9/10'"),
        ("9-3 * * * *", "has an invalid minute: '9-3'"),
        ("1, * * * *", "has an invalid minute: '1,'"),
        ("0 0 30 2 *", "names a day that none of its months has"),
        ("0 0 31 4,6 *", "names a day that none of its months has"),
        ("0 3 31 2 1", "names a day that none of its months has"),
    ],
)
def test_what_is_wrong_is_named(expression: str, problem: str) -> None:
    assert problem_with(expression).startswith(problem)


@given(expressions)
def test_dagster_takes_all_that_is_let_through(expression: str) -> None:
    if problem_with(expression) == "":
        assert is_valid_cron_schedule(expression)
        assert not has_out_of_range_cron_interval(expression)
        assert list(islice(cron_string_iterator(0.0, expression, "UTC"), 1))

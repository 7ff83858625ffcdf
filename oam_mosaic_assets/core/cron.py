"""Cron expressions: five fields, in syntax that every cron reads alike, and no date that never comes."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LEAP_YEAR: Final = 2000


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields.

    Attributes:
        low: the smallest number.
        high: the largest.
        names: names that may stand for numbers, in lower case.
    """

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)


_MONTHS: Final = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS: Final = {
    name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),
)
_PART: Final = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)


def problem_with(expression: str) -> str:
    """What is wrong with a cron expression; empty if it is valid."""
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        return "must have five fields, such as `0 3 * * *`"
    meant = []
    for kind, text in zip(_FIELDS, parts, strict=True):
        numbers = _numbers(kind, text)
        if numbers is None:
            return f"has an invalid {kind.name}: {text!r}; it must be {kind.low} to {kind.high}, or *"
        meant.append(numbers)
    _, _, days, months, _ = meant
    # whatever the weekday, which would be reason enough: Dagster refuses such a day as well
    if min(days) > max(calendar.monthrange(LEAP_YEAR, month)[1] for month in months):
        return "names a day that none of its months has"
    return ""


def _numbers(kind: _Field, text: str) -> set[int] | None:
    """The numbers that a field such as `1,3-9/2` stands for; None if it is invalid."""
    numbers: set[int] = set()
    for each in text.lower().split(","):
        part = _PART.fullmatch(each)
        if part is None:
            return None
        first = kind.low if part["first"] is None else _number(kind, part["first"])
        last = (
            kind.high
            if part["first"] is None
            else first
            if part["last"] is None
            else _number(kind, part["last"])
        )
        step = 1 if part["step"] is None else int(part["step"])
        if part["step"] and part["first"] and not part["last"]:  # `5/15`, which crons read differently
            return None
        if first is None or last is None or not kind.low <= first <= last <= kind.high:
            return None
        # a step beyond the last number would skip all but the first
        if part["step"] and not 1 <= step <= last:
            return None
        numbers.update(range(first, last + 1, step))
    return numbers


def _number(kind: _Field, text: str) -> int | None:
    return kind.names.get(text, int(text) if text.isdecimal() and len(text) <= len("99") else None)

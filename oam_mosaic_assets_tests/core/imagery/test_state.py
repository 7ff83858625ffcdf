"""The state of a partition, and the tallies of partitions, added up."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from oam_mosaic_assets.core.imagery.outcome import BEYOND_ITS_END, NO_MEMORY, Reason
from oam_mosaic_assets.core.imagery.state import Looked, Skipped, State, Tally


def skipped(name: str) -> Skipped:
    return Skipped(id=name, reason=Reason.MISSING, detail="", host="a.example", since="2026-01-15T12:00:00Z")


def test_a_state_of_an_earlier_version_is_read() -> None:
    """Before failures were dated and had an ETag, and from when only crashes were dated."""
    oldest = {"etag": "", "reason": "damaged", "detail": "", "host": "h", "at": "", "since": ""}
    looked = {"a": oldest, "b": {**oldest, "is_seen": True, "crashed": "2026-01-15T12:00:00+00:00"}}
    told = {"recipe": "", "blocks": {}, "looked": looked, "tiles": "", "lossless": "", "format": 1}
    state = State.from_json(json.dumps(told).encode())
    a, b = state.looked["a"], state.looked["b"]
    assert (a.reason, a.etag, a.failing) == ("damaged", "", "")
    assert (b.is_seen, b.failing) == (True, "2026-01-15T12:00:00+00:00")
    assert State.from_json(state.to_json()) == state


def test_an_image_that_lies_in_two_partitions_counts_once() -> None:
    one = Tally(images=4, read=1, skipped=[skipped("lost")], waiting=["both", "half"], blocks=2, requests=3)
    other = Tally(images=4, read=2, skipped=[skipped("lost")], waiting=["both"], blocks=1, requests=1)
    together = Tally.total([one, other])
    assert (together.images, len(together.skipped), together.waiting) == (8, 2, ["both", "half", "both"])

    whole = together.of_images(6)
    assert (whole.images, whole.read, whole.blocks, whole.requests) == (6, 3, 3, 4)
    assert [each.id for each in whole.skipped] == ["lost"]
    assert whole.waiting == ["both", "half"]


def test_an_image_that_one_partition_could_not_read_is_not_said_to_wait() -> None:
    whole = Tally(images=2, skipped=[skipped("a")], waiting=["a"]).of_images(1)
    assert (whole.read, len(whole.skipped), whole.waiting) == (0, 1, [])


def test_an_image_that_shows_nothing_in_one_partition_is_what_it_is_in_the_others() -> None:
    blank = [replace(skipped(name), reason=Reason.ELSEWHERE) for name in ("shown", "waits", "nowhere")]
    one = Tally(images=3, skipped=blank)
    other = Tally(images=2, read=1, shown=["shown"], waiting=["waits"])
    whole = Tally.total([one, other]).of_images(3)
    assert (whole.read, whole.waiting, [each.id for each in whole.skipped]) == (1, ["waits"], ["nowhere"])


@pytest.mark.parametrize(
    ("reason", "detail", "lies"),
    [
        ("damaged", "", True),
        ("too_large", "a tile of 70000000 bytes", True),
        ("too_large", NO_MEMORY, False),
        ("truncated", BEYOND_ITS_END, True),
        ("truncated", "12 of 400 bytes", False),
        ("crashed", "", False),
        ("", "", False),
    ],
)
def test_what_lies_in_the_file_is_not_tried_again_but_a_lack_of_memory_is(
    reason: str, detail: str, *, lies: bool
) -> None:
    assert Looked(reason=reason, detail=detail).lies_in_file is lies


@pytest.mark.parametrize("ahead", [timedelta(days=-400), timedelta(days=400)])
@pytest.mark.parametrize("reason", ["", "missing"])
def test_what_was_looked_at_by_a_clock_that_was_wrong_is_looked_at_again(
    ahead: timedelta, reason: str
) -> None:
    now = datetime(2026, 1, 15, 12, tzinfo=UTC)
    assert Looked(reason=reason, at=(now + ahead).isoformat()).is_due(now)
    # another machine's clock may be a little ahead
    assert not Looked(reason=reason, at=(now + timedelta(minutes=15)).isoformat()).is_due(now)


@pytest.mark.parametrize("ahead", [timedelta(days=-400), timedelta(days=400)])
def test_a_clock_that_was_wrong_does_not_forgive_for_years(ahead: timedelta) -> None:
    now = datetime(2026, 1, 15, 12, tzinfo=UTC)
    then = (now + ahead).isoformat()
    assert not Looked(at=now.isoformat(), failing=then).is_forgiven(now, looked_only=False)
    assert not Looked(at=then).is_forgiven(now, looked_only=True)
    assert Looked(at=then, failing=now.isoformat()).is_forgiven(now, looked_only=True)

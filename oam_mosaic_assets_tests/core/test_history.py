"""Which release was public before another, and which are old enough to delete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from oam_mosaic_assets.core.history import Release, Retention, one_before, outlived, release_of
from oam_mosaic_assets.core.release import Keys

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def releases(*ages: float, previous: str = "") -> list[Release]:
    """Releases named `a`, `b`, … with these ages in days."""
    return [
        Release(build="abcdefghij"[index], published_at=NOW - timedelta(days=age), previous=previous)
        for index, age in enumerate(ages)
    ]


@pytest.mark.parametrize(
    ("builds", "days", "doomed"),
    [
        (2, 10.0, "ab"),
        (3, 10.0, "a"),
        (4, 0.0, ""),
        (1, 0.0, "abc"),
        (1, 35.0, "a"),
    ],
)
def test_a_release_is_kept_while_it_is_new_or_young(builds: int, days: float, doomed: str) -> None:
    found = outlived(releases(40, 30, 20, 5), Retention(builds=builds, days=days), spared=(), now=NOW)
    assert "".join(found) == doomed


def test_a_release_is_young_for_as_many_days_as_it_says_to_the_second() -> None:
    second = 1 / 86_400
    ages = releases(30 + second, 30 - second, 0)
    assert outlived(ages, Retention(builds=1, days=30), spared=(), now=NOW) == ["a"]


def test_what_is_needed_is_kept_whatever_its_age() -> None:
    found = outlived(releases(40, 30, 20, 5), Retention(builds=1, days=0), spared=("a", "c"), now=NOW)
    assert found == ["b"]


@pytest.mark.parametrize("hour", [0, 12, 23])
def test_of_a_release_every_five_minutes_older_days_keep_their_last(hour: int) -> None:
    now = NOW + timedelta(hours=hour)
    moments = [now - timedelta(minutes=5 * count) for count in range(288 * 30)]
    there = [
        Release(build=f"{moment:%Y%m%dT%H%M%SZ}-3f9c2a7d41be", published_at=moment)
        for moment in reversed(moments)
    ]
    retention, spared = Retention(builds=7, days=30), {there[0].build, there[4000].build, there[-1].build}

    gone = set(outlived(there, retention, spared=spared, now=now))

    kept = [each for each in there if each.build not in gone]
    assert len(kept) <= 7 + 288 + 30
    assert {each.build for each in kept} >= spared | {each.build for each in there[-7:]}
    assert there[-288:] == kept[-288:], "those of one day"
    lasts = {each.published_at.date(): each for each in there}
    assert lasts == {each.published_at.date(): each for each in kept}
    older = [each for each in kept[:-289] if each.build not in spared]
    assert set(older) <= set(lasts.values()), "of a day that is over, one is enough"
    # so it is for those who come later: what was the last of its day stays that until it is too old
    assert not outlived(kept, retention, spared=spared, now=now)
    ten_days_on = set(outlived(kept, retention, spared=(), now=now + timedelta(days=10)))
    assert [each for each in kept if each.build not in ten_days_on] == [
        each
        for each in kept
        if (each in lasts.values() and now - each.published_at <= timedelta(days=20)) or each in there[-7:]
    ]


def test_of_releases_of_the_same_second_the_newer_build_is_the_last_of_its_day() -> None:
    assert outlived(releases(9, 9, 5), Retention(builds=1, days=30), spared=(), now=NOW) == ["a"]
    assert outlived(releases(9, 9, 5), Retention(builds=1, days=9), spared=(), now=NOW) == ["a"]


def test_releases_of_one_day_are_kept_for_no_longer_than_any() -> None:
    there = releases(0.75, 0.7, 0.3, 0.2)
    assert outlived(there, Retention(builds=1, days=0.5), spared=(), now=NOW) == ["a", "b"]
    assert not outlived(there, Retention(builds=1, days=30), spared=(), now=NOW)


def test_the_one_before_is_what_was_public_then() -> None:
    there = [*releases(3, 2), Release(build="c", published_at=NOW, previous="a")]
    assert one_before("c", there) == "a"


def test_where_that_one_is_gone_it_is_the_newest_of_the_older_ones() -> None:
    there = [*releases(3, 2), Release(build="c", published_at=NOW, previous="gone")]
    assert one_before("c", there) == "b"
    assert one_before("a", there) == ""


@pytest.mark.parametrize("manifest", [None, 7, [], {}, {"build": "a"}, {"build": "b", "snapshot": 1}])
def test_a_manifest_that_does_not_tell_makes_a_release_all_the_same(manifest: object) -> None:
    found = release_of("a", manifest, Keys(), written_at=NOW)
    assert found == Release(build="a", published_at=NOW)


def test_a_moment_before_all_calendars_makes_a_release_all_the_same() -> None:
    manifest = {
        "build": "a",
        "previous": "",
        "snapshot": {"digest": "0" * 64, "taken_at": NOW.isoformat()},
        "published_at": "0001-01-01T00:00:00+14:00",
        "source": "file",
        "images": 1,
        "set_aside": {},
        "archive": {"bytes": 1, "sha256": "0" * 64},
    }
    assert release_of("a", manifest, Keys(), written_at=NOW) == Release(build="a", published_at=NOW)
    manifest["published_at"] = "0001-01-02T00:00:00+14:00"
    assert release_of("a", manifest, Keys(), written_at=NOW).pointer

"""The history of releases: which was public before which, and which are old enough to delete."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oam_mosaic_assets.core.release import ARCHIVE, MANIFEST, Keys, Pointer, in_pointer

THINNED_AFTER_DAYS: Final = 1.0
"""From this age on, only the last release of each day counts as young: there may be one every few minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a release is kept: as long as it is among the newest, or young enough.

    Attributes:
        builds: how many of the newest are kept, whatever their age.
        days: for how many days after its publication the last release of a day (UTC) is kept. The others are
            kept for one day, or for as long if that is less.
    """

    builds: int = 7
    days: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A build that was published.

    Attributes:
        build: its name.
        published_at: UTC.
        previous: the build that was public before it; empty if there was none, or if it is not known.
        pointer: what `latest.json` says when it is public, without basis and ETags; None if its manifest does
            not tell.
    """

    build: str
    published_at: datetime
    previous: str = ""
    pointer: Pointer | None = None


def release_of(build: str, manifest: Any, keys: Keys, *, written_at: datetime) -> Release:
    """Read what a manifest says about a release; even one with an unreadable manifest counts as a release.

    Args:
        build: the release's name.
        manifest: its manifest, parsed from JSON; None if it is not JSON.
        keys: of the store.
        written_at: when the manifest was written, UTC; used if it cannot be read.
    """
    try:
        pointer = _pointer(build, manifest, keys)
        published_at = datetime.fromisoformat(manifest["published_at"]).astimezone(UTC)
        previous = str(manifest["previous"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return Release(build=build, published_at=written_at)
    return Release(build=build, published_at=published_at, previous=previous, pointer=pointer)


def _pointer(build: str, manifest: Mapping[str, Any], keys: Keys) -> Pointer:
    if manifest["build"] != build:
        raise ValueError("it belongs to another build")
    stated = Pointer(
        build=build,
        digest=manifest["snapshot"]["digest"],
        snapshot_taken_at=manifest["snapshot"]["taken_at"],
        checked_at=manifest["snapshot"]["taken_at"],
        published_at=manifest["published_at"],
        source=manifest["source"],
        images=manifest["images"],
        set_aside=sum(manifest["set_aside"].values()),
        archive=keys.release(build, ARCHIVE),
        manifest=keys.release(build, MANIFEST),
        size=manifest["archive"]["bytes"],
        sha256=manifest["archive"]["sha256"],
        products=in_pointer(manifest.get("products", {})),
    )
    return Pointer.from_json(stated.to_json())  # checks the types


def one_before(public: str, releases: Iterable[Release]) -> str:
    """The release that was public before the release `public`; empty if there is none.

    It is the one its manifest names; if that one is gone, the newest of the older releases.
    """
    there = {each.build: each for each in releases}
    stated = there[public].previous if public in there else ""
    return stated if stated in there else max((each for each in there if each < public), default="")


def outlived(
    releases: Sequence[Release], retention: Retention, *, spared: Collection[str], now: datetime
) -> list[str]:
    """The releases to delete: those that are neither among the newest nor young enough, nor spared.

    Args:
        releases: all releases.
        retention: how long they are kept.
        spared: releases that are needed, whatever their age.
        now: UTC.
    """
    newest = sorted((each.build for each in releases), reverse=True)[: retention.builds]
    in_order = sorted(releases, key=lambda each: (each.published_at, each.build))
    last_of_day = {each.published_at.date(): each.build for each in in_order}
    kept, lasting = {*newest, *spared}, set(last_of_day.values())

    def is_young(each: Release) -> bool:
        days = retention.days if each.build in lasting else min(retention.days, THINNED_AFTER_DAYS)
        return now - each.published_at <= timedelta(days=days)

    return [each.build for each in releases if each.build not in kept and not is_young(each)]

"""The commands `releases`, `hold` and `resume`. None of them needs Dagster."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

from oam_mosaic_assets.core.history import Retention, one_before
from oam_mosaic_assets.core.sizes import size_in_words
from oam_mosaic_assets.errors import MosaicError
from oam_mosaic_assets.gateways.from_settings import catalogue_of, store_of
from oam_mosaic_assets.gateways.history import read_releases, were_public
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.takedowns import how_to_finish
from oam_mosaic_assets.settings import Settings


def releases_of(settings: Settings) -> Releases:
    """The releases in the place that the settings name."""
    retention = Retention(builds=settings.retain_builds, days=settings.retain_days)
    return Releases(store_of(settings), settings.keys, retention=retention)


def announcement(settings: Settings, *, reads_catalogue: bool = False, place: str = "To") -> list[str]:
    """The lines a command begins with: remarks on the settings, what it reads, where it acts.

    Args:
        place: the label of the line that says where it acts.
    """
    lines = [f"Note  {remark}" for remark in settings.remarks()]
    if reads_catalogue:
        with suppress(MosaicError):  # the run will report it
            public = Releases(store_of(settings, patient=False), settings.keys).current()
            lines += [f"Note  {remark}" for remark in settings.replaces(public[0] if public else None)]
        lines.append(f"From  {catalogue_of(settings).origin}")
    return [*lines, f"{place:<4}  {store_of(settings).public_address(settings.keys.archive)}"]


def announced() -> Releases:
    """The same releases, announced on standard error so that nobody acts on the wrong place unawares."""
    settings = Settings.read()
    for line in announcement(settings, place="At"):
        say(line)
    return releases_of(settings)


def show_releases(*, as_json: bool) -> int:
    """List the releases that are still there, newest first."""
    releases = announced()
    current, hold = releases.current(), releases.holds.present()
    there = read_releases(releases.store, releases.keys)
    public = current[0].build if current else ""
    before, earlier = one_before(public, there), were_public(releases.store, releases.keys, there)
    listed = [
        {
            "build": each.build,
            "snapshot": each.pointer and each.pointer.snapshot_taken_at,
            "published": each.published_at.isoformat(),
            "images": each.pointer and each.pointer.images,
            "bytes": each.pointer and each.pointer.size,
            "state": _state(each.build, public, before, earlier) if current else "",
        }
        for each in there
    ]
    waiting = releases.staged.held()
    if as_json:
        document = {"held": hold and asdict(hold), "waiting": waiting, "releases": listed}
        print(json.dumps(document, ensure_ascii=False, indent=2))  # noqa: T201
        return 0
    _show(listed)
    if public and public not in {each.build for each in there}:
        print(f"{public} is public, but its release is gone")  # noqa: T201
    if hold:
        print(f"{hold}. To end it: oam-mosaic resume")  # noqa: T201
    unfinished = releases.takedowns.unfinished() if waiting else []
    for build in waiting:
        advice = f"To publish it: oam-mosaic publish {build} --confirm REASON"
        if unfinished:
            advice = f"A takedown waits with it. {how_to_finish(unfinished, is_held=True)}"
        print(  # noqa: T201
            f"{build} is audited and waits for a person, until a newer build is public or waits instead. "
            f"{advice}"
        )
    return 0


def _state(build: str, public: str, before: str, earlier: Collection[str]) -> str:
    """What a release is to the public one, in a word or two."""
    if build == public:
        return "public"
    if build == before:
        return "before it"
    if build not in earlier:
        return "unfinished"
    return "rolled back" if build > public else "earlier"


def _show(listed: list[dict[str, Any]]) -> None:
    if not listed:
        print("nothing has been published here")  # noqa: T201
        return
    rows = [["build", "published", "images", "size", "state"], *map(_row, listed)]  # within 80 columns
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for build, published, images, size, state in rows:
        cells = build.ljust(widths[0]), published.ljust(widths[1]), images.rjust(widths[2])
        print("  ".join([*cells, size.rjust(widths[3]), state]).rstrip())  # noqa: T201


def _row(release: dict[str, Any]) -> list[str]:
    published = datetime.fromisoformat(release["published"])
    images, size = release["images"], release["bytes"]
    return [
        release["build"],
        f"{published:%Y-%m-%d %H:%M}",  # UTC
        "unreadable" if images is None else f"{images:,}",
        "" if size is None else size_in_words(size),
        release["state"],
    ]


def hold(reason: str) -> int:
    """Hold publication until `resume`."""
    releases = announced()
    if releases.current() is None:
        say("Note  nothing has been published here: is this the place of the builds?")
    with releases.lock("a hold").held(say):
        placed = releases.holds.place(reason)
    print(f"{placed}. To end it: oam-mosaic resume")  # noqa: T201
    return 0


def resume() -> int:
    """End the hold."""
    releases = announced()
    if releases.holds.present() is None:
        print("publication was not held")  # noqa: T201
        return 0
    with releases.lock("the end of a hold").held(say):
        held = releases.holds.present()
        releases.holds.put_back(None)
    print(f"The hold has ended; the next build will be published. It said: {held}")  # noqa: T201
    return 0


def say(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr)  # noqa: T201

"""The private list of images that were taken down: no build shows them, and nothing else here names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from shlex import quote
from typing import Final

from oam_mosaic_assets.core import reasons
from oam_mosaic_assets.core.release import Keys, as_json
from oam_mosaic_assets.errors import PublicationLost, StoreRefused
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed

FINISH_TAKEDOWN: Final = "Finish what was begun: repeat the takedown that `oam-mosaic takedown --list` names."
"""What to do about an image that may still be public or kept, where not everybody may know its id."""

_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Takedown:
    """One image that must not be shown.

    Attributes:
        id: the STAC item's, an opaque string.
        reason: a person's; all of them, if it was taken down several times.
        since: UTC, ISO 8601.
        gone: when a place was last found not to name the image, by the place's prefix.
        begun: prefixes of the places in which it was taken down; earlier versions did not state them.
    """

    id: str
    reason: str
    since: str
    gone: dict[str, str] = field(default_factory=dict)
    begun: tuple[str, ...] = ()


def not_gone(names: Sequence[str]) -> str:
    """What is said of images that may still be public or kept."""
    return f"on the takedown list, but may still be public or kept here: {', '.join(names)}"


def how_to_finish(names: Sequence[str], *, is_held: bool) -> str:
    """What to do about them, for those who may read the list.

    Args:
        is_held: whether a build waits for a person. To publish it would not delete the earlier ones, which a
            takedown does, with a build of its own.
    """
    last = quote(names[0]) if not names[0].startswith("-") else f"-- {quote(names[0])}"
    others = ", then the same with each of the others" if len(names) > 1 else ""
    finish = "If the build that waits is as it should be, finish" if is_held else "Finish"
    confirmed = "--confirm REASON " if is_held else ""
    return f"{finish} what was begun: oam-mosaic takedown --reason REASON {confirmed}{last}{others}"


class Takedowns:
    """The list in a store. Every build reads it, so an unreadable one stops them all."""

    def __init__(self, store: ObjectStore, keys: Keys) -> None:
        self._store = store
        self._key = keys.taken_down
        self._place = keys.prefix
        self._is_sample = keys.is_sample

    def all(self) -> list[Takedown]:
        """All of them, the one added last at the end. Raises `StoreRefused` if the list cannot be read."""
        return self._read()[0]

    def ids(self) -> frozenset[str]:
        """The ids that no build may show."""
        return frozenset(each.id for each in self.all())

    def unfinished(self) -> list[str]:
        """The ids that may still be public or kept in this place. Raises as `all` does."""
        return [each.id for each in self.all() if self._place not in each.gone and self._may_show(each)]

    def add(self, name: str, reason: str) -> bool:
        """Put an image on the list; returns whether it was not on it.

        One that is on it already keeps its date and its reasons, and is as gone elsewhere.
        """
        is_new = name not in self.ids()
        new = Takedown(id=name, reason=reason, since=datetime.now(UTC).isoformat())

        def added(those: list[Takedown]) -> list[Takedown]:
            before = next((each for each in those if each.id == name), new)
            others = [each for each in those if each.id != name]
            elsewhere = {place: since for place, since in before.gone.items() if place != self._place}
            begun = tuple(sorted({*before.begun, self._place}))
            stated = reasons.added(before.reason, reason, between="; ")
            return [*others, replace(before, reason=stated, gone=elsewhere, begun=begun)]

        self._change(added)
        return is_new

    def mark_gone(self, name: str) -> None:
        """Record that nothing in this place names the image."""
        gone = {self._place: datetime.now(UTC).isoformat()}
        self._change(
            lambda those: [
                replace(each, gone=each.gone | gone) if each.id == name else each for each in those
            ]
        )

    def remove(self, name: str) -> bool:
        """Take an image off the list; returns whether it was on it."""
        if name not in self.ids():
            return False
        self._change(lambda those: [each for each in those if each.id != name])
        return True

    def _may_show(self, image: Takedown) -> bool:
        """Whether this place may have shown the image: the sample's shows no catalogue's."""
        return not self._is_sample or self._place in image.begun

    def _change(self, change: Callable[[list[Takedown]], list[Takedown]]) -> None:
        for _ in range(_ATTEMPTS):
            those, etag = self._read()
            content = as_json({"images": [asdict(each) for each in change(those)]})
            try:
                self._store.put_bytes(
                    self._key, content, Headers("application/json"), if_match=etag, if_absent=etag is None
                )
            except PreconditionFailed:
                continue  # somebody else changed it
            return
        raise PublicationLost(
            f"{self._key} in {self._store.origin} was changed by someone else at every attempt to write it.",
            hint="Run again.",
        )

    def _read(self) -> tuple[list[Takedown], str | None]:
        found = self._store.get_bytes(self._key)
        if found is None:
            return [], None
        try:
            those = [
                Takedown(
                    id=str(each["id"]),
                    reason=str(each["reason"]),
                    since=str(each["since"]),
                    gone=dict(each["gone"]),
                    begun=tuple(each.get("begun", ())),
                )
                for each in json.loads(found[0])["images"]
            ]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreRefused(
                f"{self._key} in {self._store.origin} lists what was taken down and cannot be read: {error}.",
                hint="Fix it by hand; until then nothing is built, as an image might be shown again.",
            ) from None
        return those, found[1].etag

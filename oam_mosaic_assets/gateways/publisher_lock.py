"""The publisher's lock: among publishers that share nothing but the store, only one is at work at a time.

It expires soon after its publisher dies. The holder renews it while at work, each time by a write conditional
on the last one, so it never takes back a lock that another publisher took over. It is released by such a
write too, never deleted: a deletion knows no condition that all servers honour, and is sent again where the
answer was lost, by when the lock may be another publisher's.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Lock, Thread
from typing import Final, NamedTuple, Self

from oam_mosaic_assets.core.release import as_json
from oam_mosaic_assets.errors import MosaicError, PublicationLost
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed, StoredObject

LIFETIME: Final = timedelta(minutes=2)
"""From the last renewal; then the publisher is presumed dead. A store may be silent for a minute."""

RENEWALS: Final = 4
"""How many per lifetime."""

PATIENCE: Final = 1.25
"""Lifetimes to wait for another publisher's lock; it expires within one, unless it is renewed."""

WRONG_CLOCKS: Final = timedelta(minutes=15)
"""By how much two publishers' clocks may differ: S3 refuses those whose clock is further out."""

RELEASED: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The end that a released lock states: so long past that anybody takes it at once, whatever the clocks."""

LOOKS: Final = 60
"""How often to look at another publisher's lock, per lifetime."""

HEADERS: Final = Headers("application/json")


class Holder(NamedTuple):
    """What a lock says about its publisher.

    Attributes:
        build: what is being published.
        since: when the lock was taken, ISO 8601; empty if it does not say.
        until: when it expires unless it is renewed, UTC.
    """

    build: str
    since: str
    until: datetime


class Watched:
    """Another publisher's lock, watched until it is known whether that publisher is at work.

    Args:
        lifetime: of the lock.
    """

    def __init__(self, lifetime: timedelta) -> None:
        self._lifetime = lifetime.total_seconds()
        self._seen = ""
        self._changed = time.monotonic()

    def is_dead(self, content: bytes, lock: StoredObject) -> bool:
        """Whether nobody renews it any more, given what is there now.

        Whose publisher is dead is seen best from here: its lock does not change for a lifetime.
        """
        if lock.etag != self._seen:
            self._seen, self._changed = lock.etag, time.monotonic()
        has_expired = _stated(content).until <= datetime.now(UTC) - WRONG_CLOCKS
        return has_expired or time.monotonic() > self._changed + self._lifetime


class PublisherLock:
    """One publisher's claim to the lock.

    Args:
        store: where it is kept.
        key: its name there.
        build: what is being published, shown to other publishers that wait.
        lifetime: counted from the last renewal.
    """

    def __init__(self, store: ObjectStore, key: str, build: str, *, lifetime: timedelta = LIFETIME) -> None:
        self._store = store
        self._key = key
        self._build = build
        self._lifetime = lifetime
        self._writer = secrets.token_hex(8)
        self._etag = ""
        self._since = ""
        self._renewing = Lock()
        self._released = Event()

    @contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[Self]:
        """Hold the lock for the block.

        Args:
            say: called once if it has to wait for another publisher.

        Raises:
            PublicationLost: another publisher holds it, and is still at work.
        """
        try:
            self._take(say)
            Thread(target=self._keep, name="publisher-lock", daemon=True).start()
            yield self
        finally:
            # the outcome of the block must be seen; the lock expires by itself, or is another publisher's
            with suppress(MosaicError, PreconditionFailed):
                self._release()

    def renew(self) -> None:
        """Make sure that the lock is still held, and extend it by a lifetime.

        Raises:
            PublicationLost: another publisher took it over, or somebody deleted it.
        """
        with self._renewing:
            try:
                self._write(if_match=self._etag)
            except PreconditionFailed:
                found = self._store.get_bytes(self._key)
                if found is None or not self._is_ours(found[0]):
                    raise PublicationLost(
                        f"The lock {self._key} was lost while it was held for {self._build}.",
                        hint="Run again; if it happens again, check who else writes to this place.",
                    ) from None
                self._etag = found[1].etag  # the answer to the last renewal was lost, not the lock

    def _take(self, say: Callable[[str], None]) -> None:
        """Take the lock if there is none or its publisher is dead; wait to find out."""
        lifetime = self._lifetime.total_seconds()
        began, holder, watched = time.monotonic(), "", Watched(self._lifetime)
        is_told = False
        while True:
            found = self._store.get_bytes(self._key)
            with suppress(PreconditionFailed):  # somebody was faster: look again
                if found is None:
                    return self._write(if_absent=True)
                holder = _stated(found[0]).build
                if watched.is_dead(*found):
                    return self._write(if_match=found[1].etag)
                if not is_told:
                    say(f"waiting for {holder}, which holds the publisher's lock, or for the lock to expire")
                    is_told = True
            if time.monotonic() > began + PATIENCE * lifetime:
                raise PublicationLost(
                    f"{holder} holds the lock {self._key} and keeps renewing it.",
                    hint="Wait until it has finished, then run again.",
                )
            time.sleep(lifetime / LOOKS)

    def _keep(self) -> None:
        while not self._released.wait(self._lifetime.total_seconds() / RENEWALS):
            try:
                self.renew()
            except PublicationLost:
                return  # the publisher renews it before it turns anything, and learns of it then
            except MosaicError:
                continue  # it has not expired yet

    def _release(self) -> None:
        self._released.set()
        with self._renewing:
            found = self._store.get_bytes(self._key)
            if found is not None and self._is_ours(found[0]):
                self._store.put_bytes(
                    self._key, self._content(until=RELEASED), HEADERS, if_match=found[1].etag
                )

    def _write(self, *, if_match: str | None = None, if_absent: bool = False) -> None:
        now = datetime.now(UTC)
        if not self._etag:
            self._since = now.isoformat(timespec="seconds")
        content = self._content(until=now + self._lifetime)
        self._etag = self._store.put_bytes(
            self._key, content, HEADERS, if_match=if_match, if_absent=if_absent
        ).etag

    def _content(self, *, until: datetime) -> bytes:
        stated = {"build": self._build, "writer": self._writer, "since": self._since}
        return as_json({**stated, "until": until.isoformat()})

    def _is_ours(self, content: bytes) -> bool:
        return f'"{self._writer}"'.encode() in content


def holder_of(store: ObjectStore, key: str) -> Holder | None:
    """The holder of a lock, even if expired; None if nobody took it, or its holder has released it.

    Raises: as `ObjectStore.get_bytes`.
    """
    found = store.get_bytes(key)
    holder = None if found is None else _stated(found[0])
    return None if holder is None or holder.until == RELEASED else holder


def _stated(lock: bytes) -> Holder:
    """What a lock says; an unreadable one counts as released."""
    try:
        stated = json.loads(lock)
        until = datetime.fromisoformat(stated["until"]).astimezone(UTC)
        return Holder(str(stated["build"]), str(stated.get("since", "")), until)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Holder("an unknown publisher", "", RELEASED)

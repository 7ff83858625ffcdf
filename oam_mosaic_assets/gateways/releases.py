"""What is public, and how another build becomes public: copied, read back, and only then pointed at.

What is public is complete at every moment: a release has keys of its own that never change, each fixed key
changes by one atomic copy, and the pointer, turned last and only by a conditional write, is authoritative.
Publishers that share nothing but the store exclude each other by an expiring lock in it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oam_mosaic_assets.core.history import Retention
from oam_mosaic_assets.core.product import JSON
from oam_mosaic_assets.core.release import (
    MANIFEST,
    TILEJSON,
    Keys,
    Pointer,
    as_json,
    how_to_confirm,
    is_overtaken,
)
from oam_mosaic_assets.errors import HeldBack, MosaicError, PublicationLost
from oam_mosaic_assets.gateways.history import delete_releases, read_releases
from oam_mosaic_assets.gateways.holds import Holds
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed, StoredObject
from oam_mosaic_assets.gateways.ownership import keep_foreign
from oam_mosaic_assets.gateways.public_keys import Part, PublicKeys
from oam_mosaic_assets.gateways.publisher_lock import LIFETIME, PublisherLock, Watched, holder_of
from oam_mosaic_assets.gateways.read_back import Expected
from oam_mosaic_assets.gateways.staged_builds import StagedBuilds
from oam_mosaic_assets.gateways.sweeping import sweep
from oam_mosaic_assets.gateways.takedowns import Takedowns

RELEASE_CACHING: Final = "public, max-age=86400, immutable"
"""A release never changes; but only a day, not a year, so that caches drop an image that was taken down."""

LONGEST_PUBLICATION: Final = 600.0
"""Seconds for which differences are put down to a publisher that is still at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A staged and audited build.

    Attributes:
        parts: its staged products, exactly as they were audited, the archive first.
        footprints: the staged footprints it was made from.
        set_aside: the staged list of what could not be drawn.
        density: the staged tables of the density grid, by the name that each is kept under; empty if no
            product is made from them.
        pointer: what `latest.json` is to say, except for `published_at` and ETags.
        manifest: everything recorded about the build; its `products` are in the pointer too.
        tilejson: makes the TileJSON from the archive's public address.
        names_any: whether it draws or names any of these images.
    """

    parts: Sequence[Part]
    footprints: StoredObject
    set_aside: StoredObject
    pointer: Pointer
    manifest: Mapping[str, Any]
    tilejson: Callable[[str], Mapping[str, Any]]
    names_any: Callable[[frozenset[str]], bool]
    density: Mapping[str, StoredObject] = field(default_factory=dict)


class Releases:
    """The public side of a store."""

    def __init__(
        self,
        store: ObjectStore,
        keys: Keys,
        *,
        retention: Retention = Retention(),  # noqa: B008  # frozen
        patience_seconds: float = 90.0,
        lock_lifetime: timedelta = LIFETIME,
    ) -> None:
        """Set up access to a store.

        Args:
            retention: how long releases are kept.
            patience_seconds: how long the public address may keep answering from an outdated cache.
            lock_lifetime: how long after its last sign of life a publisher is presumed dead.
        """
        self.store = store
        self.keys = keys
        self.retention = retention
        self.lock_lifetime = lock_lifetime
        self.public = PublicKeys(store, keys, patience_seconds=patience_seconds)
        self.staged = StagedBuilds(store, keys)
        self.holds = Holds(store, keys)
        self.takedowns = Takedowns(store, keys)

    def current(self) -> tuple[Pointer, StoredObject] | None:
        """See `PublicKeys.current`."""
        return self.public.current()

    def differences(self, pointer: Pointer | None) -> list[str]:
        """See `PublicKeys.differences`; without a pointer, says so if there must have been one."""
        if pointer is not None:
            return self.public.differences(pointer)
        there = read_releases(self.store, self.keys)
        lost = f"{self.keys.pointer}, which says what is public, is missing"
        return [f"{lost}, although there are releases; the last is {there[0].build}"] if there else []

    def looked_at(self, say: Callable[[str], None]) -> tuple[Pointer | None, list[str]]:
        """The pointer, and what differs from it.

        While a publisher is at work there are differences for a moment, so this waits for it.

        Args:
            say: called once if it has to wait.
        """
        is_told = False
        deadline, watched = time.monotonic() + LONGEST_PUBLICATION, Watched(self.lock_lifetime)
        while True:
            current = self.current()
            pointer, etag = (current[0], current[1].etag) if current else (None, "")
            differences = self.differences(pointer)
            if not differences or time.monotonic() > deadline or not self._is_changing(etag, watched):
                return pointer, differences
            if not is_told:
                say("something differs while a publisher is at work, or was until lately: waiting to see")
                is_told = True
            time.sleep(1.0)

    def _is_changing(self, etag: str, watched: Watched) -> bool:
        """Whether a publisher is at work, or the pointer's ETag is another by now (empty: there is none)."""
        lock = self.store.get_bytes(self.keys.lock)
        if lock and not watched.is_dead(*lock):
            return True
        now = self.current()
        return (now[1].etag if now else "") != etag

    def lock(self, build: str) -> PublisherLock:
        """The lock under which all of this is changed.

        Args:
            build: what is being done, shown to other publishers that wait.
        """
        return PublisherLock(self.store, self.keys.lock, build, lifetime=self.lock_lifetime)

    def publish(
        self,
        candidate: Candidate,
        *,
        confirmed: str | None = None,
        is_takedown: bool = False,
        say: Callable[[str], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> Pointer:
        """Make a build public, or leave everything as it is.

        Args:
            confirmed: a person's reason to publish a build that would be held back.
            is_takedown: an image has to go from what is public: a hold does not count.
            say: called with what is being done.
            warn: called with what went wrong once everything was public.

        Raises:
            PublicationHeld: a person has put a hold on publication.
            PublicationLost: another publisher is at work or was faster, or what is public is newer; or the
                build shows an image that was taken down since its snapshot.
            HeldBack: there is a foreign object under a fixed key; a person must confirm.
            NotAsPublished: the public address does not answer with what was written.
        """
        build = candidate.pointer.build
        with self.lock(build).held(say) as lock:
            if not is_takedown:
                self.holds.refuse()
            self._refuse_taken_down(candidate)
            before = self.current()
            self._refuse_older(candidate, before)
            with self._or_waiting_alone(build):
                keep_foreign(
                    self.store,
                    self.keys,
                    self.keys.fixed_of(each.name for each in candidate.parts),
                    written_before=before[0].etags if before else (),
                    confirmed=confirmed,
                    how_to_confirm=how_to_confirm(None if is_takedown else build),
                    say=say,
                )
            released = self._release(candidate, lock, say, before=before[0].build if before else "")
            with self._or_withdrawn(build, lock), self.public.or_as_before(released, before, lock):
                described = candidate.tilejson(self.store.public_address(self.keys.archive))
                pointer = self.public.turn(released, described, candidate.pointer, before, lock, say)
            say(f"{build} is public at {self.store.public_address(self.keys.archive)}")
            try:
                self._keep_tables(candidate)
                lock.renew()  # or another publisher's uploads would be swept up
                was_public = before[0] if before else None
                sweep(self.store, self.keys, build, self.retention, before=was_public)
            except (MosaicError, PreconditionFailed) as error:  # the next publication tidies up as well
                warn(f"{build} is public, but not everything could be cleaned up afterwards. {error}")
            self.public.see(pointer, warn)
        return pointer

    def let_wait_alone(self, build: str) -> None:
        """Delete the builds that were held back before this one, so that they do not pile up.

        Not while anyone is publishing, as it may be one of them; the next build that is held back does it.

        Raises:
            PublicationLost: another publisher began at this moment.
        """
        holder = holder_of(self.store, self.keys.lock)
        if holder and holder.until > datetime.now(UTC):
            return
        if older := self._held_before(build):
            with self.lock(f"tidying up before {build}").held(lambda _: None):
                for each in older:
                    self.staged.discard(each)

    @contextmanager
    def _or_waiting_alone(self, build: str) -> Iterator[None]:
        """If a build is held back under its own lock, delete those that were held back before it."""
        try:
            yield
        except HeldBack as held:
            with suppress(MosaicError):  # why it is held back must be seen; the next one tidies up
                self.staged.mark_held(build, held.message)
                for each in self._held_before(build):
                    self.staged.discard(each)
            raise

    def _held_before(self, build: str) -> list[str]:
        return [each for each in self.staged.held() if is_overtaken(each, build)]

    @contextmanager
    def _or_withdrawn(self, build: str, lock: PublisherLock) -> Iterator[None]:
        """If a build does not become public, delete its release, or it would be listed as one that was.

        It stays if it is public after all, as only an answer was lost, and while anything public differs from
        what the pointer says: fixed keys may show it. If the lock was lost, a retry may be publishing it.
        """
        try:
            yield
        except BaseException:
            with suppress(MosaicError):  # the first failure must be seen
                lock.renew()
                current = self.current()
                if current and current[0].build != build and not self.differences(current[0]):
                    self._delete(build)
            raise

    def _refuse_taken_down(self, candidate: Candidate) -> None:
        """A takedown may have come between this build's snapshot and now."""
        taken_down = self.takedowns.ids()
        if taken_down and candidate.names_any(taken_down):
            raise PublicationLost(
                f"{candidate.pointer.build} shows an image that was taken down since its snapshot.",
                hint="Build again; the next build leaves it out.",
            )

    def _refuse_older(self, candidate: Candidate, before: tuple[Pointer, StoredObject] | None) -> None:
        taken = candidate.pointer.snapshot_taken_at
        if before and (public := datetime.fromisoformat(before[0].snapshot_taken_at)) > (
            datetime.fromisoformat(taken)
        ):
            hint = "Nothing needs to be done; the newer mosaic stays public."
            if public > datetime.now(UTC):
                there = {each.build for each in read_releases(self.store, self.keys)}
                way_out = (
                    "run `oam-mosaic rollback`, then `oam-mosaic resume`, and build again"
                    if there - {before[0].build}
                    else f"move {self.keys.pointer} in {self.store.origin} away, as there is no other build "
                    "to go back to, and build again"
                )
                hint = (
                    "That is in the future by this machine's clock: set the clock. If the other clock was "
                    f"ahead instead, {way_out}."
                )
            raise PublicationLost(
                f"The public mosaic {before[0].build} shows the catalogue of {before[0].snapshot_taken_at}; "
                f"this build's snapshot is older ({taken}).",
                hint=hint,
            )

    def _release(
        self, candidate: Candidate, lock: PublisherLock, say: Callable[[str], None], *, before: str
    ) -> list[Part]:
        """Write the build's own objects and read them back; if that fails, delete all of them.

        Those of a build that is public already stay: its publication failed after the pointer was turned, and
        is being repeated.

        Args:
            before: the public build; empty if there is none.
        """
        build = candidate.pointer.build
        is_public = before == build
        history = self._history(candidate, before)
        address = self.store.public_address(candidate.pointer.archive)
        try:
            released = [self._copied(each, build, before, say) for each in candidate.parts]
            lock.renew()
            for name, content in (
                (MANIFEST, {**candidate.manifest, **history, "address": address}),
                (TILEJSON, candidate.tilejson(address)),
            ):
                headers = Headers(JSON, RELEASE_CACHING)
                self.store.put_bytes(self.keys.release(build, name), as_json(content), headers, public=True)
                self.public.read_back(self.keys.release(build, name), Expected.whole(as_json(content), JSON))
            lock.renew()  # the last moment at which all of it can be undone
        except BaseException:
            if not is_public:
                with suppress(MosaicError):  # the first failure must be seen; the next sweep tidies up
                    self._withdraw(build, lock)
            raise
        return released

    def _withdraw(self, build: str, lock: PublisherLock) -> None:
        """Delete an unfinished release, but not from under a retry, which publishes the same build.

        The run that it retries was taken for dead, but had only been suspended or cut off.
        """
        try:
            lock.renew()
        except PublicationLost:
            holder = holder_of(self.store, self.keys.lock)
            if (holder and holder.build == build) or self.store.head(self.keys.release(build, MANIFEST)):
                return
        self._delete(build)

    def _delete(self, build: str) -> None:
        """Delete a release that did not become public; its manifest stays with what is staged of the build.

        A build that a person confirmed remains staged. Its publication may be repeated.
        """
        if manifest := self.store.get_bytes(self.keys.release(build, MANIFEST)):
            self.store.put_bytes(self.keys.staging(build, MANIFEST), manifest[0], Headers(JSON))
        delete_releases(self.store, self.keys, [build])

    def _copied(self, part: Part, build: str, public: str, say: Callable[[str], None]) -> Part:
        """Copy a staged product to the release, and read it back.

        Args:
            public: the public build; empty if there is none.
        """
        key = self.keys.release(build, part.name)
        say(f"copying to {key}")
        headers = Headers(part.content_type, RELEASE_CACHING)
        try:
            stored = self.store.copy(part.stored, key, headers, public=True)
        except PreconditionFailed:
            raise self._overtaken(part.stored.key, build, public) from None
        self.public.read_back(key, part.expected)
        return replace(part, stored=stored)

    def _overtaken(self, key: str, build: str, public: str) -> PublicationLost:
        """Why a staged object is not the one that was audited."""
        if self.store.head(key) is not None:
            return PublicationLost(
                f"The staged {key} was replaced after its audit.",
                hint="Build again; if it happens again, check who else writes to this place.",
            )
        if build == public:
            return PublicationLost(
                f"{build} was published by another run; one of the two is a retry of the other.",
                hint="Nothing needs to be done.",
            )
        if is_overtaken(build, public):
            return PublicationLost(
                f"Another publisher was faster: {public} became public while {build} was being made, "
                "and its staged objects were then deleted.",
                hint="Nothing needs to be done; the newer mosaic stays public.",
            )
        return PublicationLost(
            f"The staged {key} was deleted after its audit.",
            hint="Build again; if it happens again, check who else deletes in this place.",
        )

    def _history(self, candidate: Candidate, before: str) -> dict[str, Any]:
        """When the build was published, after which other, and on whose word.

        If a publication of it that was killed or failed left a manifest, that tells: caches may go on
        answering with it, and the content of a release never changes. Unless something else has become
        public meanwhile: a rollback must lead to that.

        Args:
            before: the public build; empty if there is none.
        """
        build = candidate.pointer.build
        history = {
            "published_at": datetime.now(UTC).isoformat(),
            "previous": before if before != build else "",
            "confirmed": candidate.manifest.get("confirmed"),
        }
        released, staged = self.keys.release(build, MANIFEST), self.keys.staging(build, MANIFEST)
        found = self.store.get_bytes(released) or self.store.get_bytes(staged)
        with suppress(ValueError, TypeError, KeyError, RecursionError):  # of another version, or not ours
            stated = json.loads(found[0]) if found else history
            if stated["previous"] == history["previous"] or before == build:
                return {name: stated[name] for name in history}
        return history

    def _keep_tables(self, candidate: Candidate) -> None:
        """Keep the tables that later snapshots are compared with."""
        tables = {
            "footprints": candidate.footprints,
            "set_aside": candidate.set_aside,
            **candidate.density,
        }
        for name, table in tables.items():
            key = self.keys.table(name, candidate.pointer.build)
            self.store.copy(table, key, Headers("application/vnd.apache.parquet"))

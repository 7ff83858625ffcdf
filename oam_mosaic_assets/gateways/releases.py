"""What is public, and how another build becomes it: copied, read back, and only then pointed at.

At every moment what is public is whole: a release has keys of its own that are never changed, the fixed keys
change by one atomic copy each, and the pointer, turned last and only by a conditional write, says what is
true. Publishers that share nothing but the store keep out of each other's way by an expiring lock in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oam_mosaic_assets.core.release import (
    ARCHIVE,
    AUDIT,
    CLAIM,
    MANIFEST,
    TILEJSON,
    Keys,
    Pointer,
    as_json,
    build_name,
    tilejson_address,
)
from oam_mosaic_assets.errors import MosaicError, PublicationLost, StoreRefused
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed, StoredObject
from oam_mosaic_assets.gateways.ownership import FOREIGN, build_shown, keep_foreign
from oam_mosaic_assets.gateways.publisher_lock import LIFETIME, PublisherLock
from oam_mosaic_assets.gateways.read_back import Expected, read_back

PMTILES: Final = "application/vnd.pmtiles"
JSON: Final = "application/json"

RELEASE_CACHING: Final = "public, max-age=86400, immutable"
"""A release never changes; a day, not a year, so that caches forget an image that was taken down."""

FIXED_CACHING: Final = "public, max-age=60, must-revalidate"

ABANDONED_SECONDS: Final = 6 * 3600.0
"""An upload that was begun this long ago has nobody who finishes it."""

READ_BACK: Final = 1024
"""Bytes compared at either end of the archive; the header is in the first 127."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A staged and audited build.

    Attributes:
        archive: the staged archive, exactly as it was audited.
        footprints: the staged footprints it was made from.
        set_aside: the staged list of what could not be drawn.
        head: its first bytes.
        tail: its last bytes.
        pointer: what `latest.json` is to say, but for times and ETags.
        manifest: all that is recorded of the build.
        tilejson: makes the TileJSON from the archive's public address.
    """

    archive: StoredObject
    footprints: StoredObject
    set_aside: StoredObject
    head: bytes
    tail: bytes
    pointer: Pointer
    manifest: Mapping[str, Any]
    tilejson: Callable[[str], Mapping[str, Any]]

    @property
    def expected(self) -> Expected:
        """What a stranger must be answered where the archive is public."""
        return Expected(content_type=PMTILES, size=self.archive.size, head=self.head, tail=self.tail)


class Releases:
    """The public side of a store."""

    def __init__(
        self,
        store: ObjectStore,
        keys: Keys,
        *,
        patience_seconds: float = 90.0,
        lock_lifetime: timedelta = LIFETIME,
    ) -> None:
        """Look at a store.

        Args:
            patience_seconds: how long the public address may answer with what a cache still holds.
            lock_lifetime: how long after its last sign of life a publisher is taken for dead.
        """
        self.store = store
        self.keys = keys
        self.patience_seconds = patience_seconds
        self.lock_lifetime = lock_lifetime

    def current(self) -> tuple[Pointer, StoredObject] | None:
        """What the pointer says, and which object said so; None where nothing was published yet.

        Raises:
            StoreRefused: what lies there is no pointer of ours.
        """
        found = self.store.get_bytes(self.keys.pointer)
        if found is None:
            return None
        try:
            return Pointer.from_json(found[0]), found[1]
        except ValueError as error:
            raise StoreRefused(
                f"{self.keys.pointer} in {self.store.origin} cannot be read: {error}.",
                hint="See who wrote it; move it away if nothing needs it, or choose another MOSAIC_PREFIX.",
            ) from None

    def name_build(self, started: datetime, digest: str, *, run: str) -> str:
        """Name a build as no other is named in this store.

        The name is claimed by a staged object. Where two builds of one snapshot began in the same second, one
        of them is named after the next.

        Args:
            started: UTC.
            digest: of its snapshot.
            run: who claims the name.
        """
        claim = as_json({"run": run})
        while True:
            build = build_name(started, digest)
            started += timedelta(seconds=1)
            key = self.keys.staging(build, CLAIM)
            try:
                self.store.put_bytes(key, claim, _json("private, no-store"), if_absent=True)
            except PreconditionFailed:
                continue
            # the claim of a build that is public went when it became so
            if self.store.head(self.keys.release(build, ARCHIVE)) is None:
                return build
            with suppress(MosaicError):  # the next publication sweeps it up
                self.store.delete([key])

    def named_by(self, run: str) -> list[str]:
        """The builds that are staged under a name which this run claimed."""
        claims = [each.key for each in self.store.keys(self.keys.staging_root)]
        return [
            self._staged_build(key)
            for key in claims
            if key.endswith(f"/{CLAIM}")
            and (found := self.store.get_bytes(key)) is not None
            and json.loads(found[0])["run"] == run
        ]

    def held(self) -> list[str]:
        """The builds that are staged and audited, the oldest first: those a person may publish."""
        staged = [each.key for each in self.store.keys(self.keys.staging_root)]
        return [self._staged_build(key) for key in staged if key.endswith(f"/{AUDIT}")]

    def publish(
        self,
        candidate: Candidate,
        *,
        confirmed: str | None = None,
        say: Callable[[str], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> Pointer:
        """Make a build public, or leave everything as it is.

        Args:
            confirmed: why a person lets a build pass that would be held back.
            say: told what is being done.
            warn: told what went wrong after all was public.

        Raises:
            PublicationLost: another publisher is at work or was faster, or what is public is newer.
            HeldBack: a foreign object lies under a fixed key; a person must confirm.
            NotAsPublished: the public address does not answer with what was written.
        """
        build = candidate.pointer.build
        lock = PublisherLock(self.store, self.keys.lock, build, lifetime=self.lock_lifetime)
        with lock.held(say):
            before = self.current()
            self._refuse_older(candidate, before)
            keep_foreign(
                self.store,
                self.keys,
                written_before=before[0].etags if before else (),
                confirmed=confirmed,
                say=say,
            )
            released = self._release(
                candidate, lock, say, is_public=before is not None and before[0].build == build
            )
            with self._or_as_before():
                etags = self._turn_fixed_keys(candidate, released, say)
                lock.renew()
                now = datetime.now(UTC).isoformat()
                pointer = replace(candidate.pointer, etags=etags, published_at=now)
                self._turn_pointer(pointer, before)
            self._read_back(self.keys.pointer, Expected.whole(pointer.to_json(), JSON))
            say(f"{build} is public at {self.store.public_address(self.keys.archive)}")
            try:
                self._tidy(candidate, before[0].build if before else None)
            except MosaicError as error:  # it is public, and the next publication tidies up as well
                warn(f"{build} is public, but not all that it leaves behind was taken away. {error}")
        return pointer

    def differences(self, pointer: Pointer) -> list[str]:
        """What lies under the fixed keys and is not what the pointer says: deleted, or overwritten."""
        found = []
        for key, etag in pointer.etags.items():
            present = self.store.head(key)
            if present is None:
                found.append(f"{key} is gone")
            elif present.etag != etag:
                build = build_shown(self.store, self.keys, present)
                found.append(
                    f"{key} shows {build}, whose publication did not end"
                    if build not in (None, pointer.build)
                    else f"{key} was overwritten on {present.written_at:%Y-%m-%d %H:%M} UTC"
                )
            elif self.store.read_publicly(key, length=1) is None:
                found.append(f"{key} is not publicly readable")
        if self.store.head(pointer.archive) is None:
            found.append(f"{pointer.archive} is gone")
        return found

    def discard(self, build: str) -> None:
        """Delete all that is staged of a build."""
        self.store.delete([each.key for each in self.store.keys(self.keys.staging(build))])

    def _staged_build(self, key: str) -> str:
        return key.removeprefix(self.keys.staging_root).split("/", 1)[0]

    def _refuse_older(self, candidate: Candidate, before: tuple[Pointer, StoredObject] | None) -> None:
        taken = candidate.pointer.snapshot_taken_at
        if before and datetime.fromisoformat(before[0].snapshot_taken_at) > datetime.fromisoformat(taken):
            raise PublicationLost(
                f"The public mosaic {before[0].build} shows the catalogue of {before[0].snapshot_taken_at}; "
                f"this build's snapshot is older ({taken}).",
                hint="Nothing needs to be done; the newer mosaic stays public.",
            )

    def _release(
        self, candidate: Candidate, lock: PublisherLock, say: Callable[[str], None], *, is_public: bool
    ) -> StoredObject:
        """Write the build's own objects, read the archive back, and take all away again if it fails.

        A build that is public already stays: its publication failed after the pointer was turned, and is
        repeated.
        """
        build, key = candidate.pointer.build, candidate.pointer.archive
        say(f"copying the archive to {key}")
        address = self.store.public_address(key)
        try:
            try:
                released = self.store.copy(
                    candidate.archive, key, Headers(PMTILES, RELEASE_CACHING), public=True
                )
            except PreconditionFailed:
                raise PublicationLost(
                    f"The staged archive {candidate.archive.key} is no longer the one that was audited.",
                    hint="Build again; if it happens twice, see who else writes to this place.",
                ) from None
            self._read_back(key, candidate.expected)
            for name, content in (
                (MANIFEST, {**candidate.manifest, "address": address}),
                (TILEJSON, candidate.tilejson(address)),
            ):
                self.store.put_bytes(
                    self.keys.release(build, name), as_json(content), _json(RELEASE_CACHING), public=True
                )
                self._read_back(self.keys.release(build, name), Expected.whole(as_json(content), JSON))
            lock.renew()  # the last moment at which all of it can be taken back
        except BaseException:
            if not is_public:
                with suppress(MosaicError):  # what failed first must be seen; `_tidy` comes by later
                    self.store.delete(
                        [self.keys.release(build, name) for name in (ARCHIVE, MANIFEST, TILEJSON)]
                    )
            raise
        return released

    def _turn_fixed_keys(
        self, candidate: Candidate, released: StoredObject, say: Callable[[str], None]
    ) -> dict[str, str]:
        document = as_json(candidate.tilejson(self.store.public_address(self.keys.archive)))
        etags = self._turn(released, document, say)
        for key in self.keys.fixed_archives():
            self._read_back(key, candidate.expected)
        self._read_back(self.keys.tilejson, Expected.whole(document, JSON))
        return etags

    def _turn(self, released: StoredObject, document: bytes, say: Callable[[str], None]) -> dict[str, str]:
        """Let the fixed keys show a release and its TileJSON; their ETags."""
        etags = {}
        for key in self.keys.fixed_archives():
            say(f"copying the archive to {key}")
            etags[key] = self.store.copy(released, key, Headers(PMTILES, FIXED_CACHING), public=True).etag
        key = self.keys.tilejson
        etags[key] = self.store.put_bytes(key, document, _json(FIXED_CACHING), public=True).etag
        return etags

    def _turn_pointer(self, pointer: Pointer, before: tuple[Pointer, StoredObject] | None) -> None:
        try:
            self.store.put_bytes(
                self.keys.pointer,
                pointer.to_json(),
                _json(FIXED_CACHING),
                public=True,
                if_match=before[1].etag if before else None,
                if_absent=before is None,
            )
        except PreconditionFailed:
            raise PublicationLost(
                f"Another publisher turned {self.keys.pointer} while {pointer.build} was being published.",
                hint="Run the build again, and let only one publisher write to this place.",
            ) from None

    def _read_back(self, key: str, expected: Expected) -> None:
        read_back(self.store, key, expected, patience_seconds=self.patience_seconds)

    @contextmanager
    def _or_as_before(self) -> Iterator[None]:
        """Where fixed keys or pointer cannot be turned, let the fixed keys show again what the pointer says.

        What another publisher does now is his; and where nothing was public before, the next build finds that
        what lies there is ours.
        """
        try:
            yield
        except PublicationLost:
            raise
        except BaseException:
            with suppress(MosaicError, PreconditionFailed):  # what failed first must be seen
                self._show_again()
            raise

    def _show_again(self) -> None:
        before = self.current()  # asked again: it may have been turned, and only the answer was lost
        released = before and self.store.head(before[0].archive)
        document = before and self.store.get_bytes(self.keys.release(before[0].build, TILEJSON))
        if before is None or not released or not document or not self.differences(before[0]):
            return
        described = json.loads(document[0]) | tilejson_address(self.store.public_address(self.keys.archive))
        etags = self._turn(released, as_json(described), lambda _: None)
        self._turn_pointer(replace(before[0], etags=etags), before)

    def _tidy(self, candidate: Candidate, previous: str | None) -> None:
        """Keep what later snapshots are compared with; take away what can never be public.

        A staged build that began before this one is older than what is public, so it would be refused. A
        release without a manifest was never finished.
        """
        build = candidate.pointer.build
        doomed: list[str] = []
        for table, key_of in (
            (candidate.footprints, self.keys.footprints),
            (candidate.set_aside, self.keys.set_aside),
        ):
            self.store.copy(table, key_of(build), Headers("application/vnd.apache.parquet"))
            kept = {key_of(each) for each in (build, previous) if each}
            doomed += [each.key for each in self.store.keys(key_of()) if each.key not in kept]
        doomed += [
            each.key
            for each in self.store.keys(self.keys.staging_root)
            if self._staged_build(each.key) <= build
        ]
        releases: dict[str, list[str]] = {}
        root = self.keys.releases_root
        for each in self.store.keys(root):
            releases.setdefault(each.key.removeprefix(root).split("/", 1)[0], []).append(each.key)
        for name, present in releases.items():
            if not name.startswith(FOREIGN) and self.keys.release(name, MANIFEST) not in present:
                doomed += present
        self.store.delete(doomed)
        # whoever holds the lock is the only one who writes what is public; others may be staging
        for public in (self.keys.releases_root, *self.keys.fixed_archives()):
            self.store.abandon_uploads(public, older_than_seconds=0.0)
        self.store.abandon_uploads(self.keys.prefix, older_than_seconds=ABANDONED_SECONDS)


def _json(caching: str) -> Headers:
    return Headers(JSON, caching)

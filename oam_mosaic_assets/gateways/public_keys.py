"""The fixed keys and the pointer: what they show, and how they are turned to another release together.

Each changes at once, but they are several: the pointer is turned last, and where one of them cannot be turned
the others are turned back. A product that the build lacks is taken away, so that all are of one build.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from oam_mosaic_assets.core.product import JSON, PMTILES
from oam_mosaic_assets.core.release import TILEJSON, Keys, Pointer, as_json, tilejson_address
from oam_mosaic_assets.errors import MosaicError, PublicationLost, StoreRefused
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed, StoredObject
from oam_mosaic_assets.gateways.ownership import build_shown
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock
from oam_mosaic_assets.gateways.read_back import Expected, read_back

FIXED_CACHING: Final = "public, max-age=60, must-revalidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One product of a build, where it lies.

    Attributes:
        name: the product's.
        stored: the object, staged or released, exactly as it was looked at.
        expected: what a stranger must be answered where it is public.
    """

    name: str
    stored: StoredObject
    expected: Expected

    @property
    def content_type(self) -> str:
        """What readers are told."""
        return self.expected.content_type


class PublicKeys:
    """The keys whose objects change."""

    def __init__(self, store: ObjectStore, keys: Keys, *, patience_seconds: float) -> None:
        """Look at a store.

        Args:
            patience_seconds: how long the public address may answer with what a cache still holds.
        """
        self.store = store
        self.keys = keys
        self.patience_seconds = patience_seconds

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
        found += [f"{key} is gone" for key in pointer.released.values() if self.store.head(key) is None]
        return found

    def turn(
        self,
        released: Sequence[Part],
        described: Mapping[str, Any],
        before: Pointer | None,
        say: Callable[[str], None],
    ) -> dict[str, str]:
        """Let the fixed keys show a release and its TileJSON, and read each back; their ETags.

        What was public before under another key is taken away: a product that is not in this release, and
        keys that the settings no longer name.

        Args:
            released: the release's products; copied only as they are described here.
            described: the TileJSON of the fixed key.
            before: what is public.
            say: told what is being done.
        """
        document = as_json(described)
        etags = self._write([(each.name, each.stored, each.content_type) for each in released], document, say)
        for each in released:
            for key in self.keys.fixed(each.name):
                self.read_back(key, each.expected)
        self.read_back(self.keys.tilejson, Expected.whole(document, JSON))
        if before:
            self._take_away(before, etags, say)
        return etags

    def _take_away(self, before: Pointer, written: Collection[str], say: Callable[[str], None]) -> None:
        """Delete what the other fixed keys show, where it is still what the pointer says."""
        for key in before.etags.keys() - written:
            present = self.store.head(key)
            if present is not None and present.etag == before.etags[key]:
                say(f"taking away {key}, which the build does not have")
                self.store.delete([key])

    def absent(self, products: Sequence[Part]) -> list[str]:
        """The fixed keys of these products under which nothing lies."""
        fixed = [key for each in products for key in self.keys.fixed(each.name)]
        return [key for key in fixed if self.store.head(key) is None]

    def turn_pointer(self, pointer: Pointer, before: tuple[Pointer, StoredObject] | None) -> None:
        """Say what is public now, where nobody has said otherwise since `before` was read.

        Raises:
            PublicationLost: somebody has.
        """
        try:
            self.store.put_bytes(
                self.keys.pointer,
                pointer.to_json(),
                Headers(JSON, FIXED_CACHING),
                public=True,
                if_match=before[1].etag if before else None,
                if_absent=before is None,
            )
        except PreconditionFailed:
            raise PublicationLost(
                f"Another publisher turned {self.keys.pointer} while {pointer.build} was being published.",
                hint="Run the build again, and let only one publisher write to this place.",
            ) from None

    def read_back(self, key: str, expected: Expected) -> None:
        """See that a stranger is answered with what was written. Raises `NotAsPublished`."""
        read_back(self.store, key, expected, patience_seconds=self.patience_seconds)

    @contextmanager
    def or_as_before(self, released: Sequence[Part], lock: PublisherLock) -> Iterator[None]:
        """Where fixed keys or pointer cannot be turned, let the fixed keys show again what the pointer says.

        What another publisher does now is his; and where nothing was public before, the next build finds that
        what lies there is ours.

        Args:
            released: what they are to be turned to.
            lock: under which that happens; where it is lost nothing is written.
        """
        absent = self.absent(released)
        try:
            yield
        except PublicationLost:
            raise
        except BaseException:
            with suppress(MosaicError, PreconditionFailed):  # what failed first must be seen
                self._show_again(absent, lock)
            raise

    def _show_again(self, absent: Collection[str], lock: PublisherLock) -> None:
        lock.renew()  # it may have ended while the store was away, and another publisher be at work
        before = self.current()  # asked again: it may have been turned, and only the answer was lost
        if before is None:
            return
        pointer = before[0]
        self.store.delete([key for key in absent if key not in pointer.etags])
        document = self.store.get_bytes(self.keys.release(pointer.build, TILEJSON))
        if not document or not self.differences(pointer):
            return
        kinds = {name: str(each["content_type"]) for name, each in pointer.products.items()}
        there = [
            (name, released, kinds.get(name, PMTILES))
            for name, key in pointer.released.items()
            if (released := self.store.head(key))
        ]
        if len(there) == len(pointer.released):
            described = as_json(self.described_here(document[0]))
            etags = self._write(there, described, lambda _: lock.renew())  # before each
            self.turn_pointer(replace(pointer, etags=etags), before)

    def described_here(self, document: bytes) -> dict[str, Any]:
        """A release's own TileJSON as that of the fixed key. Raises `ValueError`: it is none."""
        described: dict[str, Any] = json.loads(document)
        return described | tilejson_address(self.store.public_address(self.keys.archive))

    def _write(
        self, released: Sequence[tuple[str, StoredObject, str]], document: bytes, say: Callable[[str], None]
    ) -> dict[str, str]:
        """Copy each product (name, released object, content type) to its fixed keys; their ETags."""
        etags = {}
        for name, stored, content_type in released:
            for key in self.keys.fixed(name):
                say(f"copying to {key}")
                headers = Headers(content_type, FIXED_CACHING)
                etags[key] = self.store.copy(stored, key, headers, public=True).etag
        key = self.keys.tilejson
        etags[key] = self.store.put_bytes(key, document, Headers(JSON, FIXED_CACHING), public=True).etag
        return etags

"""The fixed keys and the pointer: what they show, and how they are turned to another release together.

Each changes atomically, but not all at once: the pointer is turned last, and if one of them cannot be turned,
the others are turned back. A product that the build lacks is deleted, so that all are of one build.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from oam_mosaic_assets.core.moments import minute
from oam_mosaic_assets.core.product import JSON, PMTILES
from oam_mosaic_assets.core.release import TILEJSON, Keys, NewerFormat, Pointer, as_json, tilejson_address
from oam_mosaic_assets.errors import MosaicError, PublicationLost, StoreRefused
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed, StoredObject
from oam_mosaic_assets.gateways.ownership import build_shown, product_shown
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock
from oam_mosaic_assets.gateways.read_back import Expected, read_back

FIXED_CACHING: Final = "public, max-age=60, must-revalidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One product of a build, and its object in the store.

    Attributes:
        name: the product's.
        stored: the object, staged or released, exactly as it was when it was checked.
        expected: what the public address must answer once it is public.
    """

    name: str
    stored: StoredObject
    expected: Expected

    @property
    def content_type(self) -> str:
        """The content type that readers get."""
        return self.expected.content_type


class PublicKeys:
    """The public keys whose objects change."""

    def __init__(self, store: ObjectStore, keys: Keys, *, patience_seconds: float) -> None:
        """Set up access to a store.

        Args:
            patience_seconds: how long the public address may keep answering from an outdated cache.
        """
        self.store = store
        self.keys = keys
        self.patience_seconds = patience_seconds

    def current(self) -> tuple[Pointer, StoredObject] | None:
        """The pointer, and the object it was read from; None if nothing was published yet.

        Raises:
            StoreRefused: the object is not a valid pointer.
        """
        found = self.store.get_bytes(self.keys.pointer)
        if found is None:
            return None
        try:
            return Pointer.from_json(found[0]), found[1]
        except ValueError as error:
            raise StoreRefused(
                f"{self.keys.pointer} in {self.store.origin} cannot be read: {error}.",
                hint="A newer version published it: upgrade this one."
                if isinstance(error, NewerFormat)
                else "Check who wrote it; move it away if nothing needs it, or choose another MOSAIC_PREFIX.",
            ) from None

    def differences(self, pointer: Pointer) -> list[str]:
        """Public objects that are not as the pointer says: deleted, overwritten, or not publicly readable."""
        found, alike = list[str](), list[str]()
        for key, etag in pointer.etags.items():
            present = self.store.head(key)
            if present is None:
                found.append(f"{key} is gone")
            elif present.etag != etag:
                said = self._said_of(present, pointer.build)
                (found if said else alike).append(said or key)
            elif self.store.read_publicly(key, length=1) is None:
                found.append(f"{key} is not publicly readable")
        if alike:
            found.append(
                f"{', '.join(alike)}: not the objects that {pointer.build} wrote, but of the same size and "
                "the same at both ends, as in a copied store"
            )
        if self.store.read_publicly(self.keys.pointer, length=1) is None:
            found.append(f"{self.keys.pointer} is not publicly readable")
        found += [f"{key} is gone" for key in pointer.released.values() if self.store.head(key) is None]
        return found

    def _said_of(self, present: StoredObject, public: str) -> str:
        """What an object is that the public build did not write; empty if it looks like what that wrote."""
        key, build = present.key, build_shown(self.store, self.keys, present, likely=public)
        if build not in (None, public):
            return f"{key} shows {build}, whose publication did not finish"
        if build is None or (key == self.keys.tilejson and not self._describes(public)):
            return f"{key} was overwritten on {minute(present.written_at)}"
        return ""

    def _describes(self, build: str) -> bool:
        """Whether the TileJSON under its fixed key is that of a release, wherever it says its archive is."""
        found = map(self.store.get_bytes, (self.keys.tilejson, self.keys.release(build, TILEJSON)))
        try:
            shown, released = (self.described_here(each[0]) for each in found if each)
        except (ValueError, TypeError, RecursionError):
            return False
        return shown == released

    def turn(
        self,
        released: Sequence[Part],
        described: Mapping[str, Any],
        pointer: Pointer,
        before: tuple[Pointer, StoredObject] | None,
        lock: PublisherLock,
        say: Callable[[str], None],
    ) -> Pointer:
        """Turn the fixed keys to a release and its TileJSON, read each back, then turn the pointer.

        What was public before under other keys is deleted: products that are not in this release, and keys
        that the settings no longer name.

        Args:
            released: the release's products; copied only if they are still as described here.
            described: the TileJSON for the fixed key.
            pointer: what the pointer is to say, except for `published_at` and ETags.
            before: the pointer as it is now, and its object.
            lock: renewed before each write, so that nothing is written once another publisher is at work.
            say: called with what is being done.

        Returns:
            The new pointer.
        """
        document = as_json(described)
        copies = [
            (key, each.stored, each.content_type) for each in released for key in self.keys.fixed(each.name)
        ]
        etags = self._write(copies, document, lock, say)
        for each in released:
            for key in self.keys.fixed(each.name):
                self.read_back(key, each.expected)
        self.read_back(self.keys.tilejson, Expected.whole(document, JSON))
        if before:
            self._take_away(before[0], etags, lock, say)
        lock.renew()
        pointer = replace(pointer, etags=etags, published_at=datetime.now(UTC).isoformat())
        self.turn_pointer(pointer, before)
        return pointer

    def see(self, pointer: Pointer, warn: Callable[[str], None]) -> None:
        """Read a pointer back that was turned: what it names is public, whatever a cache still answers."""
        try:
            self.read_back(self.keys.pointer, Expected.whole(pointer.to_json(), JSON))
        except MosaicError as error:
            warn(f"{pointer.build} is public, but not everybody can see so yet. {error}")

    def _take_away(
        self, before: Pointer, written: Collection[str], lock: PublisherLock, say: Callable[[str], None]
    ) -> None:
        """Delete the objects under other fixed keys, if they are still what the pointer says."""
        for key in before.etags.keys() - written:
            present = self.store.head(key)
            if present is not None and present.etag == before.etags[key]:
                say(f"removing {key}, which this build does not have")
                lock.renew()
                self.store.delete([key])

    def absent(self, products: Sequence[Part]) -> list[str]:
        """The fixed keys of these products that hold no object."""
        fixed = [key for each in products for key in self.keys.fixed(each.name)]
        return [key for key in fixed if self.store.head(key) is None]

    def turn_pointer(self, pointer: Pointer, before: tuple[Pointer, StoredObject] | None) -> None:
        """Turn the pointer, unless somebody else has since `before` was read.

        Raises:
            PublicationLost: somebody else has.
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
                f"Another publisher changed {self.keys.pointer} while {pointer.build} was being published.",
                hint="Run the build again, and make sure that only one publisher writes to this place.",
            ) from None

    def read_back(self, key: str, expected: Expected) -> None:
        """Check that the public address answers with what was written. Raises `NotAsPublished`."""
        read_back(self.store, key, expected, patience_seconds=self.patience_seconds)

    @contextmanager
    def or_as_before(
        self, released: Sequence[Part], before: tuple[Pointer, StoredObject] | None, lock: PublisherLock
    ) -> Iterator[None]:
        """If fixed keys or pointer cannot be turned, turn the fixed keys back to what the pointer says.

        If another publisher has taken over, they are left to it. If nothing was public before, they are left
        as they are; the next build recognises their objects as ours.

        Args:
            released: the products that they are turned to.
            before: the pointer as it is now, and its object.
            lock: the lock held meanwhile; if it is lost, nothing is written.
        """
        absent, dropped = self.absent(released), self._dropped(before[0]) if before else {}
        try:
            yield
        except PublicationLost:
            raise
        except BaseException:
            # the first failure must be seen, also where the release's own TileJSON is damaged
            with suppress(MosaicError, PreconditionFailed, ValueError, TypeError, RecursionError):
                self._show_again(absent, dropped, lock)
            raise

    def _dropped(self, pointer: Pointer) -> dict[str, str]:
        """The public keys that the settings no longer name, and the product that each still shows."""
        others = map(self.store.head, pointer.etags.keys() - {*self.keys.fixed_of(pointer.released)})
        shown = {each.key: product_shown(self.store, pointer, each) for each in others if each is not None}
        return {key: name for key, name in shown.items() if name is not None}

    def _show_again(self, absent: Collection[str], dropped: Mapping[str, str], lock: PublisherLock) -> None:
        lock.renew()  # it may have expired while the store was away, and another publisher be at work
        before = self.current()  # read again: it may have been turned, and only the answer lost
        if before is None:
            return
        pointer = before[0]
        self.store.delete([key for key in absent if key not in pointer.etags])
        document = self.store.get_bytes(self.keys.release(pointer.build, TILEJSON))
        if not document or not self.differences(pointer):
            return
        kinds = {name: str(each["content_type"]) for name, each in pointer.products.items()}
        there = {
            name: released for name, key in pointer.released.items() if (released := self.store.head(key))
        }
        if len(there) == len(pointer.released):
            shown = [(key, name) for name in there for key in self.keys.fixed(name)]
            for key in dropped.keys() & pointer.etags:
                present = self.store.head(key)
                if present is None or present.etag != pointer.etags[key]:
                    shown.append((key, dropped[key]))
            copies = [(key, there[name], kinds.get(name, PMTILES)) for key, name in shown]
            described = as_json(self.described_here(document[0]))
            etags = self._write(copies, described, lock, lambda _: None)
            # a key that it no longer stated would never be deleted, nor found by a takedown
            self.turn_pointer(replace(pointer, etags={**pointer.etags, **etags}), before)

    def described_here(self, document: bytes) -> dict[str, Any]:
        """A release's TileJSON, with the archive's fixed address. Raises `ValueError` if it is not JSON."""
        described: dict[str, Any] = json.loads(document)
        return described | tilejson_address(self.store.public_address(self.keys.archive))

    def _write(
        self,
        copies: Sequence[tuple[str, StoredObject, str]],
        document: bytes,
        lock: PublisherLock,
        say: Callable[[str], None],
    ) -> dict[str, str]:
        """Copy products to fixed keys (key, object, content type) and write the TileJSON; returns ETags."""
        etags = {}
        for key, stored, content_type in copies:
            say(f"copying to {key}")
            lock.renew()
            headers = Headers(content_type, FIXED_CACHING)
            etags[key] = self.store.copy(stored, key, headers, public=True).etag
        lock.renew()
        key = self.keys.tilejson
        etags[key] = self.store.put_bytes(key, document, Headers(JSON, FIXED_CACHING), public=True).etag
        return etags

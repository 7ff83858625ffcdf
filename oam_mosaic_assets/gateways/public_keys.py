"""The fixed keys and the pointer: what they show, and how they are turned to another release together.

Each changes at once, but they are several: the pointer is turned last, and where one of them cannot be turned
the others are turned back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from oam_mosaic_assets.core.release import TILEJSON, Keys, Pointer, as_json, tilejson_address
from oam_mosaic_assets.errors import MosaicError, PublicationLost, StoreRefused
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, PreconditionFailed, StoredObject
from oam_mosaic_assets.gateways.ownership import build_shown
from oam_mosaic_assets.gateways.read_back import Expected, read_back

PMTILES: Final = "application/vnd.pmtiles"
JSON: Final = "application/json"

FIXED_CACHING: Final = "public, max-age=60, must-revalidate"


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
        if self.store.head(pointer.archive) is None:
            found.append(f"{pointer.archive} is gone")
        return found

    def turn(
        self,
        released: StoredObject,
        expected: Expected,
        described: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> dict[str, str]:
        """Let the fixed keys show a release and its TileJSON, and read each back; their ETags.

        Args:
            released: the release's archive; copied only as it is described here.
            expected: what a stranger must be answered.
            described: the TileJSON of the fixed key.
            say: told what is being done.
        """
        document = as_json(described)
        etags = self._write(released, document, say)
        for key in self.keys.fixed_archives():
            self.read_back(key, expected)
        self.read_back(self.keys.tilejson, Expected.whole(document, JSON))
        return etags

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
    def or_as_before(self) -> Iterator[None]:
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
        etags = self._write(released, as_json(self.described_here(document[0])), lambda _: None)
        self.turn_pointer(replace(before[0], etags=etags), before)

    def described_here(self, document: bytes) -> dict[str, Any]:
        """A release's own TileJSON as that of the fixed key. Raises `ValueError`: it is none."""
        described: dict[str, Any] = json.loads(document)
        return described | tilejson_address(self.store.public_address(self.keys.archive))

    def _write(self, released: StoredObject, document: bytes, say: Callable[[str], None]) -> dict[str, str]:
        etags = {}
        for key in self.keys.fixed_archives():
            say(f"copying the archive to {key}")
            etags[key] = self.store.copy(released, key, Headers(PMTILES, FIXED_CACHING), public=True).etag
        key = self.keys.tilejson
        etags[key] = self.store.put_bytes(key, document, Headers(JSON, FIXED_CACHING), public=True).etag
        return etags

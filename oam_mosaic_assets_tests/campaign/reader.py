"""A stranger who keeps reading what is public, through every fault, while the campaign lasts."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

import urllib3

from oam_mosaic_assets.core.release import MANIFEST, Keys, Pointer
from oam_mosaic_assets.gateways.object_store import ObjectStore

PAUSE_SECONDS: Final = 0.05


class Reader:
    """Reads the pointer, the manifest and archive it names, the fixed key and the TileJSON, again and again.

    Attributes:
        reads: how many times all of it was read.
        invalid: what was wrong: failed reads, an archive that is not a known build's or not whole, or content
            that does not match what the pointer or manifest states.
    """

    def __init__(self, address: str, store: ObjectStore, keys: Keys) -> None:
        """Set up a reader of a bucket.

        Args:
            address: the public address of its keys.
            store: the same bucket, to find out which builds exist.
        """
        self.reads = 0
        self.invalid: list[str] = []
        self._address = address
        self._store = store
        self._keys = keys
        self._pool = urllib3.PoolManager()
        self._known: dict[str, str] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        """Read until the block of `reading` ends."""
        while not self._ended.wait(PAUSE_SECONDS):
            try:
                wrong = list(self._look())
            except Exception as error:  # noqa: BLE001  # or nobody would read any more, and nothing be noticed
                wrong = [f"{type(error).__name__}: {error}"]
            self.reads += 1
            self.invalid += wrong

    def _look(self) -> Iterator[str]:
        """Yield what is wrong with what is public now."""
        pointer = Pointer.from_json(self._get(self._keys.pointer))
        stated = json.loads(self._get(pointer.manifest))["archive"]["sha256"]
        if stated != pointer.sha256:
            yield f"the manifest of {pointer.build} states another archive than the pointer"
        found = hashlib.sha256(self._get(pointer.archive)).hexdigest()
        if found != stated:
            yield f"{pointer.archive} is not what the manifest states: {found}"
        fixed = hashlib.sha256(self._get(self._keys.archive)).hexdigest()
        if fixed not in self._known:
            self._learn()
        if fixed not in self._known:
            yield f"{self._keys.archive} is no build's whole archive: {fixed}"
        json.loads(self._get(self._keys.tilejson))

    def _get(self, key: str) -> bytes:
        # not by requests, which would take as long for it as Ceph
        answer = self._pool.request("GET", f"{self._address}/{key}", timeout=60, retries=False)
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"{key}: {answer.status} {answer.reason}")
        return answer.data

    def _learn(self) -> None:
        for each in self._store.keys(self._keys.releases_root):
            if each.key.endswith(f"/{MANIFEST}") and (found := self._store.get_bytes(each.key)):
                self._known[json.loads(found[0])["archive"]["sha256"]] = each.key

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read in a separate thread for the duration of the block."""
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

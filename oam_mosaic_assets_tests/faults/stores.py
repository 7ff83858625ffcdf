"""Stores in which something goes wrong at a moment that the test chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import ObjectStore, StoredObject

AT_ITS_KEYS = pytest.mark.parametrize(
    ("any_site", "key"),
    [
        ("folder", "coverage/old.pmtiles"),
        ("folder", "global-mosaic.json"),
        ("folder", "mosaic/latest.json"),
        ("ceph", "mosaic/latest.json"),  # the last one, when there is most to show again
    ],
    indirect=["any_site"],
)
"""For what turns the keys of a mosaic with an alias: each key at which it may fail."""


class Meddled(FolderStore):
    """A folder store in which something happens before an object is written or copied to a key.

    The key is given as a prefix, in which `*` matches anything.
    """

    def __init__(self, root: Path, key: str, happens: Callable[[], object]) -> None:
        super().__init__(root)
        self.key = key
        self.happens: Callable[[], object] | None = happens

    def put_bytes(self, key: str, *rest: Any, **options: Any) -> StoredObject:
        self._meet(key)
        return super().put_bytes(key, *rest, **options)

    def copy(self, source: StoredObject, key: str, *rest: Any, **options: Any) -> StoredObject:
        self._meet(key)
        return super().copy(source, key, *rest, **options)

    def _meet(self, key: str) -> None:
        if fnmatchcase(key, f"{self.key}*") and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()


class Forgetful(FolderStore):
    """A folder store that can neither copy to keys with a given prefix nor delete anything."""

    def __init__(self, root: Path, key: str) -> None:
        super().__init__(root)
        self.key = key

    def copy(self, source: StoredObject, key: str, *rest: Any, **options: Any) -> StoredObject:
        if key.startswith(self.key):
            raise StoreUnavailable(f"cannot copy to {key}", hint="Run again.")
        return super().copy(source, key, *rest, **options)

    def delete(self, keys: Iterable[str]) -> None:
        raise StoreUnavailable(f"cannot delete {', '.join(keys)}", hint="Run again.")


@contextmanager
def failing_at(store: ObjectStore, key: str, *, for_good: bool = False) -> Iterator[None]:
    """Make stores of this kind fail when the key is written; `for_good`: and at every write after that."""
    kind, failed = type(store), [False]

    def failing(name: str) -> Any:
        call = getattr(kind, name)

        def meet(self: Any, *arguments: Any, **options: Any) -> StoredObject:
            target = arguments[1] if name == "copy" else arguments[0]
            if (target == key and not failed[0]) or (failed[0] and for_good):
                failed[0] = True
                raise StoreUnavailable("the store is gone", hint="Run again.")
            stored: StoredObject = call(self, *arguments, **options)
            return stored

        return meet

    with pytest.MonkeyPatch.context() as patch:
        for name in ("copy", "put_bytes"):
            patch.setattr(kind, name, failing(name))
        yield
    assert failed[0], f"{key} was never written"

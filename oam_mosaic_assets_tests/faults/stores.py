"""Folder stores in which something goes wrong at the moment that a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import StoredObject


class Meddled(FolderStore):
    """A folder store in which something happens before an object is written or copied to a key.

    The key is given by its beginning, in which `*` stands for anything.
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
    """A folder store that can neither copy to a key that starts so, nor delete anything."""

    def __init__(self, root: Path, key: str) -> None:
        super().__init__(root)
        self.key = key

    def copy(self, source: StoredObject, key: str, *rest: Any, **options: Any) -> StoredObject:
        if key.startswith(self.key):
            raise StoreUnavailable(f"cannot copy to {key}", hint="Run again.")
        return super().copy(source, key, *rest, **options)

    def delete(self, keys: Iterable[str]) -> None:
        raise StoreUnavailable(f"cannot delete {', '.join(keys)}", hint="Run again.")

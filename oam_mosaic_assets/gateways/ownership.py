"""Whether the objects under the fixed keys are from our builds, or foreign.

A foreign object is copied before anything replaces it, and replaced only once a person confirms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from oam_mosaic_assets.core.release import Keys, Pointer, is_build_name
from oam_mosaic_assets.errors import HeldBack
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, StoredObject

FOREIGN: Final = "foreign-"
"""Begins the name of a folder in `builds/` that holds copies of foreign objects found under fixed keys."""

_COMPARED: Final = 16 * 1024
"""Bytes compared at each end of an archive; the first hold header, root directory and usually metadata."""


def build_shown(store: ObjectStore, keys: Keys, present: StoredObject, *, likely: str = "") -> str | None:
    """The build whose product or TileJSON an object under a fixed key is; None if the object is foreign.

    Args:
        likely: the build to name if several have the same product.
    """
    if present.key == keys.tilejson:
        return _described_build(store, keys, present.key)
    product = keys.product_at(present.key)
    released = store.keys(keys.releases_root)
    for each in sorted(released, key=lambda each: not each.key.startswith(keys.release(likely))):
        build, _, name = each.key.removeprefix(keys.releases_root).partition("/")
        if name == product and _look_alike(store, each, present):
            return build
    return None


def product_shown(store: ObjectStore, pointer: Pointer, present: StoredObject) -> str | None:
    """The product of the public build that an object shows, whatever the settings say of its key."""
    for name, key in pointer.released.items():
        released = store.head(key)
        if released is not None and _look_alike(store, released, present):
            return name
    return None


def foreign_objects(
    store: ObjectStore, keys: Keys, fixed: Iterable[str], *, written_before: Collection[str]
) -> Iterator[StoredObject]:
    """The foreign objects under fixed keys.

    Args:
        fixed: the keys.
        written_before: fixed keys that the public build wrote, whose objects count as ours.
    """
    for key in fixed:
        present = None if key in written_before else store.head(key)
        if present is not None and build_shown(store, keys, present) is None:
            yield present


def keep_foreign(
    store: ObjectStore,
    keys: Keys,
    fixed: Iterable[str],
    *,
    written_before: Collection[str],
    confirmed: str | None,
    how_to_confirm: str = "",
    say: Callable[[str], None],
) -> None:
    """Copy foreign objects under keys that a publication is about to write for the first time.

    Args:
        fixed: the keys that it will write.
        written_before: fixed keys that the public build wrote, whose objects count as ours.
        confirmed: a person's reason to replace them; None if nobody confirmed.
        how_to_confirm: what a person does to confirm.
        say: called with what was copied, once confirmed.

    Raises:
        HeldBack: there are foreign objects, and nobody has confirmed that they may be replaced.
    """
    found = []
    today = f"{FOREIGN}{datetime.now(UTC):%Y%m%d}"
    for present in foreign_objects(store, keys, fixed, written_before=written_before):
        # named by its ETag, so that what replaces it before a person decides is copied as well
        mark = sha256(present.etag.encode()).hexdigest()[:16]
        name = f"{mark}-{present.key.replace('/', '_')}"
        copies = (each.key for each in store.keys(keys.releases_root + FOREIGN))  # of earlier days too
        kept = next((each for each in copies if each.endswith(f"/{name}")), None)
        if kept is None:
            kept = store.copy(present, keys.release(today, name), Headers("application/octet-stream")).key
        found.append(
            f"{present.key} in {store.origin} holds {present.size:,} bytes that no build wrote "
            f"({present.written_at:%Y-%m-%d}); a copy is kept as {kept}."
        )
    if found and confirmed is None:
        raise HeldBack(" ".join(found), hint=f"If it may be replaced, {how_to_confirm}.")
    for each in found:
        say(each)


def _described_build(store: ObjectStore, keys: Keys, tilejson: str) -> str | None:
    found = store.get_bytes(tilejson)
    try:
        build = json.loads(found[0])["build"] if found else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_ours = isinstance(build, str) and is_build_name(build) and any(store.keys(keys.release(build)))
    return build if is_ours else None


def _look_alike(store: ObjectStore, one: StoredObject, other: StoredObject) -> bool:
    if one.size != other.size:
        return False
    for start in (0, max(0, one.size - _COMPARED)):
        ends = [store.read_publicly(each.key, start=start, length=_COMPARED) for each in (one, other)]
        if ends[0] is None or ends[0] != ends[1]:
            return False
    return True

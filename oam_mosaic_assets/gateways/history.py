"""The releases in a store, and how they are deleted completely."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from oam_mosaic_assets.core.history import Release, release_of
from oam_mosaic_assets.core.release import MANIFEST, Keys, is_build_name
from oam_mosaic_assets.gateways.object_store import ObjectStore, StoredObject


def released_objects(store: ObjectStore, keys: Keys) -> dict[str, list[StoredObject]]:
    """All objects under `builds/`, by build; copies of foreign objects are left out."""
    found: dict[str, list[StoredObject]] = {}
    for each in store.keys(keys.releases_root):
        build = each.key.removeprefix(keys.releases_root).split("/", 1)[0]
        if is_build_name(build):
            found.setdefault(build, []).append(each)
    return found


def read_releases(
    store: ObjectStore, keys: Keys, objects: Mapping[str, Collection[StoredObject]] | None = None
) -> list[Release]:
    """All releases, newest first. One without a manifest was never finished, and is left out.

    Args:
        objects: the result of `released_objects`, if already known.
    """
    found = []
    for build, present in (released_objects(store, keys) if objects is None else objects).items():
        stated = next((each for each in present if each.key == keys.release(build, MANIFEST)), None)
        read = None if stated is None else store.get_bytes(stated.key)
        if read is None:
            continue
        try:
            manifest = json.loads(read[0])
        except (ValueError, RecursionError):
            manifest = None
        found.append(release_of(build, manifest, keys, written_at=read[1].written_at))
    return sorted(found, key=lambda each: each.build, reverse=True)


def were_public(store: ObjectStore, keys: Keys, releases: Collection[Release]) -> set[str]:
    """The builds that became public. A publisher that was killed leaves a release that never did.

    Footprints are kept once a build is public, and each release names the one that was public before it.
    """
    with_footprints = {each.key for each in store.keys(keys.footprints())}
    kept = {each.build for each in releases if keys.footprints(each.build) in with_footprints}
    return kept | {each.previous for each in releases}


def delete_releases(store: ObjectStore, keys: Keys, builds: Collection[str]) -> None:
    """Delete releases and their tables; the manifests, which make them releases, go first."""
    if not builds:
        return
    objects = released_objects(store, keys)
    store.delete([keys.release(build, MANIFEST) for build in builds])
    store.delete(each.key for build in builds for each in objects.get(build, ()))
    store.delete([key for build in builds for key in keys.tables(build)])

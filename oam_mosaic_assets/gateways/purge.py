"""Searching a whole place for an image that was taken down, and deleting what still holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.release import RUN_LOGS, is_build_name
from oam_mosaic_assets.gateways.history import delete_releases
from oam_mosaic_assets.gateways.imagery.partition import UNJOINED, read_state
from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.ownership import FOREIGN
from oam_mosaic_assets.gateways.releases import Releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """Where an image was found.

    Attributes:
        searched: how many objects were read.
        deleted: the builds, and keys of other objects, that held it; they are gone.
        left: keys of objects that hold it, but are public or belong to no build, so were not deleted.
    """

    searched: int
    deleted: tuple[str, ...]
    left: tuple[str, ...]


def purge(releases: Releases, name: str, *, folder: Path, say: Callable[[str], None]) -> Purged:
    """Delete every build that holds an image, except the public one: its release, tables and staged objects.

    Every object below the prefix and under the fixed keys is read, except the lock, the list of takedowns,
    and the remaining objects of builds that are deleted.

    Args:
        name: the image's id.
        folder: empty, for a copy of one object at a time.
        say: called with what is being done.

    Raises:
        PublicationLost: another publisher is at work.
    """
    store, keys = releases.store, releases.keys
    searched, deleted, left = 0, set[str](), []
    with releases.lock("a takedown").held(say) as lock:
        current = releases.current()
        public = current[0].build if current else ""
        # a build's tables come first: if they name the image, its archive need not be read
        tables = f"{keys.prefix}cache/"
        for each in sorted(_objects(releases), key=lambda each: not each.key.startswith(tables)):
            build = _owner(releases, each.key)
            if build in deleted:
                continue
            searched += 1
            if not _names(releases, each, name, folder):
                continue
            lock.renew()
            if each.key.startswith((keys.releases_root + FOREIGN, RUN_LOGS)) or (
                each.key == keys.imagery_report  # the next build that reads images writes a new one
            ):
                store.delete([each.key])
                deleted.add(each.key)
            elif each.key.startswith(keys.imagery):
                # the partition's state names the image; its pixels are in the objects beside it
                partition = f"{each.key.rpartition('/')[0]}/"
                store.delete([beside.key for beside in store.keys(partition)])
                deleted.add(partition)
            elif not build or build == public:
                left.append(each.key)
            else:
                say(f"deleting {build}, which names the image")
                delete_releases(store, keys, [build])
                releases.staged.discard(build)
                deleted.add(build)
        if unnamed := _unnamed(releases):
            store.delete(unnamed)
            deleted.update(unnamed)
        store.abandon_uploads(keys.releases_root, older_than_seconds=0.0)
    return Purged(searched=searched, deleted=tuple(sorted(deleted)), left=tuple(left))


def _objects(releases: Releases) -> Iterator[StoredObject]:
    store, keys = releases.store, releases.keys
    ours = {keys.lock, keys.taken_down}
    roots = [keys.prefix, *([] if RUN_LOGS.startswith(keys.prefix) else [RUN_LOGS])]
    yield from (each for root in roots for each in store.keys(root) if each.key not in ours)
    current = releases.current()  # it may show products that are no longer made
    fixed = map(store.head, dict.fromkeys((*keys.all_fixed(), *(current[0].etags if current else ()))))
    yield from (each for each in fixed if each is not None)


def _unnamed(releases: Releases) -> list[str]:
    """Archives of imagery that no partition's state names: a killed build's, and pixels bear no names."""
    store, root = releases.store, releases.keys.imagery
    there = [each.key for each in store.keys(root) if each.key.endswith(".pmtiles")]
    named = set[str]()
    for partition in {f"{key.rpartition('/')[0]}/" for key in there}:
        state, _ = read_state(store, partition)
        named |= {f"{partition}{state.tiles}", f"{partition}{state.lossless}"}
    # blocks that are not packed yet name their images themselves
    return [key for key in there if key not in named and f"/{UNJOINED}" not in key]


def _owner(releases: Releases, key: str) -> str:
    """The build that an object belongs to; empty if there is none."""
    keys = releases.keys
    for root in (keys.releases_root, keys.staging_root, *keys.tables()):
        if key.startswith(root):
            build = key.removeprefix(root).split("/", 1)[0].removesuffix(".parquet")
            return build if is_build_name(build) else ""
    return ""


def _names(releases: Releases, each: StoredObject, name: str, folder: Path) -> bool:
    path = folder / "searched"
    if releases.store.get_file(each.key, path) is None:
        return False  # deleted in the meantime
    found = names_any(path, {name})
    path.unlink()
    return found

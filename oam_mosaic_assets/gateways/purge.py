"""Searching a whole place for an image that was taken down, and deleting what still holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.product import PICTURES
from oam_mosaic_assets.core.release import RUN_LOGS, Keys, is_build_name
from oam_mosaic_assets.gateways.history import delete_releases
from oam_mosaic_assets.gateways.imagery.partition import LEFT_BEHIND, UNJOINED, read_state
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
        unreadable: keys of other objects that cannot be read, so that nothing tells whether they hold it.
        unnamed: keys of archives of imagery, younger than `LEFT_BEHIND`, that no partition's state names:
            another machine is saving them, or a killed build left them. Nothing tells which images they show.
    """

    searched: int
    deleted: tuple[str, ...]
    left: tuple[str, ...]
    unreadable: tuple[str, ...]
    unnamed: tuple[str, ...]

    @property
    def is_gone(self) -> bool:
        """Whether nothing that is left can hold the image."""
        return not self.left and not self.unreadable and not self.unnamed


def purge(releases: Releases, name: str, *, folder: Path, say: Callable[[str], None]) -> Purged:
    """Delete every build that holds an image, except the public one: its release, tables and staged objects.

    Every object below the prefix and under the fixed keys is read, except the lock, the list of takedowns,
    the remaining objects of builds that are deleted, and pictures: what is beside them names their images.
    A copy of a foreign object that cannot be read is deleted as well.

    Args:
        name: the image's id.
        folder: empty, for a copy of one object at a time.
        say: called with what is being done.

    Raises:
        PublicationLost: another publisher is at work.
    """
    store, keys = releases.store, releases.keys
    searched, deleted, left, unreadable = 0, set[str](), list[str](), list[str]()
    with releases.lock("a takedown").held(say) as lock:
        current = releases.current()
        public, written = (current[0].build, current[0].etags) if current else ("", {})
        # a build's tables come first: if they name the image, its archive need not be read
        tables = f"{keys.prefix}cache/"
        for each in sorted(_objects(releases), key=lambda each: not each.key.startswith(tables)):
            build = _owner(releases, each.key)
            is_ours = bool(build) or written.get(each.key) == each.etag
            if build in deleted or _is_picture(keys, each.key, build=build, is_ours=is_ours):
                continue
            searched += 1
            is_named = _names(releases, each, name, folder, is_ours=is_ours)
            if is_named is False:
                continue
            lock.renew()
            if each.key.startswith((keys.releases_root + FOREIGN, RUN_LOGS)) or (
                each.key == keys.imagery_report  # the next build that reads images writes a new one
            ):
                store.delete([each.key])
                deleted.add(each.key)
            elif is_named is None:
                unreadable.append(each.key)
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
        unnamed = _unnamed(releases)
        lock.renew()  # or another publisher's uploads would be aborted
        # one that is younger may be what another machine is saving: its state would name what is gone
        old = [each.key for each in unnamed if datetime.now(UTC) - each.written_at > LEFT_BEHIND]
        store.delete(old)
        deleted.update(old)
        store.abandon_uploads(keys.releases_root, older_than_seconds=0.0)
    return Purged(
        searched=searched,
        deleted=tuple(sorted(deleted)),
        left=tuple(left),
        unreadable=tuple(each for each in unreadable if _owner(releases, each) not in deleted),
        unnamed=tuple(each.key for each in unnamed if each.key not in deleted),
    )


def _objects(releases: Releases) -> Iterator[StoredObject]:
    store, keys = releases.store, releases.keys
    ours = {keys.lock, keys.taken_down}
    roots = [keys.prefix, *([] if RUN_LOGS.startswith(keys.prefix) else [RUN_LOGS])]
    yield from (each for root in roots for each in store.keys(root) if each.key not in ours)
    current = releases.current()  # it may show products that are no longer made
    fixed = map(store.head, dict.fromkeys((*keys.all_fixed(), *(current[0].etags if current else ()))))
    yield from (each for each in fixed if each is not None)


def _is_picture(keys: Keys, key: str, *, build: str, is_ours: bool) -> bool:
    """Whether an object is an archive of pictures that a build or a partition's state accounts for."""
    if key.startswith(keys.imagery):
        return key.endswith(".pmtiles") and f"/{UNJOINED}" not in key
    product = key.rpartition("/")[2] if build else keys.product_at(key)
    return is_ours and product in {each.name for each in PICTURES}


def _unnamed(releases: Releases) -> list[StoredObject]:
    """Archives of imagery that no partition's state names: pixels bear no ids, so any image may be there."""
    store, root = releases.store, releases.keys.imagery
    there = [each for each in store.keys(root) if each.key.endswith(".pmtiles")]
    named = set[str]()
    for partition in {f"{each.key.rpartition('/')[0]}/" for each in there}:
        state, _ = read_state(store, partition)
        named |= {f"{partition}{state.tiles}", f"{partition}{state.lossless}"}
    # blocks that are not packed yet name their images themselves
    return [each for each in there if each.key not in named and f"/{UNJOINED}" not in each.key]


def _owner(releases: Releases, key: str) -> str:
    """The build that an object belongs to; empty if there is none."""
    keys = releases.keys
    for root in (keys.releases_root, keys.staging_root, *keys.tables()):
        if key.startswith(root):
            build = key.removeprefix(root).split("/", 1)[0].removesuffix(".parquet")
            return build if is_build_name(build) else ""
    return ""


def _names(releases: Releases, each: StoredObject, name: str, folder: Path, *, is_ours: bool) -> bool | None:
    path = folder / "searched"
    if releases.store.get_file(each.key, path) is None:
        return False  # deleted in the meantime
    found = names_any(path, {name}, is_ours=is_ours)
    path.unlink()
    return found

"""All of a place searched for an image that was taken down, and what still holds it deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.release import is_build_name
from oam_mosaic_assets.gateways.history import delete_releases
from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.ownership import FOREIGN
from oam_mosaic_assets.gateways.releases import Releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What was found of an image.

    Attributes:
        searched: how many objects were read.
        deleted: builds and copies that held it; they are gone.
        left: keys that hold it and are what is public, or nothing that may be deleted.
    """

    searched: int
    deleted: tuple[str, ...]
    left: tuple[str, ...]


def purge(releases: Releases, name: str, *, folder: Path, say: Callable[[str], None]) -> Purged:
    """Delete every build but the public one that holds an image: released, staged, and what is kept of it.

    Every object below the prefix and under the fixed keys is read, but for the list of what was taken down.

    Args:
        name: the image's id.
        folder: empty, for a copy of an object.
        say: told what is being done.

    Raises:
        PublicationLost: another publisher is at work.
    """
    store, keys = releases.store, releases.keys
    searched, deleted, left = 0, set[str](), []
    with releases.lock("a takedown").held(say) as lock:
        current = releases.current()
        public = current[0].build if current else ""
        # the tables of a build come first: they spare the reading of its archive
        tables = f"{keys.prefix}cache/"
        for each in sorted(_objects(releases), key=lambda each: not each.key.startswith(tables)):
            build = _owner(releases, each.key)
            if build in deleted:
                continue
            searched += 1
            if not _names(releases, each, name, folder):
                continue
            lock.renew()
            if each.key.startswith(keys.releases_root + FOREIGN):
                store.delete([each.key])
                deleted.add(each.key)
            elif each.key == keys.imagery_report:
                store.delete([each.key])  # the next build that reads images writes another
                deleted.add(each.key)
            elif each.key.startswith(keys.imagery):
                # what names the image is the partition's state; its pixels lie beside it
                partition = f"{each.key.rpartition('/')[0]}/"
                store.delete([beside.key for beside in store.keys(partition)])
                deleted.add(partition)
            elif not build or build == public:
                left.append(each.key)
            else:
                say(f"deleting {build}, which holds the image")
                delete_releases(store, keys, [build])
                releases.staged.discard(build)
                deleted.add(build)
        store.abandon_uploads(keys.releases_root, older_than_seconds=0.0)
    return Purged(searched=searched, deleted=tuple(sorted(deleted)), left=tuple(left))


def _objects(releases: Releases) -> Iterator[StoredObject]:
    store, keys = releases.store, releases.keys
    ours = {keys.lock, keys.taken_down}
    yield from (each for each in store.keys(keys.prefix) if each.key not in ours)
    current = releases.current()  # it may show products that are no longer made
    fixed = map(store.head, dict.fromkeys((*keys.all_fixed(), *(current[0].etags if current else ()))))
    yield from (each for each in fixed if each is not None)


def _owner(releases: Releases, key: str) -> str:
    """The build that an object is of; empty where it is of none."""
    keys = releases.keys
    for root in (keys.releases_root, keys.staging_root, *keys.tables()):
        if key.startswith(root):
            build = key.removeprefix(root).split("/", 1)[0].removesuffix(".parquet")
            return build if is_build_name(build) else ""
    return ""


def _names(releases: Releases, each: StoredObject, name: str, folder: Path) -> bool:
    path = folder / "searched"
    if releases.store.get_file(each.key, path) is None:
        return False  # it went in the meantime
    found = names_any(path, {name})
    path.unlink()
    return found

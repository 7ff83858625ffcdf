"""What is deleted once a build is public: what can never become public, and what has expired."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from oam_mosaic_assets.core.history import Retention, one_before, outlived
from oam_mosaic_assets.core.release import Keys, is_overtaken
from oam_mosaic_assets.gateways.history import delete_releases, read_releases, released_objects
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.gateways.staged_builds import StagedBuilds

ABANDONED_SECONDS: Final = 6 * 3600.0
"""An unfinished upload that was started this long ago is presumed abandoned."""


def sweep(store: ObjectStore, keys: Keys, public: str, retention: Retention) -> None:
    """Tidy up after a publication, under its lock.

    A staged build that began before the public one is older than what is public, so it would be refused. A
    release without a manifest was never finished. The public release and the one before it are never deleted.

    Args:
        public: the build that has just become public.
        retention: how long the others are kept.
    """
    # listed first: if the lock is lost now, tables of a build that another publisher adds are not among them
    cached = [each.key for root in keys.tables() for each in store.keys(root)]
    objects = released_objects(store, keys)
    releases = read_releases(store, keys, objects)
    spared = {public, one_before(public, releases)}
    unfinished = objects.keys() - {each.build for each in releases}
    delete_releases(
        store,
        keys,
        [*outlived(releases, retention, spared=spared, now=datetime.now(UTC)), *unfinished],
    )
    kept = {key for build in objects for key in keys.tables(build)}
    store.delete([key for key in cached if key not in kept])
    staged = StagedBuilds(store, keys).objects()
    store.delete([each.key for build, each in staged if build == public or is_overtaken(build, public)])
    # only the holder of the lock writes public objects; others may be staging
    store.abandon_uploads(keys.releases_root, older_than_seconds=0.0)
    for key in keys.all_fixed():
        store.abandon_uploads(key, older_than_seconds=0.0, exactly=True)
    store.abandon_uploads(keys.prefix, older_than_seconds=ABANDONED_SECONDS)

"""What is deleted once a build is public: what can never become public, and what has expired."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from oam_mosaic_assets.core.history import Release, Retention, one_before, outlived
from oam_mosaic_assets.core.release import Keys, Pointer, is_overtaken
from oam_mosaic_assets.gateways.history import delete_releases, read_releases, released_objects, were_public
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.gateways.staged_builds import StagedBuilds

ABANDONED_SECONDS: Final = 6 * 3600.0
"""An unfinished upload that was started this long ago is presumed abandoned."""


def sweep(
    store: ObjectStore, keys: Keys, public: str, retention: Retention, *, before: Pointer | None = None
) -> None:
    """Tidy up after a publication, under its lock.

    A staged build that began before the public one is older than what is public, so it would be refused. A
    release without a manifest was never finished. The public release and the one before it are never deleted.

    Args:
        public: the build that has just become public.
        retention: how long the others are kept.
        before: what was public until then; None if nothing was, or if it is not known.
    """
    # listed first: if the lock is lost now, tables of a build that another publisher adds are not among them
    cached = [each.key for root in keys.tables() for each in store.keys(root)]
    objects = released_objects(store, keys)
    releases = _without_abandoned(store, keys, read_releases(store, keys, objects), public, before)
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


def _without_abandoned(
    store: ObjectStore, keys: Keys, releases: list[Release], public: str, before: Pointer | None
) -> list[Release]:
    """Leave out the releases of publishers that were killed before they turned the pointer.

    They would take the place of one that was public. As what was public must stay, two signs have to agree:
    nothing shows that it was, and what was public until now had been so since before it was released. The
    first alone would not do: a publisher may also be killed just after it turned the pointer.
    """
    if before is None:
        return releases
    shown = were_public(store, keys, releases)
    with suppress(ValueError, TypeError):  # somebody else wrote the pointer
        since = datetime.fromisoformat(before.published_at)
        return [
            each
            for each in releases
            if each.build in shown or each.published_at <= since or not is_overtaken(each.build, public)
        ]
    return releases

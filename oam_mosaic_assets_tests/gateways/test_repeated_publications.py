"""Publications that failed or were killed, and what the next one makes of what they left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.core.product import MOSAIC
from oam_mosaic_assets.core.release import TILEJSON, Keys
from oam_mosaic_assets.errors import NotAsPublished, StoreUnavailable
from oam_mosaic_assets.gateways.history import read_releases
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.faults.stores import failing_at
from oam_mosaic_assets_tests.gateways.two_products import (
    BOTH,
    JSON,
    OTHER,
    back,
    built,
    fails_once,
    manifest_of,
    published,
    shows,
    unreadable,
)


def there(releases: Releases) -> set[str]:
    """The builds that are released, public or not."""
    return {each.build for each in read_releases(releases.store, releases.keys)}


def kept_by_a_cache(monkeypatch: pytest.MonkeyPatch, releases: Releases) -> None:
    """Let strangers see of every release what they saw of it first."""
    kind, kept = type(releases.store), dict[Any, Any]()

    def through(name: str) -> None:
        real = getattr(kind, name)

        def ask(self: Any, key: str, **part: Any) -> Any:
            if not key.startswith(releases.keys.releases_root):
                return real(self, key, **part)
            return kept.setdefault((name, key, *part.items()), real(self, key, **part))

        monkeypatch.setattr(kind, name, ask)

    through("head_publicly")
    through("read_publicly")


def test_a_build_that_could_not_be_turned_to_is_no_release(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = published(releases, "a", *BOTH)
    with monkeypatch.context() as patch:
        unreadable(patch, releases.store, OTHER.name)
        with pytest.raises(NotAsPublished):
            releases.publish(built(releases, "b", *BOTH))
    assert there(releases) == {first.build}


def test_a_publication_that_was_killed_is_repeated_behind_a_cache(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a person gives a reason now, as for a build that is held back."""
    first = published(releases, "a", *BOTH)
    kept_by_a_cache(monkeypatch, releases)
    candidate = built(releases, "b", *BOTH)
    with releases.lock("killed").held(lambda _: None) as lock:
        releases._release(candidate, lock, lambda _: None, before=first.build)
    manifest = manifest_of(releases, candidate)
    assert json.loads(manifest)["previous"] == first.build

    reason = "it is as it should be"
    confirmed = replace(candidate, manifest={**candidate.manifest, "confirmed": reason})
    releases.publish(confirmed, confirmed=reason)

    shows(releases, "b", *BOTH)
    assert manifest_of(releases, candidate) == manifest


def test_the_next_publication_deletes_a_release_whose_publisher_was_killed_before_it_was_public(
    releases: Releases,
) -> None:
    first = published(releases, "a", *BOTH)
    killed = built(releases, "b", *BOTH)
    with releases.lock("killed").held(lambda _: None) as lock:
        releases._release(killed, lock, lambda _: None, before=first.build)
    assert there(releases) == {first.build, killed.pointer.build}

    third = published(releases, "c", *BOTH)

    assert there(releases) == {first.build, third.build}


@pytest.mark.parametrize("is_rolled_back", [False, True])
def test_a_release_stays_whose_publisher_was_killed_when_it_was_public(
    releases: Releases,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_rolled_back: bool,  # noqa: FBT001  # pytest passes it by name
) -> None:
    """Its footprints were not kept, and after a rollback no other release names it."""
    first = published(releases, "a", *BOTH)
    with monkeypatch.context() as patch:
        patch.setattr(releases, "_keep_tables", fails_once(releases._keep_tables))
        killed = published(releases, "b", *BOTH)
    if is_rolled_back:
        back(releases, first.build, tmp_path)
        releases.holds.put_back(None)

    third = published(releases, "c", *BOTH)

    assert there(releases) == {first.build, killed.build, third.build}


@pytest.mark.parametrize("key", [Keys().release("*", TILEJSON), Keys().pointer])
def test_a_publication_that_failed_is_repeated_behind_a_cache(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Its release was deleted, but strangers may already have seen the manifest."""
    published(releases, "a", *BOTH)
    kept_by_a_cache(monkeypatch, releases)
    candidate = built(releases, "b", *BOTH)
    build = candidate.pointer.build
    with failing_at(releases.store, key.replace("*", build)), pytest.raises(StoreUnavailable):
        releases.publish(candidate)
    assert list(releases.store.keys(releases.keys.release(build))) == []
    shows(releases, "a", *BOTH)

    releases.publish(candidate)

    shows(releases, "b", *BOTH)
    assert list(releases.staged.objects()) == []


def test_a_publication_that_failed_and_is_repeated_later_follows_what_is_public_by_then(
    releases: Releases,
) -> None:
    """What was public at first may have been found to be bad; a rollback must not lead back to it."""
    published(releases, "a", *BOTH)
    candidate = built(releases, "b", *BOTH)
    with failing_at(releases.store, releases.keys.pointer), pytest.raises(StoreUnavailable):
        releases.publish(candidate)
    current = releases.current()
    assert current is not None
    meanwhile = replace(current[0], build="20260115T020000Z-0123456789ab")
    releases.store.put_bytes(releases.keys.pointer, meanwhile.to_json(), Headers(JSON))

    releases.publish(candidate)

    assert json.loads(manifest_of(releases, candidate))["previous"] == meanwhile.build


def test_what_a_killed_publisher_left_of_a_product_is_known_for_ours(releases: Releases) -> None:
    first = published(releases, "a", *BOTH)
    published(releases, "b", MOSAIC)
    left = releases.store.head(first.released[OTHER.name])
    assert left is not None
    releases.store.copy(left, OTHER.name, Headers(JSON), public=True)

    published(releases, "c", *BOTH)
    assert list(releases.store.keys(f"{releases.keys.releases_root}foreign-")) == []

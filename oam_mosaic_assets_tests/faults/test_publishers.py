"""What keeps publishers who share nothing but the store out of each other's way."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.chain import Site, public_mosaic_is_whole
from oam_mosaic_assets_tests.faults.stores import Forgetful, Meddled

JSON = Headers("application/json")


ANOTHER = "20260101T000000Z-another"
BRIEF = timedelta(seconds=2)


def leave_lock(site: Site) -> None:
    """Leave the lock of another publisher, whose clock is wrong and who is dead."""
    until = datetime.now(UTC) + timedelta(hours=1)
    content = {"build": ANOTHER, "until": until.isoformat()}
    site.store.put_bytes(site.keys.lock, json.dumps(content).encode(), JSON)


def test_a_publisher_waits_for_another_one_at_work(any_site: Site) -> None:
    site = any_site
    before = site.published()
    releases = Releases(site.store, site.keys, lock_lifetime=BRIEF)

    with PublisherLock(site.store, site.keys.lock, ANOTHER, lifetime=BRIEF).held(lambda _: None):
        outcome = site.run(releases=releases)
        assert site.store.head(site.keys.lock) is not None

    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert f"{ANOTHER} is being published; its lock mosaic/publisher.lock is still being" in outcome.text
    assert outcome.exit_code == 1
    assert outcome.log.count(f"waiting for {ANOTHER}") == 1
    assert site.stays_whole() == before
    site.recovers(before)


def test_the_lock_of_a_dead_publisher_is_taken_over(any_site: Site) -> None:
    site = any_site
    before = site.published()
    leave_lock(site)

    outcome = site.run(releases=Releases(site.store, site.keys, lock_lifetime=BRIEF))

    assert outcome.success, outcome.log
    assert site.stays_whole().published_at > before.published_at


@pytest.mark.parametrize("key", ["global-mosaic.pmtiles", "mosaic/latest.json"])
def test_a_publisher_that_lost_its_lock_turns_nothing_more(site: Site, key: str) -> None:
    before = site.published()
    releases = len(list(site.store.keys(site.keys.releases_root)))
    turned = {each: site.store.head(each) for each in (*site.keys.fixed_archives(), site.keys.pointer)}
    step_before = {
        "global-mosaic.pmtiles": site.keys.releases_root,
        "mosaic/latest.json": "global-mosaic.json",
    }
    store = Meddled(site.settings.mosaic_store, step_before[key], lambda: leave_lock(site))

    outcome = site.run(store=store)

    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert "The lock mosaic/publisher.lock was lost while" in outcome.text
    assert site.store.head(key) == turned[key]
    assert site.store.head(site.keys.lock) is not None, "it is another publisher's"
    site.store.delete([site.keys.lock])
    if key != site.keys.pointer:  # nothing was turned: what was written for it is taken back
        assert site.stays_whole() == before
        assert len(list(site.store.keys(site.keys.releases_root))) == releases
    site.recovers(before)


def test_an_older_snapshot_never_replaces_a_newer_one(site: Site) -> None:
    before = site.published()

    def publish_another() -> None:
        assert site.run().success

    store = Meddled(site.settings.mosaic_store, site.keys.lock, publish_another)
    outcome = site.run(store=store)

    newer = site.stays_whole()
    assert newer.published_at > before.published_at
    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert f"The public mosaic {newer.build} shows the catalogue of {newer.snapshot_taken_at}" in outcome.text
    assert "this build's snapshot is older" in outcome.text
    assert "the newer mosaic stays public" in outcome.text
    site.recovers(newer)


def test_a_build_that_a_newer_one_overtakes_says_that_nothing_needs_to_be_done(site: Site) -> None:
    before = site.published()

    def publish_another() -> None:
        assert site.run().success

    staged = site.keys.staging("*", "stac_footprints.json")
    outcome = site.run(store=Meddled(site.settings.mosaic_store, staged, publish_another))

    newer = site.stays_whole()
    assert newer.build > before.build
    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert f"The newer mosaic {newer.build} is public" in outcome.text
    assert "Nothing needs to be done" in outcome.text
    assert outcome.exit_code == 1
    site.recovers(newer)


def test_a_pointer_that_another_publisher_turned_is_not_turned_back(site: Site) -> None:
    before = site.published()

    def turn_pointer() -> None:
        content, _ = site.store.get_bytes(site.keys.pointer) or (b"", None)
        site.store.put_bytes(site.keys.pointer, content + b"\n", JSON, public=True)

    outcome = site.run(store=Meddled(site.settings.mosaic_store, site.keys.pointer, turn_pointer))

    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert "Another publisher turned mosaic/latest.json while" in outcome.text
    assert "let only one publisher write to this place" in outcome.text
    content, _ = site.store.get_bytes(site.keys.pointer) or (b"", None)
    assert content.endswith(b"\n\n")
    site.recovers(before)


def test_what_fails_after_the_pointer_was_turned_takes_nothing_away(site: Site) -> None:
    before = site.published()
    root = site.settings.mosaic_store
    outcome = site.run(store=Forgetful(root, "mosaic/cache/"))
    assert outcome.success
    assert "is public, but not all that it leaves behind was taken away" in outcome.log
    assert "cannot copy to mosaic/cache/" in outcome.log
    public = public_mosaic_is_whole(site.store, site.keys)
    assert public.published_at > before.published_at
    site.store.delete([site.keys.lock])

    def fail() -> None:
        raise StoreUnavailable("the store is gone", hint="Run again.")

    repeated = site.run(
        job="publish_held_build",
        tags={"oam-mosaic/build": public.build},
        store=Meddled(root, site.keys.release(public.build), fail),
    )

    assert not repeated.success
    assert "the store is gone" in repeated.text
    assert public_mosaic_is_whole(site.store, site.keys) == public
    site.recovers(public)

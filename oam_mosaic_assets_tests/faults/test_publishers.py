"""How publishers that share nothing but the store stay out of each other's way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, StoredObject
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock, holder_of
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.chain import Site, public_mosaic_is_whole
from oam_mosaic_assets_tests.faults.stores import Forgetful, Meddled

JSON = Headers("application/json")


ANOTHER = "20260101T000000Z-another"
BRIEF = timedelta(seconds=2)


def leave_lock(site: Site) -> None:
    """Leave the lock of another publisher that is dead and whose clock was wrong."""
    until = datetime.now(UTC) + timedelta(hours=1)
    content = {"build": ANOTHER, "until": until.isoformat()}
    site.store.put_bytes(site.keys.lock, json.dumps(content).encode(), JSON)


def test_a_publisher_waits_for_another_one_at_work(any_site: Site) -> None:
    site = any_site
    before = site.published()
    releases = Releases(site.store, site.keys, lock_lifetime=BRIEF)

    with PublisherLock(site.store, site.keys.lock, ANOTHER, lifetime=BRIEF).held(lambda _: None):
        outcome = site.run(releases=releases)
        assert holder_of(site.store, site.keys.lock) is not None

    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert f"{ANOTHER} holds the lock mosaic/publisher.lock and keeps renewing it." in outcome.text
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


@pytest.mark.parametrize(
    "key", ["global-mosaic.pmtiles", "coverage/old.pmtiles", "global-mosaic.json", "mosaic/latest.json"]
)
def test_a_publisher_that_lost_its_lock_turns_nothing_more(
    site: Site, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(site.environment, "MOSAIC_ALIASES", "coverage/old.pmtiles")
    site.store.delete([each.key for each in site.store.keys("")])
    before = site.published()
    releases = len(list(site.store.keys(site.keys.releases_root)))
    turned = {each: site.store.head(each) for each in (*site.keys.all_fixed(), site.keys.pointer)}
    step_before = {
        "global-mosaic.pmtiles": site.keys.releases_root,
        "coverage/old.pmtiles": "global-mosaic.pmtiles",
        "global-mosaic.json": "coverage/old.pmtiles",
        "mosaic/latest.json": "global-mosaic.json",
    }
    store = Meddled(site.settings.mosaic_store, step_before[key], lambda: leave_lock(site))

    outcome = site.run(store=store)

    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert "The lock mosaic/publisher.lock was lost while" in outcome.text
    assert site.store.head(key) == turned[key]
    assert holder_of(site.store, site.keys.lock) is not None, "it is another publisher's"
    site.store.delete([site.keys.lock])
    if key == site.keys.archive:  # no key was turned, so the release that was written is deleted again
        assert site.stays_whole() == before
        assert len(list(site.store.keys(site.keys.releases_root))) == releases
    site.recovers(before)


def test_a_publisher_that_lost_its_lock_takes_no_product_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store.delete([each.key for each in site.store.keys("")])
    with monkeypatch.context() as patch:
        patch.setitem(site.environment, "MOSAIC_PRODUCTS", "mosaic,details")
        site.published()
    shown = site.store.head("global-data.pmtiles")

    outcome = site.run(
        store=Meddled(site.settings.mosaic_store, site.keys.tilejson, lambda: leave_lock(site))
    )

    assert outcome.kind == "PublicationLost"
    assert shown is not None
    assert site.store.head("global-data.pmtiles") == shown
    site.store.delete([each.key for each in site.store.keys("")])


def test_a_publisher_that_lost_its_lock_once_it_was_done_sweeps_nothing_up(site: Site) -> None:
    before = site.published()
    store = Meddled(site.settings.mosaic_store, site.keys.footprints(), lambda: leave_lock(site))

    outcome = site.run(store=store)

    assert outcome.success
    assert "not everything could be cleaned up afterwards. The lock mosaic/publisher.lock was" in outcome.log
    site.store.delete([site.keys.lock])
    site.recovers(before)


@pytest.mark.parametrize("name", ["global-mosaic.pmtiles", "manifest.json"])
def test_a_run_that_was_taken_for_dead_does_not_delete_what_its_retry_published(
    site: Site, name: str
) -> None:
    before = site.published()

    def publish_as_its_retry() -> None:
        (build,) = {each.key.split("/")[2] for each in site.store.keys(site.keys.staging_root)}
        site.store.delete([site.keys.lock])
        assert site.run(job="publish_held_build", tags={"oam-mosaic/build": build}).success

    store = Meddled(site.settings.mosaic_store, site.keys.release("*", name), publish_as_its_retry)
    outcome = site.run(store=store)

    assert outcome.kind == "PublicationLost"
    after = site.stays_whole()
    assert after.build > before.build
    site.recovers(after)


def test_a_run_whose_retry_was_faster_says_that_nothing_needs_to_be_done(site: Site) -> None:
    before = site.published()

    def publish_as_its_retry() -> None:
        (build,) = {each.key.split("/")[2] for each in site.store.keys(site.keys.staging_root)}
        assert site.run(job="publish_held_build", tags={"oam-mosaic/build": build}).success

    outcome = site.run(store=Meddled(site.settings.mosaic_store, site.keys.lock, publish_as_its_retry))

    after = site.stays_whole()
    assert after.build > before.build
    assert outcome.kind == "PublicationLost"
    assert outcome.text.startswith(f"{after.build} was published by another run")
    assert outcome.text.endswith("Nothing needs to be done.")
    site.recovers(after)


def test_a_run_that_was_taken_for_dead_leaves_the_release_that_its_retry_is_writing(site: Site) -> None:
    before = site.published()
    builds: list[str] = []

    def begin_as_its_retry() -> None:
        (build,) = {each.key.split("/")[2] for each in site.store.keys(site.keys.staging_root)}
        builds.append(build)
        held = json.dumps({"build": build, "until": datetime.now(UTC).isoformat()}).encode()
        site.store.put_bytes(site.keys.lock, held, JSON)

    archive = site.keys.release("*", "global-mosaic.pmtiles")
    outcome = site.run(store=Meddled(site.settings.mosaic_store, archive, begin_as_its_retry))

    assert outcome.kind == "PublicationLost"
    assert site.store.head(site.keys.release(builds[0], "global-mosaic.pmtiles")) is not None
    site.store.delete([site.keys.lock])
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


def test_a_mosaic_from_the_future_is_not_taken_for_a_newer_one(site: Site) -> None:
    """Its publisher's clock was ahead, or this one's is behind; a person must find out which."""
    before = site.published()
    ours, _ = site.store.get_bytes(site.keys.pointer) or (b"", None)
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    later = replace(before, snapshot_taken_at=ahead, checked_at=ahead)
    site.store.put_bytes(site.keys.pointer, later.to_json(), JSON, public=True)

    outcome = site.run()

    assert not outcome.success
    assert outcome.kind == "PublicationLost"
    assert "That is in the future by this machine's clock: set the clock." in outcome.text + str(
        outcome.metadata
    )
    assert "Nothing needs to be done" not in outcome.text
    site.store.put_bytes(site.keys.pointer, ours, JSON, public=True)
    site.recovers(before)


def test_the_only_mosaic_from_the_future_is_got_rid_of_as_the_error_says(new_site: Site) -> None:
    """The first machine's clock was ahead, so there is nothing to roll back to."""
    site = new_site

    def refused() -> str:
        ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        later = replace(site.stays_whole(), snapshot_taken_at=ahead, checked_at=ahead)
        site.store.put_bytes(site.keys.pointer, later.to_json(), JSON, public=True)
        outcome = site.run()
        assert outcome.kind == "PublicationLost"
        return outcome.text + str(outcome.metadata)

    assert site.run().success
    told = refused()
    assert f"move {site.keys.pointer} in {site.store.origin} away" in told
    assert "rollback" not in told

    site.store.delete([site.keys.pointer])
    assert site.run().success

    told = refused()
    assert "run `oam-mosaic rollback`" in told
    assert "away" not in told


def test_a_build_whose_staging_a_faster_publisher_took_away_says_so(site: Site) -> None:
    """The other build began later but read the catalogue earlier."""
    before = site.published()

    def publish_another() -> None:
        assert site.run().success
        content, _ = site.store.get_bytes(site.keys.pointer) or (b"", None)
        read_earlier = replace(Pointer.from_json(content), snapshot_taken_at=before.snapshot_taken_at)
        site.store.put_bytes(site.keys.pointer, read_earlier.to_json(), JSON, public=True)

    outcome = site.run(store=Meddled(site.settings.mosaic_store, site.keys.lock, publish_another))

    newer = site.stays_whole()
    assert outcome.kind == "PublicationLost"
    assert f"Another publisher was faster: {newer.build} became public while" in outcome.text
    assert "Nothing needs to be done" in outcome.text
    site.recovers(newer)


def test_a_staged_archive_that_somebody_deleted_is_missed(site: Site) -> None:
    before = site.published()

    def delete_staged() -> None:
        staged = [each.key for each in site.store.keys(site.keys.staging_root)]
        site.store.delete([key for key in staged if key.endswith("/global-mosaic.pmtiles")])

    released = site.keys.release("*", "global-mosaic.pmtiles")
    outcome = site.run(store=Meddled(site.settings.mosaic_store, released, delete_staged))

    assert outcome.kind == "PublicationLost"
    assert "was deleted after its audit" in outcome.text
    assert "check who else deletes in this place" in outcome.text
    assert site.stays_whole() == before
    site.recovers(before)


@pytest.mark.parametrize("ahead", [timedelta(minutes=1), timedelta(minutes=-10)])
def test_a_publication_that_is_under_way_is_waited_for_before_the_mosaic_is_judged(
    site: Site, ahead: timedelta
) -> None:
    """Also where the publisher's clock is behind, so that its lock seems to have expired."""
    before = site.published()
    lock, pointer = site.keys.lock, site.keys.pointer

    class Publishing(FolderStore):
        """Another publisher turns the fixed key just before it is looked at; the pointer follows shortly."""

        newer, looks = b"", 0

        def head(self, key: str) -> StoredObject | None:
            if key == site.keys.archive and not self.newer:
                stated, _ = site.store.get_bytes(pointer) or (b"", None)
                assert site.run().success
                self.newer, _ = site.store.get_bytes(pointer) or (b"", None)
                site.store.put_bytes(pointer, stated, JSON, public=True)
                until = (datetime.now(UTC) + ahead).isoformat()
                held = json.dumps({"build": ANOTHER, "until": until}).encode()
                site.store.put_bytes(lock, held, JSON)
            return super().head(key)

        def get_bytes(self, key: str) -> tuple[bytes, StoredObject] | None:
            found = super().get_bytes(key)
            self.looks += key == lock
            if key == lock and found and self.looks > 2:
                site.store.put_bytes(pointer, self.newer, JSON, public=True)
                site.store.delete([lock])
            return found

    noticed = site.run(job="mosaic_freshness", store=Publishing(site.settings.mosaic_store))

    assert noticed.success, noticed.failed_checks
    assert site.stays_whole().build > before.build
    site.recovers(before)


def test_a_first_publication_that_is_under_way_is_no_lost_pointer(site: Site) -> None:
    before = site.published()
    lock, pointer = site.keys.lock, site.keys.pointer
    stated, _ = site.store.get_bytes(pointer) or (b"", None)

    class Publishing(FolderStore):
        """The publisher turns the pointer once its lock has been looked at."""

        def get_bytes(self, key: str) -> tuple[bytes, StoredObject] | None:
            found = super().get_bytes(key)
            if key == lock and found:
                site.store.put_bytes(pointer, stated, JSON, public=True)
                site.store.delete([lock])
            return found

    site.store.delete([pointer])
    until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    site.store.put_bytes(lock, json.dumps({"build": ANOTHER, "until": until}).encode(), JSON)

    noticed = site.run(job="mosaic_freshness", store=Publishing(site.settings.mosaic_store))

    assert noticed.success, noticed.failed_checks
    assert site.stays_whole() == before


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
    assert "Another publisher changed mosaic/latest.json while" in outcome.text
    assert "make sure that only one publisher writes to this place" in outcome.text
    content, _ = site.store.get_bytes(site.keys.pointer) or (b"", None)
    assert content.endswith(b"\n\n")
    site.recovers(before)


def test_what_fails_after_the_pointer_was_turned_takes_nothing_away(site: Site) -> None:
    before = site.published()
    root = site.settings.mosaic_store
    outcome = site.run(store=Forgetful(root, "mosaic/cache/"))
    assert outcome.success
    assert "is public, but not everything could be cleaned up afterwards" in outcome.log
    assert "cannot copy to mosaic/cache/" in outcome.log
    public = public_mosaic_is_whole(site.store, site.keys)
    assert public.published_at > before.published_at

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

"""Findings about the public mosaic, the lock, and foreign objects under fixed keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from oam_mosaic_assets.core.release import AUDIT, Keys, Pointer
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State
from oam_mosaic_assets.gateways.diagnosis.publication import examine_publication
from oam_mosaic_assets.gateways.holds import Holds
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock
from oam_mosaic_assets.gateways.releases import Releases

KEYS = Keys()
JSON = Headers("application/json")
BUILD = "20260115T030000Z-3f9c2a7d41be"


def examined(store: ObjectStore) -> dict[str, Finding]:
    return {each.subject: each for each in examine_publication(store, KEYS)}


def a_pointer(**etags: str) -> Pointer:
    moment = "2026-01-15T03:04:05+00:00"
    return Pointer(
        build=BUILD,
        digest="3f9c",
        snapshot_taken_at=moment,
        checked_at=moment,
        published_at=moment,
        source="sample",
        images=1234,
        set_aside=0,
        archive=KEYS.release(BUILD, "global-mosaic.pmtiles"),
        manifest=KEYS.release(BUILD, "manifest.json"),
        size=5678,
        sha256="00",
        etags=etags,
    )


def publish(store: ObjectStore) -> None:
    written = store.put_bytes(KEYS.archive, b"ours", JSON, public=True)
    pointer = a_pointer(**{KEYS.archive: written.etag})
    store.put_bytes(pointer.archive, b"ours", JSON, public=True)
    store.put_bytes(KEYS.pointer, pointer.to_json(), JSON, public=True)


def stage(store: ObjectStore, build: str, *, failed: str) -> None:
    """Leave the audit of a build that failed one check; empty if it failed none."""
    verdicts = [{"name": failed, "passed": False}] if failed else []
    store.put_bytes(KEYS.staging(build, AUDIT), json.dumps({"verdicts": verdicts}).encode(), JSON)


def test_an_empty_store_waits_for_the_first_build(store: ObjectStore) -> None:
    findings = examined(store)

    assert {each.state for each in findings.values()} == {State.OK}
    assert "none yet" in findings["public mosaic"].text
    assert findings["publisher's lock"].text == "nobody is publishing"


def test_what_is_public_is_said_and_how_large_it_is(store: ObjectStore) -> None:
    publish(store)

    def examine() -> Iterator[Finding]:
        size = yield from examine_publication(store, KEYS)
        assert size == 5678

    found = list(examine())
    assert {each.state for each in found} == {State.OK}
    assert found[0].text == f"{BUILD} with 1,234 images, public since 2026-01-15 03:04 UTC"


def test_a_publisher_at_work_is_named(store: ObjectStore) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    with PublisherLock(store, KEYS.lock, BUILD).held(lambda _: None):
        lock = examined(store)["publisher's lock"]

    assert lock.state is State.WARNING
    said, _, since = lock.text.partition(" since ")
    assert said == f"held for {BUILD}"
    taken = datetime.fromisoformat(since.split(";")[0])
    assert began <= taken <= datetime.now(UTC)
    assert examined(store)["publisher's lock"].text == "nobody is publishing", "it was released"


def test_since_when_a_lock_is_held_does_not_change_when_it_is_renewed(store: ObjectStore) -> None:
    lock = PublisherLock(store, KEYS.lock, BUILD)
    with lock.held(lambda _: None):
        first = store.get_bytes(KEYS.lock)
        lock._since = "2026-01-15T03:00:00+00:00"
        lock.renew()
        second = store.get_bytes(KEYS.lock)

    assert first is not None
    assert second is not None
    assert datetime.fromisoformat(json.loads(first[0])["since"]).tzinfo is not None
    assert json.loads(second[0])["since"] == "2026-01-15T03:00:00+00:00"


def test_a_dead_publishers_lock_is_in_nobodys_way(store: ObjectStore) -> None:
    """Such as one of an earlier version, which did not record when it was taken."""
    until = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    store.put_bytes(KEYS.lock, json.dumps({"build": BUILD, "until": until}).encode(), JSON)
    lock = examined(store)["publisher's lock"]

    assert lock.state is State.OK
    assert lock.text.startswith(f"left by {BUILD}, expired ")


def test_somebody_elses_objects_are_named_and_stay(store: ObjectStore) -> None:
    store.put_bytes(KEYS.archive, b"another mosaic", JSON, public=True)
    before = list(store.keys(""))
    foreign = examined(store)["foreign objects"]

    assert foreign.state is State.WARNING
    assert "global-mosaic.pmtiles holds 14 bytes that no build wrote" in foreign.text
    assert "oam-mosaic publish BUILD --confirm REASON" in foreign.hint
    assert list(store.keys("")) == before


def test_what_is_no_pointer_is_named(store: ObjectStore) -> None:
    store.put_bytes(KEYS.pointer, b"<html>", JSON)
    (finding,) = examine_publication(store, KEYS)

    assert (finding.subject, finding.state) == ("public mosaic", State.WRONG)
    assert "mosaic/latest.json" in finding.text


def test_a_public_archive_that_is_gone_is_said(store: ObjectStore) -> None:
    publish(store)
    store.delete([KEYS.archive])

    finding = examined(store)["public mosaic"]

    assert finding.state is State.WARNING
    assert finding.text.endswith(f"but {KEYS.archive} is gone")


def test_a_takedown_that_was_stopped_midway_is_said_until_nothing_is_left(store: ObjectStore) -> None:
    takedowns = Releases(store, KEYS).takedowns
    takedowns.add("private", "a request")

    found = examined(store)["takedown"]

    assert (found.state, found.text.rpartition(" ")[2]) == (State.WARNING, "private")
    takedowns.mark_gone("private")
    assert "takedown" not in examined(store)


def test_what_keeps_the_next_build_from_being_public_is_said(store: ObjectStore) -> None:
    Holds(store, KEYS).place("the islands are missing")
    stage(store, BUILD, failed="catalogue_did_not_shrink")

    found = examined(store)

    assert (found["hold"].state, found["held build"].state) == (State.WRONG, State.WARNING)
    assert "the islands are missing" in found["hold"].text
    assert found["held build"].text.startswith(BUILD)
    assert f"oam-mosaic publish {BUILD} --confirm REASON" in found["held build"].hint
    assert found["held build"].text.endswith("a guard held it back")
    Releases(store, KEYS).staged.mark_held(BUILD, "coverage/old.pmtiles holds what no build wrote")
    assert examined(store)["held build"].text.endswith("coverage/old.pmtiles holds what no build wrote")


@pytest.mark.parametrize("failed", ["", "low_zooms_are_true"], ids=["being published", "failed its audit"])
def test_a_build_that_no_person_can_confirm_does_not_wait_for_one(store: ObjectStore, failed: str) -> None:
    stage(store, BUILD, failed=failed)

    assert "held build" not in examined(store)

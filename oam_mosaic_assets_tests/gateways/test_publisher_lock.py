"""The publisher's lock on every store: held while its publisher lives, and by one publisher at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread, Timer

import pytest

from oam_mosaic_assets.errors import PublicationLost, StoreUnavailable
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock, holder_of
from oam_mosaic_assets_tests.faults.stores import Meddled
from oam_mosaic_assets_tests.servers.buckets import store_in
from oam_mosaic_assets_tests.servers.s3 import S3Server
from oam_mosaic_assets_tests.servers.s3_proxy import Spoiled, running_s3_proxy

KEY = "mosaic/publisher.lock"
JSON = Headers("application/json")
LIFETIME = timedelta(seconds=1)


def lock(store: ObjectStore, build: str = "ours", lifetime: timedelta = LIFETIME) -> PublisherLock:
    return PublisherLock(store, KEY, build, lifetime=lifetime)


def silent(_: str) -> None:
    """Say nothing."""


def leave_lock(store: ObjectStore, until: str) -> None:
    """Leave a lock that nobody renews."""
    store.put_bytes(KEY, json.dumps({"build": "another", "until": until}).encode(), JSON)


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def test_it_is_held_for_the_block_and_free_after_it(store: ObjectStore) -> None:
    said: list[str] = []
    with lock(store).held(said.append):
        found = store.get_bytes(KEY)
        assert found is not None
        assert json.loads(found[0])["build"] == "ours"
        assert store.read_publicly(KEY) is None

    assert holder_of(store, KEY) is None
    with suppress(KeyboardInterrupt), lock(store).held(said.append):
        raise KeyboardInterrupt
    assert holder_of(store, KEY) is None
    assert said == []


def test_a_release_whose_answer_is_lost_leaves_the_next_publisher_its_lock(
    s3_server: S3Server, bucket: str
) -> None:
    """The request is sent again, and by then the lock is the next publisher's."""
    rival = lock(store_in(s3_server, bucket), "rival")
    with running_s3_proxy(s3_server.endpoint) as proxy, ExitStack() as at_work:

        def take() -> None:
            at_work.enter_context(rival.held(silent))

        far_store = store_in(s3_server, bucket, endpoint=proxy.endpoint)
        with lock(far_store, lifetime=timedelta(minutes=2)).held(silent):
            # whether it is released by a write or by a deletion
            proxy.spoil("[DP]*", "*", Spoiled(after=take, cut_answer=True, times=1))
        assert proxy.spoiled == 1
        rival.renew()
    assert holder_of(store_in(s3_server, bucket), KEY) is None


def test_who_is_beaten_to_a_released_one_says_whom_it_waits_for(tmp_path: Path) -> None:
    said: list[str] = []
    with lock(FolderStore(tmp_path)).held(silent):
        pass
    with ExitStack() as at_work:
        rival = lock(FolderStore(tmp_path), "rival")
        store = Meddled(tmp_path, KEY, lambda: at_work.enter_context(rival.held(silent)))
        with pytest.raises(PublicationLost, match="rival holds the lock"), lock(store).held(said.append):
            pass
    assert said == ["waiting for rival, which holds the publisher's lock, or for the lock to expire"]


def test_it_outlives_its_lifetime_while_its_publisher_is_at_work(store: ObjectStore) -> None:
    said: list[str] = []
    lifetime = 3 * LIFETIME  # a busy machine may delay the renewing thread by a second
    with lock(store, lifetime=lifetime).held(silent):
        time.sleep(1.5 * lifetime.total_seconds())
        with (
            pytest.raises(PublicationLost, match=r"ours holds the lock .+ and keeps renewing it"),
            lock(store, "rival", lifetime).held(said.append),
        ):
            pass
        assert holder_of(store, KEY) is not None

    assert said == ["waiting for ours, which holds the publisher's lock, or for the lock to expire"]
    assert holder_of(store, KEY) is None


def test_its_end_is_waited_for(store: ObjectStore) -> None:
    said: list[str] = []
    leave_lock(store, in_an_hour())
    Timer(0.3, store.delete, [[KEY]]).start()

    began = time.monotonic()
    with lock(store, lifetime=timedelta(seconds=60)).held(said.append):
        assert time.monotonic() < began + 30
    assert len(said) == 1


@pytest.mark.parametrize(
    "until",
    [in_an_hour, lambda: "2026-01-01T00:00:00", lambda: "0001-01-01T00:00:00+14:00", lambda: "soon"],
    ids=["standing still", "ended", "before all calendars", "what"],
)
def test_one_of_a_dead_publisher_is_taken_over(store: ObjectStore, until: Callable[[], str]) -> None:
    leave_lock(store, until())

    with lock(store).held(silent):
        found = store.get_bytes(KEY)
        assert found is not None
        assert json.loads(found[0])["build"] == "ours"
    assert holder_of(store, KEY) is None


def test_one_that_is_renewed_is_left_alone_though_its_publishers_clock_is_behind(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    at_work = Event()

    def renew() -> None:
        while not at_work.wait(LIFETIME.total_seconds() / 4):
            expired = datetime.now(UTC) - timedelta(minutes=10)
            leave_lock(store, expired.isoformat())

    leave_lock(store, datetime.now(UTC).isoformat())
    renewing = Thread(target=renew)
    renewing.start()
    try:
        with (
            pytest.raises(PublicationLost, match="another holds the lock"),
            lock(store, lifetime=LIFETIME).held(silent),
        ):
            pass
    finally:
        at_work.set()
        renewing.join()


@pytest.mark.parametrize("how", ["taken over", "deleted"])
def test_who_lost_it_is_told_and_leaves_it_alone(store: ObjectStore, how: str) -> None:
    ours = lock(store)
    with ours.held(silent):
        ours.renew()
        if how == "deleted":
            store.delete([KEY])
        else:
            leave_lock(store, in_an_hour())
        time.sleep(LIFETIME.total_seconds())
        with pytest.raises(PublicationLost, match="was lost while it was held for ours"):
            ours.renew()

    assert (holder_of(store, KEY) is None) == (how == "deleted")


def test_a_store_that_is_silent_for_a_moment_costs_no_lock(tmp_path: Path) -> None:
    """A renewal may fail, or succeed although its answer was lost."""
    store = Meddled(tmp_path, KEY, silent_store)
    store.happens = None
    ours = lock(store)
    with ours.held(silent):
        for fault in (silent_store, lambda: renewed_and_silent(tmp_path)):
            store.happens = fault
            while store.happens:
                time.sleep(0.01)
            ours.renew()
    assert holder_of(store, KEY) is None


def silent_store() -> None:
    raise StoreUnavailable("no answer", hint="Run again.")


def renewed_and_silent(root: Path) -> None:
    """Rewrite what is there, so that its ETag changes, but lose the answer."""
    store = FolderStore(root)
    found = store.get_bytes(KEY)
    assert found is not None
    store.put_bytes(KEY, found[0], JSON)
    silent_store()

"""A publisher whose store was away for a while undoes neither others' work nor its own afterwards."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.core.product import MOSAIC
from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.errors import PublicationHeld, PublicationLost, StoreUnavailable
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.rollback import roll_back
from oam_mosaic_assets_tests.gateways.two_products import built

KEYS = Keys(aliases=("old.pmtiles",))
BRIEF = timedelta(seconds=1)


def releases_in(store: FolderStore) -> Releases:
    return Releases(store, KEYS, patience_seconds=0.0, lock_lifetime=BRIEF)


def published(releases: Releases, letter: str) -> str:
    return releases.publish(built(releases, letter, MOSAIC)).build


class AnswerLost(FolderStore):
    """Writes an object under one key, but loses the answer, once."""

    key = ""

    def put_bytes(self, key: str, *rest: Any, **options: Any) -> StoredObject:
        found = super().put_bytes(key, *rest, **options)
        if key == self.key:
            self.key = ""
            raise StoreUnavailable("no complete answer from the server")
        return found


def test_a_rollback_that_succeeded_though_its_answer_was_lost_keeps_its_hold(tmp_path: Path) -> None:
    store = AnswerLost(tmp_path / "store")
    releases = releases_in(store)
    first, _ = published(releases, "a"), published(releases, "b")
    store.key, told = KEYS.pointer, list[str]()
    with pytest.raises(StoreUnavailable):
        roll_back(releases, None, reason="clouds", folder=tmp_path, say=told.append)
    current = releases.current()
    assert current is not None
    assert current[0].build == first
    assert f"{first} may be public nevertheless, and publication stays held" in told[-1]
    with pytest.raises(PublicationHeld, match="clouds"):
        published(releases, "c")


def test_a_rollback_that_failed_leaves_no_hold(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    releases = releases_in(store)
    published(releases, "a")
    second = published(releases, "b")

    class Away(FolderStore):
        def copy(self, *_: Any, **__: Any) -> StoredObject:
            raise StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable):
        roll_back(releases_in(Away(store.root)), None, reason="clouds", folder=tmp_path, say=lambda _: None)
    current = releases.current()
    assert current is not None
    assert current[0].build == second
    assert releases.holds.present() is None


def test_a_rollback_that_lost_its_lock_leaves_the_hold_that_another_person_may_mean(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    releases = releases_in(store)
    published(releases, "a")
    published(releases, "b")

    class Slow(FolderStore):
        """While it copies, somebody else takes over the lock and places a hold too."""

        def copy(self, *arguments: Any, **options: Any) -> StoredObject:
            store.delete([KEYS.lock])
            with releases.lock("a hold").held(lambda _: None):
                releases.holds.place("legal asked for it")
            return super().copy(*arguments, **options)

    with pytest.raises(PublicationLost):
        roll_back(releases_in(Slow(store.root)), None, reason="clouds", folder=tmp_path, say=lambda _: None)
    hold = releases.holds.present()
    assert hold is not None
    assert "legal asked for it" in hold.reason


def test_who_comes_back_after_its_lock_ended_does_not_turn_what_another_publisher_turned(
    tmp_path: Path,
) -> None:
    plain = releases_in(FolderStore(tmp_path / "store"))
    published(plain, "o")
    is_away, is_back = threading.Event(), threading.Event()

    class Away(FolderStore):
        """Unreachable from the moment it first turns the archive, for longer than a lock lasts."""

        is_gone = False

        def put_bytes(self, *arguments: Any, **options: Any) -> StoredObject:
            if self.is_gone:
                raise StoreUnavailable("no answer")
            return super().put_bytes(*arguments, **options)

        def copy(self, source: StoredObject, key: str, *rest: Any, **options: Any) -> StoredObject:
            if key == KEYS.archive and not is_away.is_set():
                self.is_gone = True
                is_away.set()
                is_back.wait()
                self.is_gone = False
                raise StoreUnavailable("no answer to the copy")
            return super().copy(source, key, *rest, **options)

    away = releases_in(Away(tmp_path / "store"))
    candidate, raised = built(away, "a", MOSAIC), list[Exception]()

    def publish() -> None:
        try:
            away.publish(candidate)
        except StoreUnavailable as error:
            raised.append(error)

    publisher = threading.Thread(target=publish)
    publisher.start()
    is_away.wait()

    class Turning(FolderStore):
        """The one that was away comes back once the fixed keys are turned, but before the pointer is."""

        def put_bytes(self, key: str, *rest: Any, **options: Any) -> StoredObject:
            if key == KEYS.pointer:
                is_back.set()
                publisher.join()
            return super().put_bytes(key, *rest, **options)

    second = published(releases_in(Turning(tmp_path / "store")), "b")
    current = plain.current()
    assert current is not None
    assert current[0].build == second
    assert plain.differences(current[0]) == []
    assert len(raised) == 1

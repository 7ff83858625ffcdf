"""What a publication takes away besides old releases: unfinished uploads, and tables of builds that are gone.

Ceph says truly when an upload began, unlike moto.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from oam_mosaic_assets.core.history import Retention
from oam_mosaic_assets.core.release import ARCHIVE, MANIFEST, Keys
from oam_mosaic_assets.gateways import s3_store
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, StoredObject
from oam_mosaic_assets.gateways.sweeping import sweep
from oam_mosaic_assets.gateways.whole_file import partial_beside
from oam_mosaic_assets_tests.chain import quick_folder
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer

KEYS = Keys()
PUBLIC, NEXT = "20260115T030000Z-3f9c2a7d41be", "20260115T030001Z-3f9c2a7d41be"


def test_an_upload_of_another_run_is_left_alone_for_six_hours(
    ceph: CephServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bucket = client_of(ceph), new_bucket(ceph)
    staged = KEYS.staging(NEXT, ARCHIVE)
    for key in (staged, KEYS.archive, KEYS.tilejson, KEYS.release(NEXT, ARCHIVE)):
        client.create_multipart_upload(Bucket=bucket, Key=key)

    def left_after(age: timedelta) -> list[str]:
        class Later(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:
                return datetime.now(tz) + age

        with monkeypatch.context() as patch:
            patch.setattr(s3_store, "datetime", Later)
            sweep(store_in(ceph, bucket), KEYS, PUBLIC, Retention())
        return [each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    assert left_after(timedelta()) == [staged]
    assert left_after(timedelta(hours=6, minutes=-5)) == [staged]
    assert left_after(timedelta(hours=6, minutes=5)) == []


def test_tables_that_another_publisher_adds_meanwhile_are_not_taken_away(tmp_path: Path) -> None:
    """This one had been suspended for longer than its lock lasts."""

    class Overtaken(FolderStore):
        """Another build becomes public just after the releases were listed."""

        def keys(self, prefix: str) -> Iterator[StoredObject]:
            found = list(super().keys(prefix))
            if prefix == KEYS.releases_root:
                for key in (KEYS.release(NEXT, MANIFEST), *KEYS.tables(NEXT)):
                    self.put_bytes(key, b"{}", Headers("application/json"))
            return iter(found)

    store = Overtaken(tmp_path)
    for key in (KEYS.release(PUBLIC, MANIFEST), *KEYS.tables(PUBLIC), KEYS.footprints("gone")):
        store.put_bytes(key, b"{}", Headers("application/json"))

    sweep(store, KEYS, PUBLIC, Retention())

    kept = {each.key for each in store.keys("mosaic/cache/")}
    assert kept == {*KEYS.tables(PUBLIC), *KEYS.tables(NEXT)}


@pytest.mark.usefixtures("nobody")
def test_what_a_killed_publisher_left_goes_though_a_folder_beside_it_may_not_be_read() -> None:
    """As `lost+found`, if the store is the root of a volume."""
    with quick_folder() as volume:
        left = partial_beside(volume / KEYS.archive)
        left.touch()
        (volume / "lost+found").mkdir(mode=0)

        sweep(FolderStore(volume), KEYS, PUBLIC, Retention())

        assert not left.exists()


def test_another_programs_file_beside_staged_ones_is_left_alone(tmp_path: Path) -> None:
    """As rsync leaves one, if it was interrupted while it copied a store."""
    store, staged = FolderStore(tmp_path), KEYS.staging(PUBLIC, ARCHIVE)
    store.put_bytes(staged, b"", Headers("application/vnd.pmtiles"))
    theirs = tmp_path / KEYS.staging(PUBLIC, ".rsync-partial") / "theirs"
    theirs.parent.mkdir()
    theirs.touch()

    sweep(store, KEYS, NEXT, Retention())

    assert store.head(staged) is None
    assert theirs.exists()

"""The search for an image that was taken down: what is found, what is deleted, and what cannot be told."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pmtiles.tile import Compression, TileType
from pmtiles.writer import Writer

from oam_mosaic_assets.core.audit import judge_placement
from oam_mosaic_assets.core.placement import Places
from oam_mosaic_assets.core.product import EXACT, IMAGERY, MOSAIC, PICTURES, PRODUCTS, WHOLE
from oam_mosaic_assets.core.release import RUN_LOGS, Keys
from oam_mosaic_assets.errors import PublicationLost
from oam_mosaic_assets.gateways.imagery.partition import UNJOINED
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore, StoredObject
from oam_mosaic_assets.gateways.purge import Purged, purge
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.s3_store import S3Store
from oam_mosaic_assets_tests.core.test_release import POINTER
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer

KEYS = Keys()
HEADERS = Headers("application/octet-stream")
BUILD = "20260115T030000Z-3f9c2a7d41be"
COPY = "mosaic/builds/foreign-20250801/old"
GONE = "5f1c0c2bd1c7c3000756f1f2"
TEXT = gzip.compress(json.dumps({"id": GONE}).encode())


def an_archive(tile: bytes, compression: Compression) -> bytes:
    content = BytesIO()
    writer = Writer(content)
    writer.write_tile(0, tile)
    zooms = {"min_zoom": 0, "max_zoom": 0, "center_zoom": 0}
    writer.finalize({"tile_type": TileType.MVT, "tile_compression": compression, **zooms}, {})
    return content.getvalue()


def a_table() -> bytes:
    content = BytesIO()
    pl.DataFrame({"id": [GONE]}).write_parquet(content, compression="gzip")
    return content.getvalue()


def purged(store: ObjectStore, folder: Path) -> Purged:
    return purge(Releases(store, KEYS), GONE, folder=folder, say=lambda _: None)


@pytest.mark.parametrize(
    "content",
    [
        an_archive(TEXT[:-9], Compression.GZIP),
        an_archive(b"compressed by other means", Compression.BROTLI),
        an_archive(TEXT, Compression.GZIP)[:-1],
        a_table()[:-1],
        gzip.compress(b'{"id": "nobody\'s"}')[:-9],
        gzip.compress(b'{"id": "nobody\'s"}')[:10] + b"x" * 100,
    ],
    ids=["a broken tile", "brotli", "cut short", "half a table", "half a text", "no text"],
)
def test_what_cannot_be_read_is_deleted_if_it_is_a_copy_and_told_of_if_not(
    store: ObjectStore, tmp_path: Path, content: bytes
) -> None:
    for key in (COPY, KEYS.archive):
        store.put_bytes(key, content, HEADERS)
    found = purged(store, tmp_path)
    assert (found.deleted, found.left, found.unreadable) == ((COPY,), (), (KEYS.archive,))
    assert not found.is_gone
    assert store.head(KEYS.archive) is not None
    store.delete([KEYS.archive])
    assert purged(store, tmp_path).is_gone


def test_compressed_text_is_searched(store: ObjectStore, tmp_path: Path) -> None:
    for key in (COPY, KEYS.archive):
        store.put_bytes(key, TEXT, HEADERS)
    store.put_bytes(KEYS.tilejson, gzip.compress(b'{"id": "nobody\'s"}'), HEADERS)
    found = purged(store, tmp_path)
    assert (found.deleted, found.left, found.unreadable) == ((COPY,), (KEYS.archive,), ())


def test_an_upload_of_a_publisher_that_took_the_lock_over_stays(
    ceph: CephServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search of a large place takes longer than the lock lasts if its holder is suspended."""
    client, bucket = client_of(ceph), new_bucket(ceph)
    store, others = store_in(ceph, bucket), KEYS.release(BUILD, "a.pmtiles")
    store.put_bytes(f"{KEYS.prefix}searched.json", b"{}", HEADERS)
    client.create_multipart_upload(Bucket=bucket, Key=others)
    get_file = S3Store.get_file

    def overtaken(self: S3Store, key: str, path: Path) -> StoredObject | None:
        self.put_bytes(KEYS.lock, b'{"build": "another"}', HEADERS)
        return get_file(self, key, path)

    monkeypatch.setattr(S3Store, "get_file", overtaken)
    with pytest.raises(PublicationLost):
        purged(store, tmp_path)
    assert [each["Key"] for each in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [others]


def test_no_picture_of_ours_is_read(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the largest objects, and others wait for the lock meanwhile."""
    named = replace(KEYS, named={WHOLE.name: "maps/whole.pmtiles"}, products=PRODUCTS)
    unjoined = f"{KEYS.imagery}6-1-1/{UNJOINED}a.pmtiles"
    pictures = [
        *(at(BUILD, each.name) for at in (named.release, named.staging) for each in PICTURES),
        *(named.fixed(each.name)[0] for each in (WHOLE, IMAGERY)),
        f"{KEYS.imagery}6-1-1/a.pmtiles",
    ]
    others = [named.fixed(EXACT.name)[0], named.release(BUILD, MOSAIC.name), COPY, unjoined]
    etags = {key: store.put_bytes(key, b"pixels", HEADERS).etag for key in (*pictures, *others)}
    written = {each: etags[each] for each in (*named.fixed(WHOLE.name), *named.fixed(IMAGERY.name))}
    store.put_bytes(KEYS.pointer, replace(POINTER, etags=written).to_json(), HEADERS)
    read: list[str] = []
    get_file = type(store).get_file

    def noted(self: Any, key: str, path: Path) -> StoredObject | None:
        read.append(key)
        return get_file(self, key, path)

    monkeypatch.setattr(type(store), "get_file", noted)
    purge(Releases(store, named), GONE, folder=tmp_path, say=lambda _: None)
    assert set(read) == {*others, KEYS.pointer}


def test_a_log_of_an_audit_that_failed_is_found(store: ObjectStore, tmp_path: Path) -> None:
    log = f"{RUN_LOGS}a-run/compute_logs/published_mosaic.err"
    places = Places(missing=[(0, 1, 1)], stray=[], differing=[], outlined=0)
    said = judge_placement([GONE], places, 9).text
    store.put_bytes(log, f"a build failed its audit: {said}.".encode(), HEADERS)
    assert purged(store, tmp_path).deleted == (log,)

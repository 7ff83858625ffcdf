"""What is served from a bucket, through its outages and refusals."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests

from oam_mosaic_assets.core.product import EXACT
from oam_mosaic_assets.core.release import ARCHIVE
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.viewer import INDEX
from oam_mosaic_assets_tests.servers.s3 import S3Server
from oam_mosaic_assets_tests.servers.s3_proxy import S3Proxy, Spoiled
from oam_mosaic_assets_tests.servers.tiles import POLL_SECONDS, release, serving
from oam_mosaic_assets_tests.serving.served import (
    FIRST,
    KEYS,
    SECOND,
    TILE,
    children_of,
    settings_of,
    tile_of,
)


def test_a_bucket_is_served_without_a_key_and_through_its_outage(
    tmp_path: Path, moto: S3Server, in_s3: tuple[str, ObjectStore], proxy: S3Proxy, mosaic: Path, raster: Path
) -> None:
    bucket, store = in_s3
    release(store, FIRST, mosaic, raster)
    with serving(tmp_path / "serve", settings_of(moto, bucket, proxy.endpoint)) as server:
        server.serves(FIRST)
        before = server.ask(0, TILE).content
        assert before == tile_of(mosaic)
        picture = server.ask(1, "/0/0/0.png")
        assert picture.status == 200
        page = KEYS.viewer + INDEX
        store.put_bytes(page, b"the page", Headers("text/html", "no-cache"), public=True)
        shown = server.ask(2, "/?build=x")
        assert shown.status == 302
        address, _, query = shown.headers["location"].partition("?")
        assert (address, query) == (f"{proxy.endpoint}/{bucket}/{page}", "build=x")
        assert requests.get(address, timeout=10).content == b"the page"
        assert server.ask(1, "/viewer/").headers["location"] == address
        proxy.spoil("*", "*", Spoiled(status="503 Slow Down", code="SlowDown"))
        server.until(lambda: server.health()["status"] == "degraded")
        assert server.health()["build"] == FIRST
        assert server.ask(0, TILE).content == before
        assert server.ask(1, "/0/0/0.png").content == picture.content
        proxy.forget()
        server.until(lambda: server.health()["status"] == "ok")
        release(store, SECOND, mosaic)
        server.serves(SECOND)


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (Spoiled(status="403 Forbidden", code="AccessDenied"), "or the public may not read it."),
        (Spoiled(status="503 Slow Down", code="SlowDown"), "does not answer"),
    ],
)
def test_why_nothing_can_be_served_from_the_start_is_said(
    tmp_path: Path,
    moto: S3Server,
    in_s3: tuple[str, ObjectStore],
    proxy: S3Proxy,
    mosaic: Path,
    spoiled: Spoiled,
    said: str,
) -> None:
    bucket, store = in_s3
    release(store, FIRST, mosaic)
    proxy.spoil("ReadAnonymously", KEYS.pointer, spoiled)
    with serving(tmp_path / "serve", settings_of(moto, bucket, proxy.endpoint)) as server:
        server.until(lambda: said in str(server.health()["trouble"]))
        assert KEYS.pointer in server.health()["trouble"]
        assert server.health()["status"] == "nothing can be served yet"
        time.sleep(3 * POLL_SECONDS)
        assert server.log.read_text().count(said) == 1
        proxy.forget()
        server.until(lambda: server.health()["status"] == "ok")
        assert server.health()["build"] == FIRST


@pytest.mark.parametrize("which", [ARCHIVE, EXACT.name])
def test_an_archive_that_may_no_longer_be_read_is_not_called_well(
    tmp_path: Path,
    moto: S3Server,
    in_s3: tuple[str, ObjectStore],
    proxy: S3Proxy,
    mosaic: Path,
    raster: Path,
    which: str,
) -> None:
    """Although the pointer can be read, and Martin has given its tiles before."""
    bucket, store = in_s3
    pointer = release(store, FIRST, mosaic, raster)
    with serving(tmp_path / "serve", settings_of(moto, bucket, proxy.endpoint)) as server:
        server.serves(FIRST)
        server.until(lambda: server.health()["status"] == "ok")
        assert server.ask(0, "/health").headers["cache-control"] == "no-store"
        key = pointer.released[which]
        proxy.spoil("ReadAnonymously", key, Spoiled(status="403 Forbidden", code="AccessDenied"))
        server.until(lambda: server.health()["status"] == "degraded")
        assert f"Martin cannot read tiles of {key}." in server.health()["trouble"]
        martin = children_of(server, "martin")
        proxy.forget()
        server.until(lambda: server.health()["status"] == "ok")
        assert children_of(server, "martin") == martin, "nobody restarts it for that"

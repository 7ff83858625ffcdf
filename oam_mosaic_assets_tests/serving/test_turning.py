"""What is served while releases turn, stores fail and servers die."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests
from pmtiles.tile import Compression, serialize_directory

from oam_mosaic_assets.core.product import EXACT
from oam_mosaic_assets.core.release import ARCHIVE, Keys
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets.gateways.viewer import INDEX
from oam_mosaic_assets_tests.core.archives import assembled, in_leaves, pieces_of
from oam_mosaic_assets_tests.disks import a_small_disk, fill
from oam_mosaic_assets_tests.servers.buckets import new_bucket, store_in
from oam_mosaic_assets_tests.servers.s3 import S3Server
from oam_mosaic_assets_tests.servers.s3_proxy import S3Proxy, Spoiled, running_s3_proxy
from oam_mosaic_assets_tests.servers.tiles import JSON, POLL_SECONDS, Answer, Serving, release, serving

FIRST = "20260115T030000Z-3f9c2a7d41be"
SECOND = "20260116T030000Z-aaaaaaaaaaaa"
TILE = "/globalcoverage/0/0/0"
KEYS = Keys()


def tile_of(archive: Path) -> bytes:
    pieces = pieces_of(archive)
    return gzip.decompress(pieces.packed(pieces.at(0, 0, 0)))


def children_of(server: Serving, name: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended since
            if child.name().startswith(name):
                found.append(child)
    return found


def test_nothing_is_served_until_something_is_published(
    server: Serving, store: FolderStore, mosaic: Path
) -> None:
    answer = server.ask(0, TILE)
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert answer.content == b"Nothing can be served yet; try again later.\n"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert server.ask(1, "/3/1/1.png").status == 503
    health = server.ask(0, "/health")
    assert health.status == 503
    assert b"nothing can be served yet" in health.content
    server.until(lambda: "latest.json in " in str(server.health()["trouble"]))
    assert "is not there, or the public may not read it." in server.health()["trouble"]
    release(store, FIRST, mosaic)
    end = time.monotonic() + 30.0
    while (first := server.health())["build"] is None:
        assert time.monotonic() < end
    assert (first["status"], first["trouble"]) == ("ok", None), "what there was is over"
    assert server.ask(0, TILE).content == tile_of(mosaic)
    assert server.ask(0, "/health").status == 200


def test_an_empty_picture_that_was_read_before_a_turn_need_not_be_read_again(
    server: Serving, store: FolderStore, mosaic: Path, raster: Path
) -> None:
    release(store, FIRST, mosaic, raster)
    server.serves(FIRST)
    empty, shown = "/15/0/0.png", "/0/0/0.png"
    etags = {path: server.ask(1, path).headers["etag"] for path in (empty, shown)}
    time.sleep(1.1)  # nginx makes an ETag of a file's time in seconds
    release(store, SECOND, mosaic, raster)
    server.serves(SECOND)
    for path, etag in etags.items():
        again = server.ask(1, path, If_None_Match=etag)
        assert (again.status, again.headers["x-mosaic-build"]) == (304, SECOND), path


def test_a_release_without_raster_coverage_says_so(server: Serving, store: FolderStore, mosaic: Path) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    answer = server.ask(1, "/3/1/1.png")
    assert answer.status == 404
    assert answer.content == b"This release has no raster coverage; the vector tiles show the same.\n"
    assert server.ask(1, "/16/1/1.png").status == 302


def test_an_archive_that_only_martin_can_read_is_served_all_the_same(
    server: Serving, store: FolderStore, mosaic: Path, tmp_path: Path
) -> None:
    plain = pieces_of(mosaic)
    plain.header["internal_compression"] = Compression.NONE
    plain.metadata = gzip.decompress(plain.metadata)
    root = gzip.decompress(serialize_directory(plain.entries))
    release(store, FIRST, assembled(plain, tmp_path / "plain.pmtiles", root=root))
    server.serves(FIRST)
    assert server.ask(0, TILE).content == tile_of(mosaic)
    assert json.loads(server.ask(1, "/editor-layer-index.geojson").content)["geometry"] is None
    assert "is made without an outline: its directories are not gzipped" in server.log.read_text()


def test_a_reader_meets_no_gap_and_no_mixture_when_the_release_turns(
    server: Serving, store: FolderStore, mosaic: Path, smaller_mosaic: Path
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    answers: list[Answer] = []
    done = threading.Event()
    reader = Serving(server.process, server.ports, server.log, server.scratch)

    def read() -> None:
        while not done.is_set():
            answers.append(reader.ask(0, TILE))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        turned = time.monotonic()
        release(store, SECOND, smaller_mosaic)
        server.serves(SECOND)
        taken = time.monotonic() - turned
        server.until(lambda: answers[-1].headers["x-mosaic-build"] == SECOND)
        ahead = len(answers) + 100
        server.until(lambda: len(answers) > ahead)
    finally:
        done.set()
        thread.join()
        reader.close()
    expected = {FIRST: tile_of(mosaic), SECOND: tile_of(smaller_mosaic)}
    assert {each.headers["x-mosaic-build"] for each in answers} == {FIRST, SECOND}
    for each in answers:
        assert each.status == 200
        assert each.content == expected[each.headers["x-mosaic-build"]]
    assert taken < 60.0


@pytest.mark.parametrize("broken", [b"{", b'{"format": 99}', b"", None])
def test_a_broken_pointer_leaves_the_last_good_release(
    server: Serving, store: FolderStore, mosaic: Path, broken: bytes | None
) -> None:
    pointer = release(store, FIRST, mosaic)
    server.serves(FIRST)
    if broken is None:  # of another release, whose archive has a name that no object can have
        broken = replace(pointer, build=SECOND, archive="../other.pmtiles").to_json()
    store.put_bytes(KEYS.pointer, broken, JSON, public=True)
    server.until(lambda: server.health()["status"] == "degraded")
    assert "cannot be read" in server.health()["trouble"]
    assert ("upgrade this tile server" in server.health()["trouble"]) == (b"99" in broken)
    assert server.ask(0, TILE).content == tile_of(mosaic)
    store.put_bytes(KEYS.pointer, pointer.to_json(), JSON, public=True)
    server.until(lambda: server.health()["status"] == "ok")


def test_a_disk_that_is_full_ends_nothing(tmp_path: Path, store: FolderStore, mosaic: Path) -> None:
    settings = {"MOSAIC_STORE": str(store.root)}
    with a_small_disk() as disk, serving(tmp_path / "serve", settings, MOSAIC_SCRATCH=str(disk)) as server:
        release(store, FIRST, mosaic)
        server.serves(FIRST)
        assert server.ask(0, TILE).status == 200
        fill(disk, room=0)
        server.until(lambda: "No space left on device" in server.log.read_text())
        assert server.ask(0, TILE).content == tile_of(mosaic), "nginx kept it"
        (disk / "filler").unlink()
        server.until(lambda: server.log.read_text().rstrip().endswith("all is well again"))
        assert server.health()["status"] == "ok"
        assert server.ask(0, "/globalcoverage/1/1/0").status == 200


@pytest.mark.parametrize("fault", ["missing", "broken"])
def test_a_release_whose_archive_cannot_be_served_leaves_the_last_good_one(
    server: Serving, store: FolderStore, mosaic: Path, tmp_path: Path, fault: str
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    other = tmp_path / "no.pmtiles"
    other.write_bytes(b"this is no archive" * 100)
    pointer = release(store, SECOND, other)
    if fault == "missing":
        store.delete([pointer.archive])
    server.until(lambda: server.health()["status"] == "degraded")
    assert "Martin does not serve" in server.health()["trouble"]
    assert server.health()["build"] == FIRST
    assert server.ask(0, TILE).content == tile_of(mosaic)
    release(store, SECOND, mosaic)
    server.serves(SECOND)


@pytest.mark.parametrize("fault", ["a leaf without bytes", "a tile beyond all zooms"])
def test_a_release_that_martin_opens_although_it_is_broken_leaves_the_last_good_one(
    server: Serving, store: FolderStore, mosaic: Path, tmp_path: Path, fault: str
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    pieces = pieces_of(mosaic)
    root, leaves = in_leaves(pieces.entries, 200)
    if fault == "a leaf without bytes":
        root[0].length = 0
        said = "has no bytes"
    else:
        root[-1].tile_id = 2**63 - 2**61
        said = "An unexpected OverflowError; the log says where."
    release(store, SECOND, assembled(pieces, tmp_path / "broken.pmtiles", root=root, leaves=leaves))
    server.until(lambda: said in str(server.health()["trouble"]))
    assert (server.health()["status"], server.health()["build"]) == ("degraded", FIRST)
    assert server.ask(0, TILE).content == tile_of(mosaic)
    time.sleep(3 * POLL_SECONDS)
    assert server.log.read_text().count("Traceback") == (fault == "a tile beyond all zooms"), "said once"
    release(store, SECOND, mosaic)
    server.serves(SECOND)
    server.until(lambda: server.health()["status"] == "ok")


def test_an_unforeseen_fault_while_martin_is_restarted_does_not_end_the_server(
    server: Serving, store: FolderStore, mosaic: Path, tmp_path: Path
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    pieces = pieces_of(mosaic)
    root, leaves = in_leaves(pieces.entries, 200)
    root[-1].tile_id = 2**63 - 2**61
    release(store, FIRST, assembled(pieces, tmp_path / "broken.pmtiles", root=root, leaves=leaves))
    children_of(server, "martin")[0].kill()
    server.until(lambda: "An unexpected OverflowError" in str(server.health()["trouble"]))
    release(store, FIRST, mosaic)
    server.until(lambda: server.health()["status"] == "ok")
    assert server.ask(0, TILE).content == tile_of(mosaic)


def test_a_pointer_that_cannot_be_told_of_does_not_end_the_server(
    server: Serving, store: FolderStore, mosaic: Path
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    store.put_bytes(KEYS.pointer, b'{"format": 1, "\\ud800": 1}', JSON, public=True)  # half a character
    server.until(lambda: "The health status cannot be written" in server.log.read_text())
    assert server.ask(0, TILE).content == tile_of(mosaic)
    release(store, SECOND, mosaic)
    server.serves(SECOND)


@pytest.mark.parametrize("name", ["martin", "nginx"])
def test_a_server_that_was_killed_is_started_again(
    server: Serving, store: FolderStore, mosaic: Path, name: str
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    killed = children_of(server, name)[0]
    killed.kill()
    server.until(lambda: bool(children_of(server, name)) and killed.pid not in psutil.pids())
    z_x_y = "5/16/15"  # not in nginx's cache
    server.until(lambda: server.ask(0, f"/globalcoverage/{z_x_y}").status in {200, 204})


def test_a_martin_that_ends_again_and_again_is_not_called_well_and_is_restarted_with_growing_pauses(
    server: Serving, store: FolderStore, mosaic: Path
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)

    def pause(z_x_y: str) -> float:
        """How long it takes, once Martin is killed, until another is started; it then serves a tile."""
        (killed,) = children_of(server, "martin")
        killed.kill()
        since = time.monotonic()
        server.until(lambda: any(each.pid != killed.pid for each in children_of(server, "martin")))
        paused = time.monotonic() - since
        server.until(lambda: server.ask(0, f"/globalcoverage/{z_x_y}").status in {200, 204})
        return paused

    first, *_, last = (pause(f"5/{column}/15") for column in range(4))  # not in nginx's cache
    assert first < 2.0 < last
    server.until(lambda: "ends again and again; 4 restarts so far." in str(server.health()["trouble"]))
    assert server.health()["status"] == "degraded"
    server.until(lambda: server.health()["status"] == "ok")
    assert len(children_of(server, "martin")) == 1


def test_an_nginx_that_is_killed_while_the_release_turns_is_started_again(
    tmp_path: Path, store: FolderStore, mosaic: Path, smaller_mosaic: Path
) -> None:
    master, is_armed, martin = tmp_path / "serve/scratch/serve/nginx.pid", tmp_path / "armed", tmp_path / "m"
    kill = f'if [ -e "{is_armed}" ]; then rm "{is_armed}"; kill -KILL "$(cat "{master}")"; fi'
    martin.write_text(f'#!/bin/sh\n{kill}\nexec "{shutil.which("martin")}" "$@"\n')
    martin.chmod(0o755)
    settings = {"MOSAIC_STORE": str(store.root), "MARTIN": str(martin)}
    with serving(tmp_path / "serve", settings) as server:
        release(store, FIRST, mosaic)
        server.serves(FIRST)
        is_armed.touch()
        release(store, SECOND, smaller_mosaic)
        server.serves(SECOND)
        assert not is_armed.exists()
        assert server.ask(0, TILE).content == tile_of(smaller_mosaic)


def test_a_server_that_cannot_be_started_again_is_not_called_well(
    tmp_path: Path, store: FolderStore, mosaic: Path
) -> None:
    """Even though the pointer can still be read, and is read more often than a restart is attempted."""
    martin = tmp_path / "martin"
    martin.symlink_to(shutil.which("martin") or "")
    settings = {"MOSAIC_STORE": str(store.root), "MARTIN": str(martin), "SERVE_POLL_SECONDS": "1"}
    with serving(tmp_path / "serve", settings) as server:
        release(store, FIRST, mosaic)
        server.serves(FIRST)
        martin.unlink()
        children_of(server, "martin")[0].kill()
        server.until(lambda: server.health()["status"] == "degraded")
        end = time.monotonic() + 4.0
        while time.monotonic() < end:
            assert server.health()["status"] == "degraded"
            time.sleep(0.1)
        martin.symlink_to(shutil.which("martin") or "")
        server.until(lambda: server.health()["status"] == "ok")
        assert len([*(server.scratch / "serve").glob("[1-9]*")]) <= 2, "attempts that failed leave nothing"


def test_a_martin_that_hangs_is_said_to_and_started_again(
    server: Serving, store: FolderStore, mosaic: Path
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    hanging = children_of(server, "martin")[0]
    hanging.suspend()
    # stopped between two questions, it is first said not to give tiles
    server.until(lambda: "Martin does not answer" in str(server.health()["trouble"]))
    server.until(lambda: server.health()["status"] == "ok")
    assert hanging.pid not in psutil.pids()
    assert server.ask(0, "/globalcoverage/5/16/15").status in {200, 204}


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_martin_that_hangs_is_started_again_whatever_the_pointer_says(
    server: Serving, store: FolderStore, mosaic: Path, *, is_readable: bool
) -> None:
    pointer = release(store, FIRST, mosaic)
    server.serves(FIRST)
    hanging = children_of(server, "martin")[0]
    of_nothing = replace(pointer, build=SECOND, archive=KEYS.release(SECOND, ARCHIVE)).to_json()
    store.put_bytes(KEYS.pointer, of_nothing if is_readable else b"{", JSON, public=True)
    server.until(lambda: server.health()["status"] == "degraded")
    of_the_pointer = server.health()["trouble"]
    hanging.suspend()
    server.until(lambda: "Martin does not answer" in server.health()["trouble"])
    assert of_the_pointer.splitlines()[0] in server.health()["trouble"], "both are said"
    server.until(lambda: not psutil.pid_exists(hanging.pid))
    server.until(lambda: server.health()["trouble"] == of_the_pointer)
    assert server.ask(0, "/globalcoverage/5/16/15").status in {200, 204}


def test_stopped_it_leaves_nothing(server: Serving, store: FolderStore, mosaic: Path) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert len(family) > 2
    assert server.stop() == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert [path.name for path in server.scratch.iterdir()] == ["serve.lock"]


def test_stopped_it_finishes_the_requests_in_progress(
    server: Serving, store: FolderStore, mosaic: Path
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    (martin,) = children_of(server, "martin")
    martin.suspend()
    answers: list[Answer] = []
    reader = threading.Thread(target=lambda: answers.append(server.ask(0, TILE)))
    reader.start()
    time.sleep(1.0)
    server.process.terminate()
    time.sleep(7.0)
    martin.resume()
    reader.join(30)
    assert [each.content for each in answers] == [tile_of(mosaic)]
    assert server.stop() == 128 + signal.SIGTERM


def test_stopped_just_after_nginx_was_killed_it_leaves_no_worker(
    server: Serving, store: FolderStore, mosaic: Path
) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    family = psutil.Process(server.process.pid).children(recursive=True)
    server.process.send_signal(signal.SIGSTOP)  # so that it cannot start another
    next(each for each in children_of(server, "nginx") if each.ppid() == server.process.pid).kill()
    server.process.terminate()
    server.process.send_signal(signal.SIGCONT)
    assert server.stop() == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_killed_it_takes_its_servers_with_it(server: Serving, store: FolderStore, mosaic: Path) -> None:
    release(store, FIRST, mosaic)
    server.serves(FIRST)
    family = psutil.Process(server.process.pid).children(recursive=True)
    server.process.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


def test_no_secret_reaches_another_process(tmp_path: Path, store: FolderStore, mosaic: Path) -> None:
    release(store, FIRST, mosaic)
    secrets = {"S3_ACCESS_KEY": "a-key-of-mine", "S3_SECRET_KEY": "a-secret-of-mine"}
    with serving(tmp_path / "serve", {"MOSAIC_STORE": str(store.root)}, **secrets) as server:
        server.serves(FIRST)
        for child in psutil.Process(server.process.pid).children(recursive=True):
            told = f"{child.environ()} {child.cmdline()}"
            assert not any(secret in told for secret in secrets.values())
        for path in server.scratch.rglob("*"):
            assert path.is_dir() or b"of-mine" not in path.read_bytes()


def settings_of(server: S3Server, bucket: str, endpoint: str) -> dict[str, str]:
    """The settings of a client that only reads a bucket: no access key."""
    return {
        "S3_BUCKET": bucket,
        "S3_ENDPOINT": endpoint,
        "S3_REGION": server.region,
        "STAC_ITEMS": "none.ndjson",
    }


@pytest.fixture
def in_s3(moto: S3Server) -> tuple[str, ObjectStore]:
    bucket = new_bucket(moto)
    return bucket, store_in(moto, bucket)


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[S3Proxy]:
    with running_s3_proxy(moto.endpoint) as running:
        yield running


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


def test_a_martin_that_dies_while_a_new_release_hangs_is_started_again(
    tmp_path: Path, moto: S3Server, in_s3: tuple[str, ObjectStore], proxy: S3Proxy, mosaic: Path
) -> None:
    bucket, store = in_s3
    release(store, FIRST, mosaic)
    answers = threading.Event()
    with serving(tmp_path / "serve", settings_of(moto, bucket, proxy.endpoint)) as server:
        server.serves(FIRST)
        (martin,) = children_of(server, "martin")
        proxy.spoil("*", KEYS.release(SECOND, ARCHIVE), Spoiled(before=lambda: answers.wait(120)))
        release(store, SECOND, mosaic)
        server.until(lambda: proxy.spoiled > 0)
        martin.kill()
        z_x_y = "5/16/15"  # not in nginx's cache
        server.until(lambda: server.ask(0, f"/globalcoverage/{z_x_y}").status in {200, 204}, seconds=15)
        assert not answers.is_set()
        assert server.health()["build"] == FIRST
        proxy.forget()
        answers.set()
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

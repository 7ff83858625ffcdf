"""What is served while releases turn, and what a stopped server leaves."""

from __future__ import annotations

import gzip
import json
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pmtiles.tile import Compression, serialize_directory

from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets_tests.core.archives import assembled, in_leaves, pieces_of
from oam_mosaic_assets_tests.disks import a_small_disk, fill
from oam_mosaic_assets_tests.servers.tiles import JSON, POLL_SECONDS, Answer, Serving, release, serving
from oam_mosaic_assets_tests.serving.served import FIRST, KEYS, SECOND, TILE, children_of, tile_of


def test_nothing_is_served_until_something_is_published(
    server: Serving, store: FolderStore, mosaic: Path
) -> None:
    answer = server.ask(0, TILE)
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert answer.content == b"Nothing can be served yet; try again later.\n"
    assert answer.headers["access-control-allow-origin"] == "*"
    for which, path in ((0, "/globalcoverage"), (1, "/3/1/1.png"), (1, "/WMTSCapabilities.xml")):
        early = server.ask(which, path)
        assert (early.status, early.content) == (503, answer.content), path
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

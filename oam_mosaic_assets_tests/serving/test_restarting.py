"""What is served while Martin or nginx dies, hangs or cannot be started."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from oam_mosaic_assets.core.release import ARCHIVE, Pointer
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.serving.generation import Generation
from oam_mosaic_assets.serving.programs import Program, until
from oam_mosaic_assets_tests.core.archives import assembled, in_leaves, pieces_of
from oam_mosaic_assets_tests.servers.s3 import S3Server
from oam_mosaic_assets_tests.servers.s3_proxy import S3Proxy, Spoiled
from oam_mosaic_assets_tests.servers.tiles import JSON, Serving, release, serving
from oam_mosaic_assets_tests.serving.served import (
    FIRST,
    KEYS,
    SECOND,
    TILE,
    children_of,
    settings_of,
    tile_of,
)


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


def test_a_cache_that_takes_long_to_delete_keeps_nothing_waiting(
    tmp_path: Path, store: FolderStore, mosaic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What died meanwhile has to be restarted."""
    folder, may_go_on, delete = tmp_path / "1", threading.Event(), shutil.rmtree
    folder.mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **how: may_go_on.wait(60.0) and delete(*args, **how))
    martin = Program("Martin", ["sleep", "60"], log=logging.getLogger("serve"))
    release(store, FIRST, mosaic)
    pointer = Pointer.from_json((store.root / KEYS.pointer).read_bytes())
    generation = Generation(
        number=1, folder=folder, pointer=pointer, martin=martin, port=9, vector={}, raster=None, samples={}
    )
    since = time.monotonic()
    generation.end()
    assert time.monotonic() - since < 30.0
    assert not martin.is_running
    assert folder.exists()
    may_go_on.set()
    assert until(lambda: not folder.exists(), seconds=30.0)


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

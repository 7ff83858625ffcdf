"""A server that starts: where it listens, and what keeps it from starting."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
from pathlib import Path

import pytest
import requests

from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.serving.supervisor import Supervisor
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.disks import a_small_disk, fill
from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.tiles import SERVE, Serving, release, serving

FIRST = "20260115T030000Z-3f9c2a7d41be"


def tried(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The command in a folder, with these settings alone, and free ports: what it said as it ended."""
    ports = {f"SERVE_{each}_PORT": str(free_port()) for each in ("VECTOR", "RASTER", "VIEWER")}
    stated = {"PATH": os.environ["PATH"], **ports, **environment}
    return subprocess.run(
        [SERVE, "serve"], cwd=folder, env=stated, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_second_server_in_the_same_place_is_refused(server: Serving, tmp_path: Path) -> None:
    refused = tried(tmp_path, {"MOSAIC_SCRATCH": str(server.scratch)})
    assert refused.returncode == 2
    assert "is running in" in refused.stderr


@pytest.mark.parametrize(
    ("scratch", "fault"),
    [
        ("a-file", "Not a directory"),
        ("a-file/below", "Not a directory"),
        ("/proc/none", "No such file or directory"),
        ("of-another", "Is a directory"),  # what nobody can write, root included
    ],
)
def test_a_scratch_folder_that_cannot_be_used_is_named(tmp_path: Path, scratch: str, fault: str) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "of-another" / "serve.lock").mkdir(parents=True)
    refused = tried(tmp_path, {"MOSAIC_SCRATCH": scratch})
    assert refused.returncode == 2
    assert f"MOSAIC_SCRATCH, {tmp_path / scratch}, cannot be used: {fault}: " in refused.stderr
    assert "Kind: SettingsError" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_scratch_folder_without_room_is_no_wrong_setting(tmp_path: Path) -> None:
    with a_small_disk() as disk:
        fill(disk, room=0)
        ended = tried(tmp_path, {"MOSAIC_SCRATCH": str(disk)})
    assert ended.returncode == 1
    assert f"oam-mosaic: {disk} cannot be written to: No space left on device." in ended.stderr
    assert "Kind: DiskFull" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("fault", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_fault_of_the_scratch_folder_that_may_pass_is_no_wrong_setting(
    tmp_path: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Path, "mkdir", failing)
    settings = Settings.read({"MOSAIC_SCRATCH": str(tmp_path)})
    with (
        pytest.raises(OSError, match=os.strerror(fault)),
        Supervisor(settings, store, logging.getLogger("serve")),
    ):
        pass


def test_every_address_may_be_listened_on(tmp_path: Path, store: FolderStore, mosaic: Path) -> None:
    release(store, FIRST, mosaic)
    with serving(tmp_path / "serve", {"MOSAIC_STORE": str(store.root), "SERVE_ADDRESS": "::"}) as server:
        server.serves(FIRST)
        for host in ("127.0.0.1", "[::1]"):
            for port in server.ports:
                health = requests.get(f"http://{host}:{port}/health", timeout=10)
                assert health.json()["build"] == FIRST, (host, port)
        said = server.log.read_text()
        assert f"vector tiles at http://[::]:{server.ports[0]}," in said
        assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ [A-Z]+ ", said)


def test_a_port_that_is_taken_on_one_of_all_addresses_is_named(server: Serving, tmp_path: Path) -> None:
    """`server` listens on 127.0.0.1 alone."""
    port = server.ports[0]
    refused = tried(tmp_path, {"SERVE_VECTOR_PORT": str(port), "SERVE_ADDRESS": "::"})
    assert refused.returncode == 2
    assert f"Cannot listen on port {port} of [::]: Address already in use." in refused.stderr


def test_a_port_that_is_taken_is_named_once(server: Serving, tmp_path: Path) -> None:
    refused = tried(tmp_path, {"SERVE_VECTOR_PORT": str(server.ports[0])})
    assert refused.returncode == 2
    assert f"Cannot listen on port {server.ports[0]} of 127.0.0.1: Address already in use." in refused.stderr
    assert "emerg" not in refused.stderr


def test_an_nginx_that_refuses_its_configuration_is_no_matter_of_ports(tmp_path: Path) -> None:
    refused = tried(tmp_path, {"SERVE_CACHE_MB": "9" * 30})
    assert refused.returncode == 2
    assert 'invalid max_size value "max_size=999' in refused.stderr
    assert "nginx's own output says why" in refused.stderr
    assert "another program" not in refused.stderr

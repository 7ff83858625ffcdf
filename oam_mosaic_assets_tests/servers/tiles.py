"""`oam-mosaic serve` on a store that the tests fill: real Martin, real nginx, free ports."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from oam_mosaic_assets.core.product import EXACT, IMAGERY
from oam_mosaic_assets.core.release import ARCHIVE, Keys, Pointer
from oam_mosaic_assets.gateways.object_store import Headers, ObjectStore
from oam_mosaic_assets_tests.servers.ports import free_port

SERVE: Final = Path(sys.executable).with_name("oam-mosaic")
PATIENCE_SECONDS: Final = 180.0
POLL_SECONDS: Final = 0.3
PMTILES: Final = Headers("application/vnd.pmtiles", "public, max-age=86400, immutable")
JSON: Final = Headers("application/json", "no-cache")
TITILER: Final = "https://titiler.example.org/{z}/{x}/{y}.png?assets=visual&nodata=0"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def plain(self) -> bytes:
        """The content, gunzipped where it is gzipped."""
        return (
            gzip.decompress(self.content) if self.headers.get("content-encoding") == "gzip" else self.content
        )


@dataclass
class Serving:
    """A running server.

    Attributes:
        ports: for vector tiles, raster tiles and the viewer.
        log: the file with all its output.
    """

    process: subprocess.Popen[bytes]
    ports: tuple[int, int, int]
    log: Path
    scratch: Path
    _kept: dict[int, http.client.HTTPConnection] = field(default_factory=dict)

    def ask(self, which: int, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask the vector (0), raster (1) or viewer (2) address, over a kept-alive connection."""
        for attempt in range(3):
            connection = self._kept.setdefault(
                which, http.client.HTTPConnection("127.0.0.1", self.ports[which], timeout=30)
            )
            try:
                connection.request(method, path, headers={n.replace("_", "-"): v for n, v in headers.items()})
                answer = connection.getresponse()
                named = {name.lower(): value for name, value in answer.getheaders()}
                return Answer(answer.status, named, answer.read())
            except (http.client.RemoteDisconnected, ConnectionError):
                # an idle connection ends with the nginx worker that held it; any client would retry
                self._kept.pop(which).close()
                if attempt == 2:
                    raise
        raise AssertionError

    def health(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.ask(0, "/health").content)
        return told

    def serves(self, build: str) -> None:
        """Wait until the server serves this build."""
        self.until(lambda: self.health()["build"] == build)

    def until(self, happens: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if happens():
                    return
            except (ConnectionError, http.client.HTTPException):
                pass
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def close(self) -> None:
        """Close the kept-alive connections."""
        while self._kept:
            self._kept.popitem()[1].close()

    def stop(self) -> int:
        """Stop the server by SIGTERM; returns its exit code."""
        self.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(folder: Path, store: Mapping[str, str], **settings: str) -> Iterator[Serving]:
    """Run `oam-mosaic serve`.

    Args:
        folder: where its files go; new or empty.
        store: the settings that name the store.
        settings: any other settings.
    """
    for name in ("martin", "nginx"):
        if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None:
            pytest.fail(f"{name} is not in PATH; `scripts/test` puts it there", pytrace=False)
    folder.mkdir(exist_ok=True)
    ports = (free_port(), free_port(), free_port())
    environment = {
        "PATH": os.environ["PATH"],
        "NO_PROXY": "127.0.0.1",
        "MOSAIC_SCRATCH": str(folder / "scratch"),
        "SERVE_VECTOR_PORT": str(ports[0]),
        "SERVE_RASTER_PORT": str(ports[1]),
        "SERVE_VIEWER_PORT": str(ports[2]),
        "SERVE_POLL_SECONDS": str(POLL_SECONDS),
        "TITILER_URL": TITILER,
        **store,
        **settings,
    }
    log = folder / "log"
    with log.open("wb") as said:
        # the kernel ends the server when the tests die, even by SIGKILL
        command = ["setpriv", "--pdeathsig", "TERM", "--", SERVE, "serve"]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
    server = Serving(process, ports, log, folder / "scratch")
    try:
        server.until(lambda: bool(server.health()))
        yield server
    finally:
        server.stop()


def release(
    store: ObjectStore,
    build: str,
    vector: Path,
    raster: Path | None = None,
    *,
    imagery: Path | None = None,
    keys: Keys = Keys(),  # noqa: B008
) -> Pointer:
    """Put a release into a store as publishing does, and turn the pointer to it."""
    named = {ARCHIVE: vector, EXACT.name: raster, IMAGERY.name: imagery}
    archives = {name: archive for name, archive in named.items() if archive}
    for name, archive in archives.items():
        store.put_file(keys.release(build, name), archive, PMTILES, public=True)
    pointer = Pointer(
        build=build,
        digest="0" * 64,
        snapshot_taken_at="2026-01-15T03:00:00+00:00",
        checked_at="2026-01-15T03:00:00+00:00",
        published_at="2026-01-15T03:10:00+00:00",
        source="sample",
        images=1,
        set_aside=0,
        archive=keys.release(build, ARCHIVE),
        manifest=keys.release(build, "manifest.json"),
        size=vector.stat().st_size,
        sha256="0" * 64,
        products={
            name: {
                "key": keys.release(build, name),
                "bytes": archive.stat().st_size,
                "sha256": "0" * 64,
                "content_type": PMTILES.content_type,
            }
            for name, archive in archives.items()
        },
    )
    store.put_bytes(keys.pointer, pointer.to_json(), JSON, public=True)
    return pointer

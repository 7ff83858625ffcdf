"""Hosts of images: nginx as the honest one, and one that answers each request as the test scripts it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Final

import pytest

from oam_mosaic_assets_tests.servers.ports import free_port

_NGINX: Final = """
{user}
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  types {{ image/tiff tif; text/html html; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ root {root}; }}
    location /secret/ {{ return 403; }}
    location /whole/ {{ alias {root}/; max_ranges 0; }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A folder served over HTTP.

    Attributes:
        host: with its port.
    """

    host: str
    root: Path

    def address(self, name: str) -> str:
        return f"http://{self.host}/{name}"


@contextmanager
def running_nginx(folder: Path, root: Path) -> Iterator[Nginx]:
    """Serve the root for as long as the block lasts."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.fail("nginx is not in PATH; `scripts/test` puts it there", pytrace=False)
    folder.mkdir(parents=True)
    port = free_port()
    configuration = folder / "nginx.conf"
    # only the user who runs pytest can read its folders
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(_NGINX.format(folder=folder, root=root, port=port, user=user))
    # the kernel ends the server when the tests die, even by SIGKILL; by TERM nginx ends its worker too
    command = ["setpriv", "--pdeathsig", "TERM", "--"]
    command += [program, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Nginx(f"127.0.0.1:{port}", root)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@dataclass(frozen=True)
class Request:
    """A request to the scripted host, and the connection to answer it on."""

    path: str
    headers: dict[str, str]
    connection: socket.socket

    @property
    def range(self) -> tuple[int, int]:
        """The first byte, and the one after the last."""
        first, _, last = self.headers["range"].removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1

    def answer(self, status: str, body: bytes = b"", *headers: str, length: int | None = None) -> None:
        said = len(body) if length is None else length
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {said}", *headers])
        self.connection.sendall(f"{head}\r\n\r\n".encode() + body)

    def give(self, content: bytes, *, etag: str = '"1"') -> None:
        """Answer with the requested range of these bytes, as an honest host does."""
        start, end = self.range
        body = content[start:end]
        if not body:
            self.answer("416 Range Not Satisfiable")
            return
        stated = f"Content-Range: bytes {start}-{start + len(body) - 1}/{len(content)}"
        self.answer("206 Partial Content", body, stated, f"ETag: {etag}", "Content-Type: image/tiff")


@dataclass
class ScriptedHost:
    """Answers each request by calling its script.

    Attributes:
        host: with its port.
        asked: every request so far.
        connections: how many were opened.
    """

    host: str
    script: Callable[[Request], None] = lambda request: request.answer("404 Not Found")
    asked: list[Request] = field(default_factory=list)
    connections: int = 0

    def address(self, name: str = "image.tif") -> str:
        return f"http://{self.host}/{name}"


@contextmanager
def scripted_host() -> Iterator[ScriptedHost]:
    """Listen on a free port of the loopback interface."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            told.connections += 1
            with suppress(OSError):
                while line := self.rfile.readline():
                    path = line.decode().split(" ")[1]
                    headers = {}
                    while (header := self.rfile.readline()) not in {b"\r\n", b""}:
                        name, _, value = header.decode().partition(":")
                        headers[name.lower()] = value.strip()
                    request = Request(path, headers, self.connection)
                    told.asked.append(request)
                    told.script(request)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        told = ScriptedHost(f"127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield told
        finally:
            server.shutdown()

"""A TCP proxy on the loopback interface that breaks connections on demand, before a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Final
from urllib.parse import urlsplit

_CHUNK: Final = 64 * 1024
_HOST: Final = "127.0.0.1"
_INTERIM: Final = b"HTTP/1.1 100 "
"""The server asks for the content of a request: no answer yet."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a connection. By default nothing does.

    Attributes:
        cut_up: bytes from the client after which it is cut.
        cut_down: bytes from the server after which it is cut. With 0, the server does what the first request
            asks, and nobody hears of it.
        at_the_cut: called before client and server notice the cut.
        delay: seconds for which each piece from the client, of at most 64 KiB, is held back.
        answer: the whole HTTP answer that is given in the server's place.
        connections: how many are affected, and the next ones are not; None is all.
    """

    cut_up: int | None = None
    cut_down: int | None = None
    at_the_cut: Callable[[], object] = lambda: None
    delay: float = 0.0
    answer: bytes | None = None
    connections: int | None = None


PASS: Final = Fault()


def http_answer(status: str, body: str = "", *, headers: str = "") -> bytes:
    r"""Spell an answer for `Fault.answer`; status such as `503 Slow Down`, headers such as `A: b\r\n`."""
    content = body.encode()
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


class Proxy(ThreadingTCPServer):
    """Passes connections on to a server; each has the fault that is set when it is made.

    Attributes:
        endpoint: `http://127.0.0.1:PORT`.
    """

    def __init__(self, upstream: str, listening: socket.socket | None = None) -> None:
        super().__init__((_HOST, 0), _Connection, bind_and_activate=not listening)
        if listening:
            self.socket.close()
            self.socket, self.server_address = listening, listening.getsockname()
        server = urlsplit(upstream)
        self.upstream = (server.hostname or _HOST, server.port or 80)
        self.endpoint = f"http://{_HOST}:{self.server_address[1]}"
        self._lock = threading.Lock()
        self._fault = PASS
        self._affected = 0
        self._open: set[socket.socket] = set()

    def set_fault(self, fault: Fault) -> None:
        """Let this happen from now on. Present connections, which clients like to keep, are cut."""
        with self._lock:
            self._fault, self._affected = fault, 0
            _cut(*self._open)

    @contextmanager
    def connection(self, client: socket.socket) -> Iterator[Fault]:
        """Keep a client's connection in mind, and say what is to happen to it."""
        with self._lock:
            self._open.add(client)
            self._affected += 1
            past = self._fault.connections is not None and self._affected > self._fault.connections
            fault = PASS if past else self._fault
        try:
            yield fault
        finally:
            with self._lock:
                self._open.remove(client)


class _Connection(BaseRequestHandler):
    server: Proxy
    request: socket.socket

    def handle(self) -> None:
        with self.server.connection(self.request) as fault, suppress(OSError):
            if fault.answer is None:
                self._pass_on(fault)
            else:
                self._answer(fault.answer)

    def _pass_on(self, fault: Fault) -> None:
        with socket.create_connection(self.server.upstream) as upstream:
            down = threading.Thread(
                target=_pump, args=(upstream, self.request, fault.cut_down, 0.0, fault.at_the_cut)
            )
            down.start()
            _pump(self.request, upstream, fault.cut_up, fault.delay, fault.at_the_cut)
            down.join()

    def _answer(self, answer: bytes) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked and (piece := self.request.recv(_CHUNK)):
            asked += piece
        self.request.sendall(answer)
        self.request.shutdown(socket.SHUT_WR)
        while self.request.recv(_CHUNK):  # closing before the client has said everything would reset its side
            pass


def _pump(
    source: socket.socket,
    target: socket.socket,
    limit: int | None,
    delay: float,
    at_the_cut: Callable[[], object],
) -> None:
    passed = 0
    with suppress(OSError):
        while piece := source.recv(_CHUNK):
            time.sleep(delay)
            if not piece.startswith(_INTERIM):
                passed += len(piece)
            if limit is not None and passed > limit:
                target.sendall(piece[: len(piece) - (passed - limit)])
                at_the_cut()
                break
            target.sendall(piece)
    _cut(source, target)


def _cut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):  # cut already
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_proxy(upstream: str, listening: socket.socket | None = None) -> Iterator[Proxy]:
    """Run a proxy before the server at `http://HOST:PORT`; it ends with the block.

    Args:
        listening: a socket that listens already, and is closed in the end; by default one on a free port.
    """
    with Proxy(upstream, listening) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            proxy.set_fault(PASS)  # its connections would keep `server_close` waiting
            serving.join()

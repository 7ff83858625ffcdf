"""A TCP proxy on loopback, in front of a real server, that breaks connections on demand."""

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
"""The server asks for the request's content; this is not its answer yet."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a connection; by default nothing.

    Attributes:
        cut_up: cut the connection after this many bytes from the client.
        cut_down: cut it after this many bytes from the server. With 0, the server carries out the first
            request, but the client gets no answer.
        at_the_cut: called before client and server notice the cut.
        delay: seconds by which each piece from the client, of at most 64 KiB, is delayed.
        answer: the whole HTTP answer, given in the server's place.
        connections: how many connections are affected; later ones are not. None affects all.
    """

    cut_up: int | None = None
    cut_down: int | None = None
    at_the_cut: Callable[[], object] = lambda: None
    delay: float = 0.0
    answer: bytes | None = None
    connections: int | None = None


PASS: Final = Fault()


def http_answer(status: str, body: str = "", *, headers: str = "") -> bytes:
    r"""Compose a `Fault.answer` from a status such as `503 Slow Down` and headers such as `A: b\r\n`."""
    content = body.encode()
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


class Proxy(ThreadingTCPServer):
    """Passes connections on to a server; each gets the fault that is set when it is opened.

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
        """Apply this fault from now on. Open connections are cut, since clients tend to reuse theirs."""
        with self._lock:
            self._fault, self._affected = fault, 0
            _cut(*self._open)

    @contextmanager
    def connection(self, client: socket.socket) -> Iterator[Fault]:
        """Register a client's connection until the block ends; yields the fault that applies to it."""
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
        while self.request.recv(_CHUNK):  # closing before the client has sent everything would cause a reset
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
        with suppress(OSError):  # already cut
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_proxy(upstream: str, listening: socket.socket | None = None) -> Iterator[Proxy]:
    """Run a proxy in front of the server at `http://HOST:PORT` until the block ends.

    Args:
        listening: a socket that is already listening, closed at the end; by default a new one on a free port.
    """
    with Proxy(upstream, listening) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            proxy.set_fault(PASS)  # cuts open connections, which `server_close` would wait for
            serving.join()

"""A proxy in front of an S3 server that understands each request and spoils the ones it is told to.

Where `proxy.py` breaks connections after a number of bytes, this one breaks given calls on given keys.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

_HOST: Final = "127.0.0.1"
_PIECE: Final = 1024
_HOP_BY_HOP: Final = frozenset({"connection", "expect", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True, slots=True)
class Call:
    """What a request asks for.

    Attributes:
        operation: S3's name for it; `ReadAnonymously` or `HeadAnonymously` where it is not signed.
        key: the object's key, or the prefix that is listed; empty where several objects are deleted.
    """

    operation: str
    key: str

    def __str__(self) -> str:
        return f"{self.operation} {self.key}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiled:
    """What happens to some calls, instead of or around what the server does; by default nothing.

    "The content" below is the request's, or the answer's where the request has none.

    Attributes:
        before: called before the server sees the request.
        after: called when the server has answered, before the client gets the answer.
        status: answered in the server's place, such as `503 Slow Down`.
        code: S3's error code in that answer.
        cut: cut the connection before the server sees the request.
        cut_answer: let the server carry out the request, but cut the connection instead of answering.
        truncate: pass on only the first half of the content, then cut the connection.
        corrupt: change one byte in the middle of the content.
        delay: seconds of delay for each KiB of the content.
        times: how many calls are affected; None affects all.
    """

    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None
    status: str = ""
    code: str = ""
    cut: bool = False
    cut_answer: bool = False
    truncate: bool = False
    corrupt: bool = False
    delay: float = 0.0
    times: int | None = None


@dataclass(slots=True)
class _Rule:
    operation: str
    key: str
    spoiled: Spoiled
    skip: int
    met: int = 0


@dataclass(slots=True)
class _Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    content: bytes = b""


class S3Proxy(ThreadingHTTPServer):
    """Passes calls on to a server, except those that are spoiled.

    Attributes:
        endpoint: `http://127.0.0.1:PORT`.
        calls: all calls since the last `forget`.
        spoiled: how many of them were spoiled.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__((_HOST, 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = f"http://{_HOST}:{self.server_address[1]}"
        self.calls: list[Call] = []
        self.spoiled = 0
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def spoil(self, operation: str, key: str, spoiled: Spoiled, *, skip: int = 0) -> None:
        """Spoil calls from now on.

        Args:
            operation: as in `Call`; `*` matches anything.
            key: as in `Call`; `*` matches anything, slashes too.
            skip: how many matching calls are let through first.
        """
        with self._lock:
            self._rules.append(_Rule(operation, key, spoiled, skip))

    def forget(self) -> None:
        """Let everything through again, and forget the calls so far."""
        with self._lock:
            self._rules, self.calls, self.spoiled = [], [], 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about a client that dropped its connection: it was killed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def meet(self, call: Call) -> Spoiled | None:
        """Record a call; returns how to spoil it, or None to let it through."""
        with self._lock:
            self.calls.append(call)
            for rule in self._rules:
                if fnmatchcase(call.operation, rule.operation) and fnmatchcase(call.key, rule.key):
                    rule.met += 1
                    met, times = rule.met - rule.skip, rule.spoiled.times
                    if met > 0 and (times is None or met <= times):
                        self.spoiled += 1
                        return rule.spoiled
        return None


def call_of(method: str, target: str, headers: http.client.HTTPMessage) -> Call:
    """Tell what a path-style request (`/BUCKET/KEY`) asks for."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    key = unquote(parts.path).lstrip("/").partition("/")[2]
    if "Authorization" not in headers:
        return Call("HeadAnonymously" if method == "HEAD" else "ReadAnonymously", key)
    if "list-type" in query or (method == "GET" and "uploads" in query):
        name = "ListObjectsV2" if "list-type" in query else "ListMultipartUploads"
        return Call(name, query.get("prefix", [""])[0])
    copies, part = "x-amz-copy-source" in headers, "partNumber" in query
    names = {
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "PUT": ("UploadPart" + ("Copy" if copies else ""))
        if part
        else ("CopyObject" if copies else "PutObject"),
        "POST": "DeleteObjects"
        if "delete" in query
        else ("CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"),
        "DELETE": "AbortMultipartUpload" if "uploadId" in query else "DeleteObject",
    }
    return Call(names.get(method, method), key)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Proxy

    def do(self) -> None:
        """Pass one call on."""
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        call = call_of(self.command, self.path, self.headers)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        spoiled = self.server.meet(call)
        if spoiled is None:
            self._give(self._ask(sent))
            return
        if spoiled.before:
            spoiled.before()
        if spoiled.status:
            self._give(_refusal(spoiled))
        elif spoiled.cut:
            self._cut()
        else:
            self._pass_on(sent, spoiled)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815  # the names are http.server's

    def _pass_on(self, sent: bytes, spoiled: Spoiled) -> None:
        if spoiled.delay and sent:
            time.sleep(spoiled.delay * (len(sent) // _PIECE + 1))
        if spoiled.truncate and sent:
            with suppress(OSError, http.client.HTTPException):
                self._ask(sent[: len(sent) // 2], announced=len(sent))
            self._cut()
            return
        answer = self._ask(_corrupted(sent) if spoiled.corrupt and sent else sent)
        if spoiled.after:
            spoiled.after()
        if spoiled.cut_answer:
            self._cut()
        elif spoiled.truncate:
            self._give(answer, until=len(answer.content) // 2)
            self._cut()
        else:
            if spoiled.corrupt and not sent:
                answer.content = _corrupted(answer.content)
            self._give(answer, delay=0.0 if sent else spoiled.delay)

    def _ask(self, sent: bytes, *, announced: int | None = None) -> _Answer:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=120)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            if sent or self.command in {"PUT", "POST"}:
                connection.putheader("Content-Length", str(len(sent) if announced is None else announced))
            connection.endheaders(sent)
            if announced is not None:  # the server is waiting for the rest, and will not answer
                return _Answer(0, "")
            answer = connection.getresponse()
            content = answer.read()
            headers = [
                (name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP
            ]
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
            if length is not None:
                headers.append(("Content-Length", length))
            return _Answer(answer.status, answer.reason, headers, content)
        finally:
            connection.close()

    def _give(self, answer: _Answer, *, until: int | None = None, delay: float = 0.0) -> None:
        with suppress(OSError):  # the client may be dead
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.end_headers()
            content = answer.content[:until]
            step = _PIECE if delay else max(1, len(content))
            for start in range(0, len(content), step):
                time.sleep(delay)
                self.wfile.write(content[start : start + step])
            self.wfile.flush()

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(2)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # http.server's name
        """Log nothing."""


def _refusal(spoiled: Spoiled) -> _Answer:
    number, _, reason = spoiled.status.partition(" ")
    content = f"<Error><Code>{spoiled.code}</Code></Error>".encode()
    return _Answer(int(number), reason, [("Content-Length", str(len(content)))], content)


def _corrupted(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x20]) + content[middle + 1 :] if content else content


@contextmanager
def running_s3_proxy(upstream: str) -> Iterator[S3Proxy]:
    """Run a proxy in front of the server at `http://HOST:PORT` until the block ends."""
    with S3Proxy(upstream) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            serving.join()

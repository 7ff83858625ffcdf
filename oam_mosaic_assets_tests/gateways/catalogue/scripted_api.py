"""A STAC API that answers as a test tells it to, for what no real server can be made to do."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

HERE = "{here}"
"""Placeholder in answers for the server's address, without a trailing slash."""


@dataclass(frozen=True)
class Answer:
    """What to send.

    Attributes:
        body: a value to send as JSON, or text to send as it is.
        seconds: how long to wait before answering.
        seconds_half_way: how long to wait before the second half of the body.
        headers: further headers to send.
    """

    body: Any
    status: int = HTTPStatus.OK
    seconds: float = 0
    seconds_half_way: float = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class ScriptedApi:
    """What the server answers, and what it was asked.

    Attributes:
        searches: the answers to searches, in order; the last is repeated.
        others: the answers to other paths.
        asked: method, path, headers and body of each request.
    """

    searches: list[Answer]
    others: dict[str, Answer]
    address: str = ""
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)

    def answer(self, path: str) -> Answer:
        if path in self.others:
            return self.others[path]
        if not path.startswith("/search"):
            return Answer({"detail": "Not Found"}, HTTPStatus.NOT_FOUND)
        return self.searches.pop(0) if len(self.searches) > 1 else self.searches[0]


LANDING = {
    "type": "Catalog",
    "id": "scripted",
    "links": [
        {"rel": "search", "href": f"{HERE}/search", "method": "GET"},
        {"rel": "search", "href": f"{HERE}/search", "method": "POST"},
    ],
}


def a_page(*items: Any, leads_to: str | None = None, matched: int | None = None) -> Answer:
    """Make a page of a search.

    Args:
        leads_to: the address of the next page.
        matched: the number of items on all pages.
    """
    links = [{"rel": "next", "href": leads_to, "method": "GET"}] if leads_to else []
    page = {"type": "FeatureCollection", "features": list(items), "links": links}
    return Answer(page if matched is None else page | {"numberMatched": matched})


@contextmanager
def scripted_api(
    *searches: Answer, others: dict[str, Answer] | None = None, certificate: Path | None = None
) -> Iterator[ScriptedApi]:
    """Serve these answers on the loopback interface inside a `with` block.

    Args:
        certificate: a file with a certificate and its key; the server then speaks HTTPS.
    """
    known = {"/": Answer(LANDING), "/collections/openaerialmap": Answer({"id": "openaerialmap"})}
    api = ScriptedApi(list(searches), known | (others or {}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            api.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            answer = api.answer(self.path)
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            body = text.replace(HERE, api.address).encode()
            time.sleep(answer.seconds)
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            time.sleep(answer.seconds_half_way)
            self.wfile.write(body[half:])

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.address = f"http://127.0.0.1:{server.server_port}"
        if certificate is not None:
            api.address = api.address.replace("http", "https")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()

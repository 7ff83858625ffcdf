"""One request to an untrusted host: at an IP address that was checked, and within a given time.

GDAL's own network code is not used: it resolves names, follows redirects and waits by rules of its own.
Proxies from the environment are not used either, since a proxy resolves names itself.
"""

from __future__ import annotations

import re
import ssl
import string
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urljoin

import certifi
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from oam_mosaic_assets.core.imagery.outcome import Reason, Unreadable
from oam_mosaic_assets.gateways.imagery.addresses import (
    Resolve,
    Rules,
    Target,
    checked_addresses,
    resolved,
    target_of,
)

REDIRECTS: Final = 5
"""How many are followed for one request."""

KEPT_HOSTS: Final = 8
"""How many hosts keep an open connection."""

RESOLVED_SECONDS: Final = 300.0
"""How long a DNS answer is used."""

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 15.0
"""The longest pause between two pieces of a response."""

_PIECE: Final = 64 * 1024
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_ABSENT: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_NOT_FOR_STRANGERS: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@dataclass(frozen=True, slots=True)
class Answer:
    """A host's response.

    Attributes:
        content: bytes from `start` on.
        start: offset of the first byte; 0 where the host does not support ranges.
        size: bytes of the whole object; None if unknown.
        etag: as the host sends it, or its `Last-Modified` instead; empty where there is neither.
        content_type: without parameters, lower case.
        target: where the response came from, after all redirects.
    """

    content: bytes
    start: int
    size: int | None
    etag: str
    content_type: str
    target: Target


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a host is contacted.

    Attributes:
        pool: connections to one of its addresses.
        others: those that were not tried yet; checked as well.
        since: when its name was resolved, by `time.monotonic`.
    """

    pool: urllib3.HTTPConnectionPool
    others: list[str]
    since: float


class Hosts:
    """Sends requests, and keeps connections to the last few hosts.

    Attributes:
        rules: which addresses may be requested.
        received: bytes of all answers so far, whether they came to their end or not.
    """

    def __init__(self, rules: Rules = Rules(), *, resolve: Resolve = resolved) -> None:  # noqa: B008
        self.rules = rules
        self.received = 0
        self._resolve = resolve
        self._places: OrderedDict[tuple[str, str, int], _Place] = OrderedDict()

    def ask(self, target: Target, start: int, end: int, *, deadline: float, whole_most: int) -> Answer:
        """Request a range of bytes once; redirects are followed, each checked like the first address.

        Args:
            target: where to request it.
            start: the first byte.
            end: the byte after the last one.
            deadline: by `time.monotonic`.
            whole_most: how many bytes to read at most if the host sends the whole instead of the range.

        Raises:
            Unreadable: for any reason.
        """
        for _ in range(REDIRECTS + 1):
            response = self._opened(target, f"bytes={start}-{end - 1}", deadline)
            try:
                if response.status not in _MOVED:
                    return self._understood(response, target, start, end, deadline, whole_most)
                location = _as_sent(response.headers.get("Location", ""))
            finally:
                response.close()  # what is left unread must not precede the next response
            if not location:  # the same address again, whose answer is known
                raise Unreadable(Reason.MISSING, f"status {response.status}, a redirect to nowhere")
            try:
                place = urljoin(target.address, location)
            except ValueError:
                raise Unreadable(Reason.SERVER_FAULT, "a redirect to an invalid address") from None
            if not place.startswith(("http://", "https://")):  # only the catalogue may name s3, not a host
                raise Unreadable(Reason.REFUSED_ADDRESS, "a redirect to a scheme other than http and https")
            target = target_of(place, self.rules)
        raise Unreadable(Reason.SERVER_FAULT, f"more than {REDIRECTS} redirects")

    def _opened(self, target: Target, asked: str, deadline: float) -> urllib3.BaseHTTPResponse:
        """The response of the first of the target's addresses that accepts a connection."""
        headers = {
            "Host": target.authority,
            "Range": asked,
            # bytes are counted as stored, so nothing on the way may compress them
            "Accept-Encoding": "identity",
            "User-Agent": "oam-mosaic-assets",
        }
        while (left := deadline - time.monotonic()) > 0.0:
            limits = urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=min(SILENCE_SECONDS, left))
            try:
                return self._pool(target).urlopen(
                    "GET",
                    target.path,
                    headers=headers,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    assert_same_host=False,
                    timeout=limits,
                )
            except ConnectTimeoutError as error:
                if self._moved_on(target):
                    continue
                # urllib3 counts a connection that was refused among those that took too long
                if isinstance(error, NewConnectionError):
                    raise Unreadable(Reason.UNREACHABLE, f"{target.authority}: {error}") from None
                raise Unreadable(Reason.SLOW, f"{target.authority} did not respond in time") from None
            except ReadTimeoutError:
                raise Unreadable(Reason.SLOW, f"{target.authority} did not respond in time") from None
            except (ProtocolError, SSLError) as error:
                raise Unreadable(Reason.UNREACHABLE, f"{target.authority}: {error}") from None
            except HTTPError as error:
                raise Unreadable(Reason.SERVER_FAULT, f"{target.authority}: {error}") from None
        raise Unreadable(Reason.SLOW)

    def _understood(
        self,
        response: urllib3.BaseHTTPResponse,
        target: Target,
        start: int,
        end: int,
        deadline: float,
        whole_most: int,
    ) -> Answer:
        status, headers = response.status, response.headers
        if status == HTTPStatus.PARTIAL_CONTENT:
            stated = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if stated is None or int(stated[1]) != start:
                raise Unreadable(Reason.SERVER_FAULT, "a different range than was requested")
            size: int | None = int(stated[3])
            content = self._read(response, min(end, int(stated[3])) - start, deadline, must_be_whole=True)
        elif status == HTTPStatus.OK:
            told = headers.get("Content-Length", "")
            size = int(told) if re.fullmatch(r"\d{1,18}", told, re.ASCII) else None
            if size is not None and size > whole_most:
                raise Unreadable(Reason.NO_RANGES, f"{size} bytes")
            length = whole_most + 1 if size is None else size
            content = self._read(response, length, deadline, must_be_whole=size is not None)
            if len(content) > whole_most:
                raise Unreadable(Reason.NO_RANGES, f"more than {whole_most} bytes")
            start, size = 0, len(content)
        else:
            raise _refusal(status)
        etag = headers.get("ETag") or headers.get("Last-Modified") or ""
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Answer(content, start, size, etag[:200], kind, target)

    def _read(
        self, response: urllib3.BaseHTTPResponse, length: int, deadline: float, *, must_be_whole: bool
    ) -> bytes:
        """Up to `length` bytes of the body, piece by piece, so that a trickle is noticed."""
        pieces: list[bytes] = []
        missing = length
        try:
            while missing > 0 and (piece := response.read1(min(_PIECE, missing))):
                pieces.append(piece)
                missing -= len(piece)
                self.received += len(piece)
                if time.monotonic() > deadline:
                    raise Unreadable(Reason.SLOW, "its bytes arrive too slowly")
            if response.length_remaining == 0:
                response.read1(1)  # returns nothing, and frees the connection for the next request
        except ReadTimeoutError:
            raise Unreadable(Reason.SLOW, "its bytes stopped arriving") from None
        except (HTTPError, OSError) as error:
            raise Unreadable(Reason.TRUNCATED, str(error)) from None
        if missing > 0 and must_be_whole:
            raise Unreadable(Reason.TRUNCATED, f"{missing} bytes fewer than the host announced")
        return b"".join(pieces)

    def _pool(self, target: Target) -> urllib3.HTTPConnectionPool:
        place = self._places.pop(_key(target), None)
        if place is None or time.monotonic() - place.since > RESOLVED_SECONDS:
            if place is not None:
                place.pool.close()
            first, *others = checked_addresses(target, self.rules, self._resolve)
            place = _Place(_pool_at(first, target), others, time.monotonic())
        self._places[_key(target)] = place
        while len(self._places) > KEPT_HOSTS:
            self._places.popitem(last=False)[1].pool.close()
        return place.pool

    def _moved_on(self, target: Target) -> bool:
        """Contact the host at its next address from now on; False if it was the last one."""
        place = self._places.pop(_key(target))
        place.pool.close()
        if not place.others:  # the next request resolves its name again
            return False
        first, *others = place.others
        self._places[_key(target)] = _Place(_pool_at(first, target), others, place.since)
        return True


def _key(target: Target) -> tuple[str, str, int]:
    return target.scheme, target.host.lower(), target.port


def _as_sent(location: str) -> str:
    """A redirect's address, in UTF-8 or with percent-encoded bytes: what browsers request.

    Args:
        location: the header, whose bytes `http.client` takes for Latin-1.
    """
    sent = location.encode("latin-1")
    try:
        return sent.decode()
    except UnicodeDecodeError:
        return quote(sent, safe=string.punctuation)


def _refusal(status: int) -> Unreadable:
    if status in _ABSENT:
        return Unreadable(Reason.MISSING, f"status {status}")
    if status in _NOT_FOR_STRANGERS:
        return Unreadable(Reason.FORBIDDEN, f"status {status}")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return Unreadable(Reason.TRUNCATED, "it ends before the bytes that were requested")
    return Unreadable(Reason.SERVER_FAULT, f"status {status}")


def _pool_at(address: str, target: Target) -> urllib3.HTTPConnectionPool:
    if target.scheme == "http":
        return urllib3.HTTPConnectionPool(address, target.port, maxsize=1)
    return urllib3.HTTPSConnectionPool(
        address,
        target.port,
        maxsize=1,
        ssl_context=_trust(),
        # the certificate is for the name, not for the IP address
        server_hostname=target.host,
        assert_hostname=target.host,
    )


@cache
def _trust() -> ssl.SSLContext:
    """Trust the system's certificates, and certifi's for container images without any."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context

"""Reading public addresses as anyone can: plain HTTP requests, no credentials."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

from oam_mosaic_assets.errors import StoreRefused, StoreUnavailable
from oam_mosaic_assets.gateways.object_store import PublicHead

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

SERVER_FAULT: Final = HTTPStatus.INTERNAL_SERVER_ERROR
TOO_MANY_REQUESTS: Final = HTTPStatus.TOO_MANY_REQUESTS
NOT_READABLE: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
)


_Answer = TypeVar("_Answer")


class AnonymousReader:
    """Reads headers and byte ranges of public addresses, over persistent connections.

    Args:
        timeouts: seconds to wait for a connection, and for each read.
        attempts: in all, if the network or the server fails.
    """

    def __init__(self, *, timeouts: tuple[float, float], attempts: int) -> None:
        self._timeouts = timeouts
        self._attempts = attempts

    def read(self, address: str, *, start: int, length: int | None) -> bytes | None:
        """Read `length` bytes from `start`, or to the end; None if the public may not, or nothing is there.

        Raises:
            StoreUnavailable: no complete answer, or 429 or 5xx, at the last attempt.
            StoreRefused: an answer other than the bytes asked for, such as a redirect, which is not followed.
        """
        ranged = start > 0 or length is not None
        last = "" if length is None else start + length - 1
        headers = {"Range": f"bytes={start}-{last}"} if ranged else {}
        return self._ask("GET", address, headers, lambda answer: _content(answer, ranged=ranged))

    def head(self, address: str) -> PublicHead | None:
        """Request the headers; None if the public may not, or nothing is there.

        Raises: as `read`.
        """
        return self._ask("HEAD", address, {}, _head)

    def headers(self, method: str, address: str, sent: Mapping[str, str]) -> Mapping[str, str]:
        """Send a request with these headers and return those of the answer; none where `read` gives None.

        Raises:
            StoreUnavailable: as `read`.
        """
        return self._ask(method, address, sent, lambda answer: answer.headers) or {}

    def _ask(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        understand: Callable[[Response], _Answer | None],
    ) -> _Answer | None:
        from requests import RequestException  # noqa: PLC0415  # slow to import, seldom needed

        # Bytes are counted as stored, so nothing may compress them on the way.
        headers = {"Accept-Encoding": "identity", **headers}
        trouble = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(0.25 * 2**attempt)
            try:
                with self._session.request(
                    method,
                    address,
                    headers=headers,
                    timeout=self._timeouts,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    if answer.status_code in NOT_READABLE:
                        return None
                    if answer.status_code < SERVER_FAULT and answer.status_code != TOO_MANY_REQUESTS:
                        return understand(answer)
                    trouble = f"{answer.status_code} {answer.reason}"
            except RequestException as fault:
                trouble = type(fault).__name__
        raise StoreUnavailable(
            f"{address} does not answer: {trouble}", hint="Check the public address, then run again."
        )

    @cached_property
    def _session(self) -> Session:
        import requests  # noqa: PLC0415  # slow to import, seldom needed

        session = requests.Session()
        session.auth = _no_credentials
        return session


def _no_credentials(request: PreparedRequest) -> PreparedRequest:
    """Keep requests from looking for credentials in ~/.netrc."""
    return request


def _content(answer: Response, *, ranged: bool) -> bytes:
    if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return b""
    if answer.status_code != (HTTPStatus.PARTIAL_CONTENT if ranged else HTTPStatus.OK):
        raise _other_answer(answer, "a range" if ranged else "an object")
    return answer.content


def _head(answer: Response) -> PublicHead:
    if answer.status_code != HTTPStatus.OK:
        raise _other_answer(answer, "the headers of an object")
    size = answer.headers.get("Content-Length", "")
    content_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return PublicHead(size=int(size) if size.isdecimal() else None, content_type=content_type or None)


def _other_answer(answer: Response, asked: str) -> StoreRefused:
    return StoreRefused(
        f"{answer.url} answered {answer.status_code} to a request for {asked}",
        hint="The public address must answer directly, without redirects, and support range requests.",
    )

"""Requests to our own servers on this machine."""

from __future__ import annotations

import http.client
from http import HTTPStatus


def answer_of(port: int, path: str, *, host: str = "127.0.0.1", any_status: bool = False) -> bytes | None:
    """What a server on this machine answers with status 200, or with any status; None if it does not."""
    connection = http.client.HTTPConnection(host, port, timeout=5.0)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return content if any_status or answer.status == HTTPStatus.OK else None

"""Endpoint and credentials of an S3 server, whichever one the tests use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3-compatible server on the loopback interface, with the credentials of one user.

    Attributes:
        endpoint: `http://127.0.0.1:PORT`.
    """

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

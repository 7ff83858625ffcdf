"""What every S3 server of the tests says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 protocol server on the loopback interface, and a user of it.

    Attributes:
        endpoint: `http://127.0.0.1:PORT`.
    """

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

"""Ports for servers that are told theirs before they start."""

from __future__ import annotations

import secrets
import socket
from typing import Final

_CHOICE: Final = range(10_000, 32_000)
"""Below those that the kernel gives to whoever connects, or asks for any: none of them is taken by chance."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, and hardly another test chooses meanwhile."""
    while True:
        port = secrets.choice(_CHOICE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

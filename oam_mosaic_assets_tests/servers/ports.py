"""Ports for servers that have to know theirs before they start."""

from __future__ import annotations

import secrets
import socket
from typing import Final

_CHOICE: Final = range(10_000, 32_000)
"""Below the ephemeral ports, which the kernel assigns by itself: none of these is taken by chance."""


def free_port() -> int:
    """A free port of the loopback interface, which another test is unlikely to choose in the meantime."""
    while True:
        port = secrets.choice(_CHOICE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

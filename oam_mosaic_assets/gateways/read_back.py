"""Reading back what was just published, as the public does, before it is announced as public."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from oam_mosaic_assets.errors import NotAsPublished
from oam_mosaic_assets.gateways.object_store import ObjectStore

READ_BACK: Final = 1024
"""Bytes compared at each end of a large object; an archive's header is the first 127."""

_UNREADABLE: Final = "is not readable without credentials"
_LET_THEM_READ: Final = (
    "The bucket must allow public objects: allow ACLs (Object Ownership) and do not block public access; "
    "set S3_PUBLIC_URL if readers use another address. A cache in front may have kept a 404 for too long."
)
_LOOK_AROUND: Final = "Check who else writes to it, and whether a cache in front keeps objects for too long."


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the public address must answer.

    Attributes:
        content_type: as it was written.
        size: of the whole object, bytes.
        head: its first bytes.
        tail: its last bytes.
    """

    content_type: str
    size: int
    head: bytes
    tail: bytes

    @classmethod
    def whole(cls, content: bytes, content_type: str) -> Self:
        """A small object, all of which is compared."""
        return cls(content_type=content_type, size=len(content), head=content, tail=b"")

    @classmethod
    def of_file(cls, path: Path, content_type: str) -> Self:
        """A large object, both ends of which are compared."""
        size = path.stat().st_size
        with path.open("rb") as content:
            head = content.read(READ_BACK)
            content.seek(max(0, size - READ_BACK))
            return cls(content_type=content_type, size=size, head=head, tail=content.read())


def read_back(store: ObjectStore, key: str, expected: Expected, *, patience_seconds: float) -> None:
    """Check headers and both ends, and retry: a cache may answer with the old object, or 404, for a while.

    Raises:
        NotAsPublished: it is still not readable without credentials, or answers with something else.
    """
    deadline, pause = time.monotonic() + patience_seconds, 0.5
    while (wrong := _difference(store, key, expected)) and time.monotonic() + pause < deadline:
        time.sleep(pause)
        pause *= 2
    if wrong:
        raise NotAsPublished(
            f"{store.public_address(key)} {wrong}.",
            hint=_LET_THEM_READ if wrong == _UNREADABLE else _LOOK_AROUND,
        )


def _difference(store: ObjectStore, key: str, expected: Expected) -> str:
    """How the public address differs from what was written; empty if it does not."""
    seen = store.head_publicly(key)
    if seen is None:
        return _UNREADABLE
    if seen.size not in (expected.size, None):
        return f"returns {seen.size:,} bytes, not the {expected.size:,} that were just written there"
    if seen.content_type not in (expected.content_type, None):
        return f"has the content type {seen.content_type!r}, not {expected.content_type!r}"
    is_head = store.read_publicly(key, length=len(expected.head)) == expected.head
    start, length = expected.size - len(expected.tail), len(expected.tail) + 1  # one more: it must end there
    is_tail = not expected.tail or store.read_publicly(key, start=start, length=length) == expected.tail
    return "" if is_head and is_tail else "does not return the bytes that were just written there"

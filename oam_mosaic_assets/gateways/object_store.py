"""The interface of the object store: what both stores promise. `s3_store` and `folder_store` keep it.

A key is a `/`-separated name such as `mosaic/builds/20260115T030000Z-3f9c2a7d41be/manifest.json`; `check_key`
says which names both stores take. Writes are atomic: a reader sees the old object or the new one, never a
part. An object is private unless it is written with `public=True`; rights and headers are part of the write,
so no moment passes between the bytes and their rights. Replacing an object replaces both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the store says of an object without reading it.

    Attributes:
        key: its name.
        etag: other content has another ETag; quotes stripped. It is no digest to compare with a file's, and
            the same content written again may keep it (S3) or not (a folder).
        size: bytes.
        written_at: UTC, by the store's clock. No part of equality: S3 says it to the second in one answer,
            to the millisecond in another.
    """

    key: str
    etag: str
    size: int
    written_at: datetime = field(compare=False)


@dataclass(frozen=True, slots=True)
class Headers:
    """What a reader is told with the bytes.

    Attributes:
        content_type: for example `application/vnd.pmtiles`.
        cache_control: for example `public, max-age=60, must-revalidate`.
    """

    content_type: str
    cache_control: str = "private, no-store"


@dataclass(frozen=True, slots=True)
class PublicHead:
    """What a stranger is told of an object. None is not told.

    Attributes:
        size: bytes.
        content_type: without parameters.
    """

    size: int | None
    content_type: str | None


class PreconditionFailed(Exception):
    """A conditional write or copy found another object than it was told to expect."""


def check_key(key: str) -> str:
    """Return the key of an object to be written, where it names the same thing in every store.

    Raises:
        ValueError: an empty segment (`a//b`, `/a`, `a/`, the empty key), a segment that begins with a dot
            (`..` would leave a folder; a folder keeps its own files under such names), or a character that
            cannot be printed.
    """
    if not key.isprintable() or any(not part or part.startswith(".") for part in key.split("/")):
        raise ValueError(
            f"{key!r} is no key: it needs segments between single slashes, none with a leading dot"
        )
    return key


def check_range(start: int, length: int | None) -> None:
    """Refuse a range of bytes that HTTP cannot ask for.

    Raises:
        ValueError: a negative start, or a length below 1.
    """
    if start < 0 or (length is not None and length < 1):
        raise ValueError(f"no range: {length} bytes from {start}")


class ObjectStore(Protocol):
    """S3, or a local folder with the same promises.

    Every method may raise `StoreUnavailable` (network, timeout, 5xx after retries), `StoreRefused` (no such
    bucket, access denied) or `DiskFull` (a local folder; or the file that `get_file` writes). Where a write
    ends with `StoreUnavailable`, nobody knows whether it took place.
    """

    @property
    def origin(self) -> str:
        """What to call the store in logs and manifests, such as `s3://oin-hotosm-temp`."""
        ...

    def put_file(self, key: str, path: Path, headers: Headers, *, public: bool = False) -> StoredObject:
        """Create or replace an object from a file, in pieces: memory does not grow with the file.

        An upload that fails or is interrupted half-way leaves the key as it was, and no unfinished upload.
        """
        ...

    def put_bytes(
        self,
        key: str,
        content: bytes,
        headers: Headers,
        *,
        public: bool = False,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> StoredObject:
        """Create or replace a small object.

        At most one condition may be given. Content that is written conditionally should name its writer:
        where the answer to a write is lost, the present content tells whether it was this writer's.

        Args:
            if_match: write only where the present object has this ETag.
            if_absent: write only where there is none.

        Raises:
            PreconditionFailed: the condition does not hold, or another writer was at work at the same time;
                nothing was written.
        """
        ...

    def copy(self, source: StoredObject, key: str, headers: Headers, *, public: bool = False) -> StoredObject:
        """Copy inside the store, whatever the size, with new headers and rights.

        Raises:
            PreconditionFailed: the source is gone, or no longer the object that `source` describes; nothing
                was written.
        """
        ...

    def head(self, key: str) -> StoredObject | None:
        """Look at an object; None where there is none."""
        ...

    def get_bytes(self, key: str) -> tuple[bytes, StoredObject] | None:
        """Read a small object whole, with the ETag of exactly these bytes; None where there is none."""
        ...

    def get_file(self, key: str, path: Path) -> StoredObject | None:
        """Read an object into a file, in pieces; None where there is none, and the file stays as it was.

        Pinned to one ETag throughout. The file appears when it is whole, and nothing is left of a failure.
        """
        ...

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        """List everything whose key starts with the prefix, in the order of the keys."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        ...

    def abandon_uploads(self, prefix: str, *, older_than_seconds: float) -> int:
        """Remove unfinished uploads below the prefix that a killed process left; return how many."""
        ...

    def public_address(self, key: str) -> str:
        """Where anyone reads the object: an https address, or a file's for a local folder."""
        ...

    def head_publicly(self, key: str) -> PublicHead | None:
        """Look at an object as an anonymous stranger would; None where it is not readable.

        Raises: as `read_publicly`.
        """
        ...

    def read_publicly(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        """Read a range as an anonymous stranger would at the public address; None where it is not readable.

        Args:
            key: the object's name.
            start: the first byte, counted from 0. Beyond the end there is nothing: `b""`.
            length: how many bytes at most, at least 1; None reads to the end.

        Raises:
            StoreUnavailable: the public address does not answer.
            StoreRefused: it answers, but not with the range; or it sends readers to another host.
        """
        ...

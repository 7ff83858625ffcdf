"""The interface of the object store: what `s3_store` and `folder_store` both guarantee.

A key is a `/`-separated name such as `mosaic/builds/20260115T030000Z-3f9c2a7d41be/manifest.json`; `core.key`
says which names both stores accept. Writes are atomic: a reader sees the old object or the new one, never a
partial one. An object is private unless it is written with `public=True`; permissions and headers are part of
the write, so an object never exists without them. Replacing an object replaces both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the store says about an object without reading it.

    Attributes:
        key: its name.
        etag: different content has a different ETag; quotes stripped. Not a digest to compare with a file's:
            the same content written again may keep it (S3) or not (a folder).
        size: bytes.
        written_at: UTC, by the store's clock. Ignored in comparisons: S3 gives it to the second in some
            answers, to the millisecond in others.
    """

    key: str
    etag: str
    size: int
    written_at: datetime = field(compare=False)


@dataclass(frozen=True, slots=True)
class Headers:
    """The HTTP headers that readers get with the bytes.

    Attributes:
        content_type: for example `application/vnd.pmtiles`.
        cache_control: for example `public, max-age=60, must-revalidate`.
        content_encoding: `gzip` if the bytes are packed and readers are to unpack them.
    """

    content_type: str
    cache_control: str = "private, no-store"
    content_encoding: str | None = None


@dataclass(frozen=True, slots=True)
class PublicHead:
    """What the public can see about an object without reading it; None if that is not stated.

    Attributes:
        size: bytes.
        content_type: without parameters.
    """

    size: int | None
    content_type: str | None


class PreconditionFailed(Exception):
    """A conditional write or copy found a different object than expected."""


def check_range(start: int, length: int | None) -> None:
    """Refuse a range of bytes that HTTP cannot express.

    Raises:
        ValueError: a negative start, or a length below 1.
    """
    if start < 0 or (length is not None and length < 1):
        raise ValueError(f"not a range: {length} bytes from {start}")


class ObjectStore(Protocol):
    """S3, or a local folder with the same guarantees.

    Every method may raise `StoreUnavailable` (network, timeout, 5xx after retries), `StoreRefused` (no such
    bucket, access denied) or `DiskFull` (a local folder; or the file that `get_file` writes). If a
    write ends with `StoreUnavailable`, it may or may not have taken place.
    """

    @property
    def origin(self) -> str:
        """The name of the store in logs and manifests, such as `s3://oin-hotosm-temp`."""
        ...

    @property
    def keeps_headers(self) -> bool:
        """Whether readers get `Headers`; if not, no object may be written with a content encoding."""
        ...

    def put_file(self, key: str, path: Path, headers: Headers, *, public: bool = False) -> StoredObject:
        """Create or replace an object from a file, in chunks: memory use does not grow with the file.

        If it fails or is interrupted half-way, the key stays as it was and no unfinished upload is left.
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
        if the answer to a write is lost, the present content shows whether it was this writer's.

        Args:
            if_match: write only if the present object has this ETag.
            if_absent: write only if there is no object.

        Raises:
            PreconditionFailed: the condition does not hold, or there was a concurrent writer; nothing was
                written.
        """
        ...

    def copy(self, source: StoredObject, key: str, headers: Headers, *, public: bool = False) -> StoredObject:
        """Copy within the store, whatever the size, with new headers and permissions.

        Raises:
            PreconditionFailed: the source is gone, or no longer the object that `source` describes; nothing
                was written.
        """
        ...

    def head(self, key: str) -> StoredObject | None:
        """Look at an object; None if there is none."""
        ...

    def get_bytes(self, key: str) -> tuple[bytes, StoredObject] | None:
        """Read a small object whole, with the ETag of exactly these bytes; None if there is none."""
        ...

    def get_file(self, key: str, path: Path) -> StoredObject | None:
        """Read an object into a file, in chunks; None if there is none, and the file stays as it was.

        All bytes are of one ETag. The file appears once it is complete; a failure leaves nothing behind.
        """
        ...

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        """List everything whose key starts with the prefix, in key order."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are not an error."""
        ...

    def abandon_uploads(self, prefix: str, *, older_than_seconds: float, exactly: bool = False) -> int:
        """Remove unfinished uploads below the prefix, left by killed processes; return how many.

        Args:
            prefix: of their keys.
            older_than_seconds: how long ago they must have begun.
            exactly: only those to this very key, as others may write to keys that begin with it.
        """
        ...

    def public_address(self, key: str) -> str:
        """The address where anyone can read the object: HTTP(S), or `file://` for a local folder."""
        ...

    def head_publicly(self, key: str) -> PublicHead | None:
        """Look at an object as the public does, without credentials; None if it is not readable.

        Raises: as `read_publicly`.
        """
        ...

    def read_publicly(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        """Read a range as the public does, at the public address; None if it is not readable.

        Args:
            key: the object's name.
            start: the first byte, counted from 0; beyond the end, the result is `b""`.
            length: how many bytes at most, at least 1; None reads to the end.

        Raises:
            StoreUnavailable: the public address does not answer.
            StoreRefused: it answers, but not with the range; or it redirects.
        """
        ...

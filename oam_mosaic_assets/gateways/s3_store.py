"""The object store on S3: Amazon's, or any server that speaks its protocol.

Servers differ in which conditions they honour, and in how they read an ETag in quotes: Amazon's accept it
with and without, older Ceph only without. So it is sent without; and before a copy takes effect, its source
is checked here, whether or not the server honours the condition sent with the copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote

from botocore.exceptions import ClientError

from oam_mosaic_assets.core.key import check_key
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.anonymous import AnonymousReader
from oam_mosaic_assets.gateways.object_store import (
    Headers,
    PreconditionFailed,
    PublicHead,
    StoredObject,
    check_range,
)
from oam_mosaic_assets.gateways.s3_client import bucket_address, connect, full_address, has_virtual_hosts
from oam_mosaic_assets.gateways.s3_faults import CHANGED_MEANWHILE, NETWORK_FAULTS, s3_faults
from oam_mosaic_assets.gateways.s3_parts import write_in_parts
from oam_mosaic_assets.gateways.s3_words import Description, condition, describe, stored, written
from oam_mosaic_assets.gateways.whole_file import whole_file

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

MIB: Final = 1024 * 1024
MOST_DELETED_AT_ONCE: Final = 1_000
"""Per request: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""


class S3Store:
    """An `ObjectStore` in a bucket. No request is sent before the first call.

    Args:
        bucket: its name; it must exist.
        region: such as `us-east-1`.
        endpoint: the server, such as `https://s3.example.org`; TLS unless it says http. None, or
            `s3.amazonaws.com`, is Amazon's own in the region.
        access_key: None, with `secret_key` also None, leaves both to botocore's chain (environment, profile,
            role).
        secret_key: see `access_key`.
        public_base: where the public reads the bucket's objects if not at the endpoint, such as a CDN.
        connect_timeout: seconds.
        read_timeout: seconds that the server may be silent.
        attempts: in all, for each request and for a download that breaks off.
        part_size: bytes; larger files are uploaded in parts, two of which are in memory at a time. S3
            accepts none below 5 MiB.
        largest_copy: bytes; larger objects are copied in parts of this size. S3's own limit is 5 GiB, but a
            server may be silent for longer than `read_timeout` while it copies that much.

    Raises:
        ValueError: an address contains credentials.
    """

    def __init__(
        self,
        bucket: str,
        *,
        region: str,
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        public_base: str | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        attempts: int = 4,
        part_size: int = 8 * MIB,
        largest_copy: int = 256 * MIB,
    ) -> None:
        self.bucket = bucket
        self._region = region
        self._credentials = (access_key, secret_key)
        self._timeouts = (connect_timeout, read_timeout)
        self._attempts = attempts
        self._part_size = part_size
        self._largest_copy = largest_copy
        self._endpoint = full_address(endpoint or "s3.amazonaws.com", region=region)
        self._public_base = (
            full_address(public_base, region=region)
            if public_base
            else bucket_address(self._endpoint, bucket)
        )
        self._stranger = AnonymousReader(timeouts=self._timeouts, attempts=attempts)

    @property
    def origin(self) -> str:
        """`s3://` and the bucket."""
        return f"s3://{self.bucket}"

    @property
    def keeps_headers(self) -> bool:
        """See `ObjectStore.keeps_headers`."""
        return True

    def put_file(self, key: str, path: Path, headers: Headers, *, public: bool = False) -> StoredObject:
        """See `ObjectStore.put_file`."""
        check_key(key)
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            if size <= self._part_size:
                return self.put_bytes(key, source.read(), headers, public=public)

            def upload_part(upload_id: str, number: int, place: range) -> str:
                content = os.pread(source.fileno(), len(place), place.start)
                if len(content) != len(place):
                    raise OSError(f"{path} became shorter while it was being uploaded")
                return self._client.upload_part(
                    Bucket=self.bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=content
                )["ETag"]

            with self._faults("write", key, public=public):
                return write_in_parts(
                    self._client,
                    self.bucket,
                    key,
                    describe(headers, public=public),
                    size=size,
                    part_size=self._part_size,
                    write_part=upload_part,
                )

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
        """See `ObjectStore.put_bytes`."""
        check_key(key)
        expected = condition(if_match=if_match, if_absent=if_absent)
        with self._faults("write", key, public=public):
            try:
                answer = self._client.put_object(
                    Bucket=self.bucket, Key=key, Body=content, **expected, **describe(headers, public=public)
                )
            except ClientError as refusal:
                if (earlier := self._find_earlier_attempt(refusal, key, content)) is None:
                    raise
                return earlier
            return written(key, answer["ETag"], len(content), answer["ResponseMetadata"])

    def copy(self, source: StoredObject, key: str, headers: Headers, *, public: bool = False) -> StoredObject:
        """See `ObjectStore.copy`."""
        check_key(key)
        description = describe(headers, public=public)
        with self._faults(f"copy {source.key} to", key, public=public):
            self._expect(source)
            if source.size > self._largest_copy:
                return self._copy_in_parts(source, key, description)
            answer = self._client.copy_object(
                Bucket=self.bucket,
                Key=key,
                CopySource={"Bucket": self.bucket, "Key": source.key},
                CopySourceIfMatch=source.etag,
                MetadataDirective="REPLACE",
                **description,
            )
            return written(key, answer["CopyObjectResult"]["ETag"], source.size, answer["ResponseMetadata"])

    def head(self, key: str) -> StoredObject | None:
        """See `ObjectStore.head`."""
        with self._faults("inspect", key):
            try:
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as refusal:
                if refusal.response["Error"]["Code"] not in {"404", "NoSuchKey"}:
                    raise
                # The answer to a HEAD has no body to say whether the object or the bucket is missing. Listing
                # this key needs no permission beyond our own keys; looking at the bucket would.
                self._client.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1)
                return None
            return stored(key, answer["ETag"], answer["ContentLength"], answer["LastModified"])

    def get_bytes(self, key: str) -> tuple[bytes, StoredObject] | None:
        """See `ObjectStore.get_bytes`."""
        if (opened := self._open(key)) is None:
            return None
        found, body = opened
        content = BytesIO()
        self._stream(found, body, content)
        return content.getvalue(), found

    def get_file(self, key: str, path: Path) -> StoredObject | None:
        """See `ObjectStore.get_file`."""
        if (opened := self._open(key)) is None:
            return None
        found, body = opened
        with closing(body), whole_file(path) as target:
            self._stream(found, body, target)
        return found

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        """See `ObjectStore.keys`."""
        with self._faults("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            for page in pages:
                for entry in page.get("Contents", []):
                    yield stored(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        remaining = iter(keys)
        while some := list(islice(remaining, MOST_DELETED_AT_ONCE)):
            names: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in some]
            with self._faults("delete", some[0] if len(some) == 1 else f"{some[0]} and {len(some) - 1} more"):
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": names, "Quiet": True}
                )
                for refusal in answer.get("Errors", []):
                    raise ClientError({"Error": refusal}, "DeleteObjects")

    def abandon_uploads(self, prefix: str, *, older_than_seconds: float, exactly: bool = False) -> int:
        """See `ObjectStore.abandon_uploads`."""
        latest = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        abandoned = 0
        with self._faults("clean up", prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=prefix
            )
            for page in pages:
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] <= latest and (not exactly or upload["Key"] == prefix):
                        self._client.abort_multipart_upload(
                            Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        abandoned += 1
        return abandoned

    def public_address(self, key: str) -> str:
        """See `ObjectStore.public_address`."""
        return f"{self._public_base}/{quote(key)}"

    def head_publicly(self, key: str) -> PublicHead | None:
        """See `ObjectStore.head_publicly`."""
        return self._stranger.head(self.public_address(key))

    def read_publicly(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        """See `ObjectStore.read_publicly`."""
        check_range(start, length)
        return self._stranger.read(self.public_address(key), start=start, length=length)

    def _copy_in_parts(self, source: StoredObject, key: str, description: Description) -> StoredObject:
        def copy_part(upload_id: str, number: int, place: range) -> str:
            return self._client.upload_part_copy(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": self.bucket, "Key": source.key},
                CopySourceIfMatch=source.etag,
                CopySourceRange=f"bytes={place.start}-{place.stop - 1}",
            )["CopyPartResult"]["ETag"]

        return write_in_parts(
            self._client,
            self.bucket,
            key,
            description,
            size=source.size,
            part_size=self._largest_copy,
            write_part=copy_part,
            check=lambda: self._expect(source),
        )

    def _expect(self, source: StoredObject) -> None:
        if self.head(source.key) != source:
            raise PreconditionFailed(f"{self.origin}/{source.key} is gone, or has been replaced")

    def _find_earlier_attempt(self, refusal: ClientError, key: str, content: bytes) -> StoredObject | None:
        """If the answer to a conditional write was lost, the next attempt finds what the first one wrote."""
        retried = refusal.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
        if not retried or refusal.response["Error"]["Code"] not in CHANGED_MEANWHILE:
            return None
        present = self.get_bytes(key)
        return present[1] if present is not None and present[0] == content else None

    def _open(self, key: str) -> tuple[StoredObject, StreamingBody] | None:
        with self._faults("read", key):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
            except ClientError as refusal:
                if refusal.response["Error"]["Code"] != "NoSuchKey":
                    raise
                return None
            found = stored(key, answer["ETag"], answer["ContentLength"], answer["LastModified"])
        return found, answer["Body"]

    def _stream(self, found: StoredObject, body: StreamingBody, target: BinaryIO) -> None:
        """Read an opened object into an empty file; if the stream breaks off, resume with the same object."""
        try:
            with self._faults("read", found.key):
                for attempts_left in reversed(range(self._attempts)):
                    try:
                        with closing(body):
                            target.writelines(body.iter_chunks(MIB))
                    except NETWORK_FAULTS:
                        if not attempts_left:
                            raise
                    else:
                        return
                    body = self._client.get_object(
                        Bucket=self.bucket,
                        Key=found.key,
                        IfMatch=found.etag,
                        Range=f"bytes={target.tell()}-",
                    )["Body"]
        except PreconditionFailed:
            raise StoreUnavailable(
                f"{self.origin}/{found.key} was replaced while it was being read", hint="Run again."
            ) from None

    def _faults(self, action: str, key: str, *, public: bool = False) -> AbstractContextManager[None]:
        return s3_faults(action, f"{self.origin}/{key}", public=public)

    @cached_property
    def _client(self) -> S3Client:
        return connect(
            self._endpoint,
            region=self._region,
            credentials=self._credentials,
            virtual_hosts=has_virtual_hosts(self._endpoint, self.bucket),
            timeouts=self._timeouts,
            attempts=self._attempts,
        )

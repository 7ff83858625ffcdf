"""Translating between the object store's interface and botocore's terms."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal, TypedDict

from oam_mosaic_assets.gateways.object_store import Headers, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ResponseMetadataTypeDef


class Description(TypedDict, total=False):
    """Headers and ACL, written together with the bytes."""

    ContentType: str
    CacheControl: str
    ContentEncoding: str
    ACL: Literal["public-read"]


class Condition(TypedDict, total=False):
    """Which existing object a write expects."""

    IfMatch: str
    IfNoneMatch: str


def describe(headers: Headers, *, public: bool) -> Description:
    """The headers and ACL of an object; without an ACL, S3 makes it private."""
    description: Description = {"ContentType": headers.content_type, "CacheControl": headers.cache_control}
    if headers.content_encoding is not None:
        description["ContentEncoding"] = headers.content_encoding
    if public:
        description["ACL"] = "public-read"
    return description


def condition(*, if_match: str | None, if_absent: bool) -> Condition:
    """What a conditional write expects."""
    expected: Condition = {}
    if if_match is not None:
        expected["IfMatch"] = if_match
    if if_absent:
        expected["IfNoneMatch"] = "*"
    return expected


def stored(key: str, etag: str, size: int, written_at: datetime) -> StoredObject:
    """An object, from what the server says about it."""
    return StoredObject(key, etag.strip('"'), size, written_at.astimezone(UTC))


def written(key: str, etag: str, size: int, answer: ResponseMetadataTypeDef) -> StoredObject:
    """An object just written, from the server's answer, which gives the time only in its Date header."""
    return stored(key, etag, size, parsedate_to_datetime(answer["HTTPHeaders"]["date"]))

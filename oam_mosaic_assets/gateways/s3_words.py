"""What the interface of the object store says, in botocore's words, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal, TypedDict

from oam_mosaic_assets.gateways.object_store import Headers, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ResponseMetadataTypeDef


class Description(TypedDict, total=False):
    """What is written together with the bytes."""

    ContentType: str
    CacheControl: str
    ACL: Literal["public-read"]


class Condition(TypedDict, total=False):
    """Which present object a write expects."""

    IfMatch: str
    IfNoneMatch: str


def describe(headers: Headers, *, public: bool) -> Description:
    """Say the headers and the rights of an object; private is what S3 makes of one without an ACL."""
    description: Description = {"ContentType": headers.content_type, "CacheControl": headers.cache_control}
    if public:
        description["ACL"] = "public-read"
    return description


def condition(*, if_match: str | None, if_absent: bool) -> Condition:
    """Say what a conditional write expects."""
    expected: Condition = {}
    if if_match is not None:
        expected["IfMatch"] = if_match
    if if_absent:
        expected["IfNoneMatch"] = "*"
    return expected


def stored(key: str, etag: str, size: int, written_at: datetime) -> StoredObject:
    """Read what the server says of an object."""
    return StoredObject(key, etag.strip('"'), size, written_at.astimezone(UTC))


def written(key: str, etag: str, size: int, answer: ResponseMetadataTypeDef) -> StoredObject:
    """Read what the server says of an object just written; it tells the time only in the HTTP date."""
    return stored(key, etag, size, parsedate_to_datetime(answer["HTTPHeaders"]["date"]))

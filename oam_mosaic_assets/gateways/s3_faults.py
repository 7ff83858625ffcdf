"""What the errors of an S3 server mean here: whether a rerun may help, or what a person must do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  # botocore's own, of connections that were never made
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)

from oam_mosaic_assets.errors import MosaicError, StoreRefused, StoreUnavailable
from oam_mosaic_assets.gateways.object_store import PreconditionFailed

NETWORK_FAULTS: Final = (HTTPClientError, ConnectionError, IncompleteReadError)
"""The server was not reached, or stopped answering half-way."""

CHANGED_MEANWHILE: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey"})
PASSING: Final = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "NoSuchUpload",  # abandoned by someone, or completed by an attempt whose answer was lost
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "XAmzContentSHA256Mismatch",
    }
)

DENIED: Final = frozenset({"AccessDenied", "403"})
EXPLAINED: Final = DENIED | {"NotImplemented"}
"""Amazon names user, permission and policy; others the header that they do not support."""

RIGHTS: Final = {  # of S3's own operations: all others are requests for credentials
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CompleteMultipartUpload": "s3:PutObject",
    "CopyObject": "s3:GetObject and s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "DeleteObjects": "s3:DeleteObject",
    # Without s3:ListBucket, S3 answers 403, not 404, for an object that is not there.
    "GetObject": "s3:GetObject and s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject and s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
    "PutObject": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:GetObject and s3:PutObject",
}

_ELSEWHERE = "Correct S3_REGION and S3_ENDPOINT: the bucket is elsewhere."
_NO_BUCKET = "Create the bucket, or correct S3_BUCKET, S3_REGION and S3_ENDPOINT."
_WRONG_KEY = "Correct S3_ACCESS_KEY, or S3_ENDPOINT: this server does not know the key."
_OLD_TOKEN = "Renew the temporary credentials."  # noqa: S105  # words for a person
_NO_REGION = "Correct S3_REGION: it is not a region of this server, such as us-east-1."
_NO_NAME = "Correct S3_BUCKET: a bucket name has 3 to 63 lowercase letters, digits, dots and hyphens."
_LACKING = (
    "This server lacks what publication needs, such as ACLs or conditional writes; `oam-mosaic doctor` tries "
    "each. Use another server, or a newer version of it."
)
HINTS: Final = {
    "301": _ELSEWHERE,
    "302": _ELSEWHERE,
    "307": _ELSEWHERE,
    "308": _ELSEWHERE,
    "404": _NO_BUCKET,  # from a HeadBucket, whose answer has no body to say so
    "501": _LACKING,
    "AccessControlListNotSupported": (
        "Set the bucket's Object Ownership to allow ACLs (bucket owner preferred): what is published is "
        "written with the ACL public-read."
    ),
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "ExpiredToken": _OLD_TOKEN,
    "ExpiredTokenException": _OLD_TOKEN,
    "IllegalLocationConstraint": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "InvalidAccessKeyId": _WRONG_KEY,
    "InvalidBucketName": _NO_NAME,
    "InvalidRegion": _NO_REGION,
    "InvalidToken": _OLD_TOKEN,
    "NoSuchBucket": _NO_BUCKET,
    "NotImplemented": _LACKING,
    "PermanentRedirect": _ELSEWHERE,
    "QuotaExceeded": "Delete something from the bucket, or raise the quota: it, or its owner's, is used up.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "SignatureDoesNotMatch": "Correct S3_SECRET_KEY: it does not belong to S3_ACCESS_KEY.",
    "TemporaryRedirect": _ELSEWHERE,
}

_OF_THE_NETWORK = "Check S3_ENDPOINT and the network, then run again."
_OF_TLS = (
    "Check S3_ENDPOINT: the address of a server without TLS begins with http://; if its certificate is from "
    "an authority of your own, name that authority's file in AWS_CA_BUNDLE."
)
_NO_ROLE = "Check the role, its trust policy and its token: it gives this program no credentials."
_NO_CREDENTIALS = "Set S3_ACCESS_KEY and S3_SECRET_KEY, or provide a profile or a role; check S3_BUCKET."
UNASKED: Final = {"InvalidRegionError": _NO_REGION, "ParamValidationError": _NO_NAME}
"""Hints for botocore's own errors, raised before any request."""


@contextmanager
def s3_faults(action: str, address: str, *, public: bool = False) -> Iterator[None]:
    """Turn botocore's exceptions into this project's; their texts, which may quote a request, are dropped.

    Args:
        action: what is being done, such as `write`.
        address: what it is done to, such as `s3://bucket/key`.
        public: whether it is written with the ACL public-read, which needs a permission of its own.

    Raises:
        PreconditionFailed: the server found a different object, or a concurrent writer.
        StoreUnavailable: a rerun may help.
        StoreRefused: a person must act.
    """
    what = f"cannot {action} {address}"
    try:
        yield
    except ClientError as fault:
        raise _read_answer(fault, what, public=public) from None
    except NETWORK_FAULTS as fault:
        kind = type(fault).__name__
        raise StoreUnavailable(
            f"{what}: no complete answer from the server ({kind})",
            hint=_OF_TLS if isinstance(fault, SSLError) else _OF_THE_NETWORK,
        ) from None
    except KeyError as fault:
        raise StoreUnavailable(
            f"{what}: the answer contains no {fault.args[0]}",
            hint="Check that S3_ENDPOINT is an S3 server, then run again.",
        ) from None
    except BotoCoreError as fault:  # what botocore rejects before it sends a request
        kind = type(fault).__name__
        raise StoreRefused(f"{what}: {kind}", hint=UNASKED.get(kind, _NO_CREDENTIALS)) from None


def _read_answer(fault: ClientError, what: str, *, public: bool) -> MosaicError | PreconditionFailed:
    code = fault.response.get("Error", {}).get("Code", "")
    status = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{what}: {fault.operation_name} was answered with {code}"
    if code in CHANGED_MEANWHILE:
        return PreconditionFailed(said)
    if code in EXPLAINED and (reason := fault.response["Error"].get("Message")):
        said = f"{said}: {reason}"
    if code in HINTS:
        return StoreRefused(said, hint=HINTS[code])
    if (
        code in PASSING
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or status == HTTPStatus.TOO_MANY_REQUESTS
    ):
        return StoreUnavailable(said, hint="The server is busy or failing; run again later.")
    rights = RIGHTS.get(fault.operation_name)
    if rights is None:
        return StoreRefused(said, hint=_NO_ROLE)
    if code in DENIED:
        return StoreRefused(said, hint=_name_rights(rights, public=public))
    return StoreRefused(said, hint="Check that S3_ENDPOINT, S3_REGION and S3_BUCKET belong together.")


def _name_rights(rights: str, *, public: bool) -> str:
    if public:
        return (
            f"Grant the user {rights} and, since the object is made public, s3:PutObjectAcl; the bucket's "
            "Block Public Access must allow ACLs."
        )
    return f"Grant the user {rights} here."

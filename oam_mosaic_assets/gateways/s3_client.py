"""How an S3 server is reached: addresses, credentials, timeouts, retries."""

from __future__ import annotations

from base64 import b64encode
from hashlib import md5
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from oam_mosaic_assets.errors import StoreRefused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


REDIRECTS: Final = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)


def full_address(address: str, *, region: str) -> str:
    """Complete an address: TLS unless it says otherwise, and `s3.amazonaws.com` in its regional form.

    Raises:
        ValueError: the address holds credentials.
    """
    full = (address if "://" in address else f"https://{address}").rstrip("/")
    parts = urlsplit(full)
    if "@" in parts.netloc:
        raise ValueError(
            f"the address of {parts.hostname} contains credentials, which have their own settings"
        )
    if parts.hostname == "s3.amazonaws.com":
        return f"{parts.scheme}://s3.{region}.amazonaws.com"
    return full


def has_virtual_hosts(endpoint: str, bucket: str) -> bool:
    """Whether the server gives the bucket a host name of its own, as Amazon's do.

    Amazon's certificates cover none for a bucket with a dot in its name.
    """
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn")) and "." not in bucket


def bucket_address(endpoint: str, bucket: str) -> str:
    """The server's public address of the bucket, without a trailing slash."""
    if has_virtual_hosts(endpoint, bucket):
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{bucket}.{host}"
    return f"{endpoint}/{bucket}"


def connect(
    endpoint: str,
    *,
    region: str,
    credentials: tuple[str | None, str | None],
    virtual_hosts: bool,
    timeouts: tuple[float, float],
    attempts: int,
) -> S3Client:
    """Make a client; no request is sent yet.

    Args:
        endpoint: a full address.
        region: such as `us-east-1`.
        credentials: access key and secret key; None for both leaves them to botocore's chain.
        virtual_hosts: whether to address the bucket by a host name of its own.
        timeouts: seconds to wait for a connection, and for each read.
        attempts: in all, for each request.

    Raises:
        BotoCoreError: only one of the two keys is given, or a profile does not exist.
        StoreRefused: botocore considers the address invalid.
    """
    # Takes half a second, which a command that works on a local folder need not spend.
    from boto3.session import Session  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url  # noqa: PLC0415

    if not (is_valid_endpoint_url(endpoint) or is_valid_ipv6_endpoint_url(endpoint)):
        raise StoreRefused(
            f"{endpoint} is not the address of an S3 server",
            hint="Correct S3_ENDPOINT, S3_REGION: a host name has letters, digits, - and dots, but no _.",
        )
    access_key, secret_key = credentials
    connect_timeout, read_timeout = timeouts
    client = Session().client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            s3={"addressing_style": "virtual" if virtual_hosts else "path"},
            # Some servers refuse the checksums that botocore adds unasked; the signature covers the content.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register_first("needs-retry.s3", _refuse_redirect)
    client.meta.events.register("before-call.s3.DeleteObjects", _add_digest)
    return client


def _refuse_redirect(response: tuple[Any, Any] | None, operation: Any, **_: object) -> None:
    """Keep botocore from asking for the bucket's region on a redirect: endlessly, if that is redirected too.

    Nor would it help: the public would still be sent to the region that the settings name.
    """
    if response is not None and response[0].status_code in REDIRECTS:
        raise ClientError(response[1], operation.name)


def _add_digest(params: dict[str, Any], **_: object) -> None:
    """Add the MD5 digest without which many servers delete nothing; botocore sends only a newer checksum."""
    digest = md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = b64encode(digest).decode()

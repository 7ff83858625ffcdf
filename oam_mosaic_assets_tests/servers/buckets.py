"""Buckets on the S3 servers of the tests, and stores in them."""

from __future__ import annotations

import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

from oam_mosaic_assets.gateways.s3_client import connect
from oam_mosaic_assets.gateways.s3_store import S3Store
from oam_mosaic_assets_tests.servers.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@cache
def client_of(server: S3Server) -> S3Client:
    """A client, to prepare a test or to look behind the store."""
    return connect(
        server.endpoint,
        region=server.region,
        credentials=(server.access_key, server.secret_key),
        virtual_hosts=False,
        timeouts=(10, 60),
        attempts=3,
    )


def new_bucket(server: S3Server) -> str:
    """Create an empty bucket for one test."""
    name = f"test-{uuid.uuid4()}"
    client_of(server).create_bucket(Bucket=name)
    return name


def store_in(server: S3Server, bucket: str, **options: Any) -> S3Store:
    """A store in the bucket; `options` are those of `S3Store`, and override the server's own settings."""
    settings: dict[str, Any] = {
        "region": server.region,
        "endpoint": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }
    return S3Store(bucket, **settings | options)

"""Makes the bucket of development where there is none, and lets maps on other sites read it.

A bucket that is there already is left as it is, and so is every bucket on Amazon: what it is called, who may
do what in it and what it forgets are decided by a person. The server of development takes any key and forgets
everything when it stops: another bucket there is production's, and its endpoint was left out.
"""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from oam_mosaic_assets.cli import explain
from oam_mosaic_assets.errors import MosaicError, SettingsError, StoreUnavailable
from oam_mosaic_assets.gateways.s3_client import connect
from oam_mosaic_assets.settings import Settings

HERE = Path(__file__).parent

HOST_OF_DEVELOPMENT = "s3.localhost"
BUCKET_OF_DEVELOPMENT = "mosaic"
"""Where `compose.yaml` publishes if nothing is set."""


def prepare() -> str:
    """Prepare the bucket that the environment names; what was done.

    Raises:
        SettingsError: another bucket than that of development is to be on its server.
        StoreUnavailable: the server refuses, or cannot be reached.
    """
    settings = Settings.read()
    where = f"{settings.s3_bucket} on {settings.endpoint_url}"
    host = urlsplit(settings.endpoint_url).hostname or ""
    if host == HOST_OF_DEVELOPMENT and settings.s3_bucket != BUCKET_OF_DEVELOPMENT:
        raise SettingsError(
            f"{where}, the server of development, is gone when that server stops.",
            hint="Set S3_ENDPOINT to where the bucket is, such as https://s3.us-east-1.amazonaws.com.",
        )
    if host.endswith(("amazonaws.com", "amazonaws.com.cn")):
        return f"{where}: on Amazon's servers, and left as it is"
    access_key, secret_key = settings.s3_access_key, settings.s3_secret_key
    client = connect(
        settings.endpoint_url,
        region=settings.s3_region,
        credentials=(
            access_key and access_key.get_secret_value(),
            secret_key and secret_key.get_secret_value(),
        ),
        virtual_hosts=False,
        timeouts=(10, 60),
        attempts=5,
    )
    try:
        if _is_there(client, settings.s3_bucket):
            return f"{where}: there already, and left as it is"
        client.create_bucket(Bucket=settings.s3_bucket)
        client.put_bucket_cors(
            Bucket=settings.s3_bucket, CORSConfiguration=json.loads((HERE / "cors.json").read_text())
        )
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(
            f"{where}: neither there nor made: {error}",
            hint="Start the server, or check S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY and S3_SECRET_KEY.",
        ) from None
    return f"{where}: made"


def _is_there(client: Any, bucket: str) -> bool:
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] == "404":
            return False
        raise
    return True


if __name__ == "__main__":
    try:
        sys.stderr.write(f"{prepare()}\n")
    except MosaicError as error:
        sys.exit(explain(error))

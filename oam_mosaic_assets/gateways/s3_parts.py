"""Writing one object in many parts: either all of it appears, or nothing of it is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.s3_words import Description, written

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MOST_PARTS: Final = 10_000
"""Per object: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
PARALLEL_PARTS: Final = 2

WritePart = Callable[[str, int, range], str]
"""Takes the upload's id, the part's number, counted from 1, and its byte range; returns the part's ETag."""


def part_places(size: int, part_size: int) -> Iterator[range]:
    """Divide `size` bytes into parts of `part_size`, or larger ones if those would be too many for S3."""
    step = max(part_size, ceil(size / MOST_PARTS))
    return (range(start, min(start + step, size)) for start in range(0, size, step))


def write_in_parts(
    client: S3Client,
    bucket: str,
    key: str,
    description: Description,
    *,
    size: int,
    part_size: int,
    write_part: WritePart,
    check: Callable[[], None] = lambda: None,
) -> StoredObject:
    """Write an object by a multipart upload, `PARALLEL_PARTS` parts at a time.

    boto3's own transfers do this too, but do not return the ETag that they wrote.

    Args:
        client: its exceptions are passed on as they are.
        bucket: its name.
        key: the object's name.
        description: headers and ACL.
        size: of the whole object, in bytes.
        part_size: in bytes, as for `part_places`.
        write_part: writes one part.
        check: called once every part is written; raises if the object must not appear after all.
    """
    places = list(part_places(size, part_size))
    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key, **description)["UploadId"]
    pool = ThreadPoolExecutor(PARALLEL_PARTS)
    try:
        numbers = range(1, len(places) + 1)
        etags = pool.map(lambda number, place: write_part(upload_id, number, place), numbers, places)
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": etag} for number, etag in zip(numbers, etags, strict=True)
        ]
        check()
        answer = client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )
    except BaseException:
        pool.shutdown(cancel_futures=True)  # a part still in flight would outlive the abort
        with suppress(ClientError, BotoCoreError):  # `abandon_uploads` tidies up later
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        raise
    finally:
        pool.shutdown()
    etag = answer["ETag"] or client.head_object(Bucket=bucket, Key=key)["ETag"]  # older Ceph leaves it out
    return written(key, etag, size, answer["ResponseMetadata"])

"""A bucket put to more tests than a build would: whether the server does what builds rely on it for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oam_mosaic_assets.gateways.object_store import Headers, PreconditionFailed
from oam_mosaic_assets.gateways.s3_store import S3Store
from oam_mosaic_assets.gateways.s3_words import describe

ORIGIN: Final = "https://map.example.org"
"""Stands in for any site whose maps read the archive."""

PROBE: Final = Headers("text/plain", "no-store")
NO_ETAG: Final = "0" * 32


class ProbedBucket(S3Store):
    """An `S3Store` that can be tried out. Its methods raise the same errors as the store's."""

    def begin_and_abort_upload(self, key: str, *, public: bool = False) -> None:
        """Begin a multipart upload and abort it, to see that both are allowed; the object stays as it is."""
        with self._faults("start an upload of", key, public=public):
            upload = self._client.create_multipart_upload(
                Bucket=self.bucket, Key=key, **describe(PROBE, public=public)
            )
        with self._faults("abort an upload of", key):
            self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload["UploadId"])

    def copies_another(self, source: str, key: str) -> bool:
        """Whether the server copies an object although its ETag is not the one that was asked for."""
        try:
            with self._faults(f"copy {source} to", key):
                self._client.copy_object(
                    Bucket=self.bucket,
                    Key=key,
                    CopySource={"Bucket": self.bucket, "Key": source},
                    CopySourceIfMatch=NO_ETAG,
                )
        except PreconditionFailed:
            return False
        return True

    def answers_preflight(self, key: str) -> Mapping[str, str]:
        """The headers of a CORS preflight: a browser asks whether a page on another site may read ranges."""
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range",
        }
        return self._stranger.headers("OPTIONS", self.public_address(key), asked)

    def answers_origin(self, key: str) -> Mapping[str, str]:
        """The headers that a page on another site gets when it reads a range."""
        asked = {"Origin": ORIGIN, "Range": "bytes=0-0"}
        return self._stranger.headers("GET", self.public_address(key), asked)

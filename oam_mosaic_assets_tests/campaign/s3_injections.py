"""Faults in the calls that a build sends to the S3 server: every kind of call, every kind of fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from oam_mosaic_assets_tests.campaign.injection import Injection, ends, spoiled
from oam_mosaic_assets_tests.servers.s3_proxy import Spoiled

FAULTS: Final[dict[str, Spoiled]] = {
    "cut, for ever": Spoiled(cut=True),
    "done, but the answer is cut": Spoiled(cut_answer=True, times=1),
    "500, twice": Spoiled(status="500 Internal Server Error", code="InternalError", times=2),
    "503 SlowDown, for ever": Spoiled(status="503 Slow Down", code="SlowDown"),
    "403, for ever": Spoiled(status="403 Forbidden", code="AccessDenied"),
    "50 KiB a second": Spoiled(delay=0.02),
    "truncated, once": Spoiled(truncate=True, times=1),
    "one byte is another, once": Spoiled(corrupt=True, times=1),
}

CALLS: Final[list[tuple[str, str, str, str]]] = [
    # S3 operation, key, what it is for, and the exit code for each fault above, in order ("-": not injected)
    ("PutObject", "*/footprints.parquet", "staging a file", "1 0 0 1 2 0 0 1"),
    ("PutObject", "*/claim.json", "claiming a name", "1 0 0 1 2 - 0 1"),
    ("PutObject", "*/publisher.lock", "taking the lock", "1 0 0 1 2 - 0 1"),
    ("PutObject", "*/manifest.json", "writing the manifest", "1 0 0 1 2 - 0 1"),
    ("PutObject", "*/latest.json", "turning the pointer", "1 0 0 1 2 0 0 1"),
    ("GetObject", "*/staging/*/global-mosaic.pmtiles", "reading a staged file", "1 0 0 1 2 0 0 1"),
    ("GetObject", "*/global_mosaic_pmtiles.json", "reading a description", "1 0 0 1 2 - 0 1"),
    ("GetObject", "*/latest.json", "reading the pointer", "1 0 0 1 2 - 0 2"),
    ("HeadObject", "*/staging/*/global-mosaic.pmtiles", "looking before the copy", "1 0 0 1 2 - - -"),
    ("CopyObject", "*/builds/*/global-mosaic.pmtiles", "copying to the release", "1 0 0 1 2 - 0 0"),
    ("CopyObject", "global-mosaic.pmtiles", "copying to the fixed key", "1 0 0 1 2 0 0 0"),
    ("ListObjectsV2", "*/staging/", "listing, when tidying up", "0 0 0 0 0 - 0 0"),
    ("DeleteObjects", "", "deleting", "0 0 0 0 0 - 0 0"),
    ("ListMultipartUploads", "*", "listing uploads", "0 0 0 0 0 - 0 0"),
    ("HeadAnonymously", "global-mosaic.pmtiles", "a stranger's look", "1 0 0 1 1 - - -"),
    ("ReadAnonymously", "global-mosaic.pmtiles", "a stranger's read", "1 0 0 1 1 0 0 0"),
    ("ReadAnonymously", "*/latest.json", "reading the pointer back", "1 0 0 1 1 - 0 0"),
]

PARTS: Final[list[tuple[str, str, str, str]]] = [
    ("CreateMultipartUpload", "*/staging/*", "beginning an upload", "1 0 0 1 2 - 0 -"),
    ("UploadPart", "*/staging/*", "uploading parts", "1 0 0 1 2 0 0 1"),
    ("CompleteMultipartUpload", "*/staging/*", "ending an upload", "1 - 0 1 2 - - -"),
    ("AbortMultipartUpload", "*", "giving an upload up", "- - - - - - - -"),
    ("UploadPartCopy", "global-mosaic.pmtiles", "copying in parts", "1 0 0 1 2 - 0 -"),
]

SHORT: Final = {
    ("reading a staged file", "one byte is another, once"),
    ("copying to the fixed key", "503 SlowDown, for ever"),
}
UNHEARD: Final = {"done, but the answer is cut", "truncated, once"}
"""Faults after which an upload has begun, but the client never learns its id."""

LEAVE: Final = {"deleting", "listing, when tidying up"}


def s3_injections() -> Iterator[Injection]:
    """Expand the tables into injections."""
    for calls, in_parts in ((CALLS, False), (PARTS, True)):
        for operation, key, where, codes in calls:
            for code, (what, fault) in zip(codes.split(), FAULTS.items(), strict=True):
                if code == "-":
                    continue
                yield Injection(
                    where=f"{operation}, {where}",
                    what=what,
                    ends=ends(code),
                    inject=spoiled(operation, key, fault, in_parts=in_parts),
                    leaves=where in LEAVE,
                    uploads=operation == "CreateMultipartUpload" and what in UNHEARD,
                    short=(where, what) in SHORT,
                )

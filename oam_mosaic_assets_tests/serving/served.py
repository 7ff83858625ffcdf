"""Two builds that are served one after the other, and what serves them."""

from __future__ import annotations

import gzip
from contextlib import suppress
from pathlib import Path

import psutil

from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets_tests.core.archives import pieces_of
from oam_mosaic_assets_tests.servers.s3 import S3Server
from oam_mosaic_assets_tests.servers.tiles import Serving

FIRST = "20260115T030000Z-3f9c2a7d41be"
SECOND = "20260116T030000Z-aaaaaaaaaaaa"
TILE = "/globalcoverage/0/0/0"
KEYS = Keys()


def tile_of(archive: Path) -> bytes:
    pieces = pieces_of(archive)
    return gzip.decompress(pieces.packed(pieces.at(0, 0, 0)))


def children_of(server: Serving, name: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended since
            if child.name().startswith(name):
                found.append(child)
    return found


def settings_of(server: S3Server, bucket: str, endpoint: str) -> dict[str, str]:
    """The settings of a client that only reads a bucket: no access key."""
    return {
        "S3_BUCKET": bucket,
        "S3_ENDPOINT": endpoint,
        "S3_REGION": server.region,
        "STAC_ITEMS": "none.ndjson",
    }

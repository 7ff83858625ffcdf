"""How long it takes from a row committed in pgSTAC to an image that anyone can read.

    python benchmarks/latency.py ITEMS.ndjson.gz [--repeat N]

The catalogue and the servers are those of `pipeline.py`. Dagster's daemon runs with the sensor
`follow_catalogue` on, as in an installation. Each round moves an image to an empty place, and asks the
public archive, by range requests, for the tile there until the tile draws it.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline

GIVEN_UP = 900.0
"""Seconds after which the benchmark gives up on a round."""

ASKED_EVERY = 0.5
"""Seconds between two attempts to read the image."""

ZOOM = 12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=Path, help="newline-delimited STAC items, plain or gzip")
    parser.add_argument("--repeat", type=int, default=3, help="rounds, one after another")
    stated = parser.parse_args()
    seconds = measure(stated.items, stated.repeat)
    print(f"from commit to readable, s: {', '.join(f'{each:.0f}' for each in seconds)}")


def measure(items: Path, repeat: int) -> list[float]:
    from oam_mosaic_assets_tests.automation.live_dagster import environment_of, running_daemon
    from oam_mosaic_assets_tests.servers.buckets import new_bucket
    from oam_mosaic_assets_tests.servers.ceph import running_ceph
    from oam_mosaic_assets_tests.servers.pgstac_items import load_items
    from oam_mosaic_assets_tests.servers.postgres import PRODUCTION_PGSTAC, running_postgres

    with running_postgres() as postgres, running_ceph() as s3, tempfile.TemporaryDirectory() as folder:
        database = postgres.create_pgstac("latency", PRODUCTION_PGSTAC)
        catalogue = list(pipeline.read(items))
        load_items(database, catalogue)
        bucket = new_bucket(s3)
        environment = environment_of(
            Path(folder),
            PG_DSN=database.dsn,
            S3_ENDPOINT=s3.endpoint,
            S3_BUCKET=bucket,
            S3_ACCESS_KEY=s3.access_key,
            S3_SECRET_KEY=s3.secret_key,
            ZOOM_MAX="15",
            FOLLOW_CATALOGUE="true",
        )
        command = Path(sys.executable).with_name("oam-mosaic")
        subprocess.run([command, "build"], env=environment, cwd=folder, check=True)
        archive = f"{s3.endpoint}/{bucket}/{pipeline.ARCHIVE}"
        taken = []
        with running_daemon(Path(folder), environment):
            for number in range(repeat):
                item = placed(catalogue[number], lon=-140.0 + number, lat=-50.0)
                load_items(database, [item])
                taken.append(waited(lambda item=item: is_readable(archive, item)))
                print(f"round {number}: {taken[-1]:.0f} s", file=sys.stderr, flush=True)
        return taken


def placed(item: dict[str, Any], *, lon: float, lat: float) -> dict[str, Any]:
    """The item, moved to a square of 0.01 degrees in the South Pacific."""
    sides = [(0.0, 0.0), (0.01, 0.0), (0.01, 0.01), (0.0, 0.01), (0.0, 0.0)]
    ring = [[lon + east, lat + north] for east, north in sides]
    return item | {"geometry": {"type": "Polygon", "coordinates": [ring]}}


def is_readable(archive: str, item: dict[str, Any]) -> bool:
    """Whether the public archive draws the item in its place, read as a map would read it."""
    import numpy as np
    import requests
    from pmtiles.reader import Reader

    from oam_mosaic_assets.core.grid import to_tiles

    def ranged(start: int, length: int) -> bytes:
        wanted = {"Range": f"bytes={start}-{start + length - 1}"}
        return requests.get(archive, headers=wanted, timeout=30).content

    middle = np.array([item["geometry"]["coordinates"][0][0]]) + 0.005
    x, y = np.floor(to_tiles(middle, ZOOM)[0]).astype(int).tolist()
    try:
        tile = Reader(ranged).get(ZOOM, x, y)
    except Exception:  # noqa: BLE001  # the archive may be replaced between two requests
        return False
    return tile is not None and item["id"].encode() in gzip.decompress(tile)


def waited(is_done: Callable[[], bool]) -> float:
    """Wait until it is done; returns how many seconds that took."""
    begin = time.monotonic()
    while not is_done():
        if time.monotonic() - begin > GIVEN_UP:
            sys.exit(f"not readable after {GIVEN_UP:.0f} s")
        time.sleep(ASKED_EVERY)
    return time.monotonic() - begin


if __name__ == "__main__":
    main()

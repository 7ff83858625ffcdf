"""What imagery costs, against the plain way: a rio-tiler `mosaic_reader` over all COGs that touch a tile.

    python benchmarks/imagery.py FOLDER [--cogs N] [--way ours|plain]

In an environment of requirements-benchmark.lock. The COGs are made once in the folder and served with 20 ms
of latency by a process of its own, which counts requests and bytes. Seconds are those of the processors, of
all processes of each way. Memory is the largest sum of what all processes of this project hold, as the
kernel shares it out (PSS).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import resource
import socketserver
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import shapely

LATENCY = 0.02
WORKERS = 2
SEED = 7
CITIES = (
    (36.8, -1.3),
    (85.3, 27.7),
    (-72.3, 18.5),
    (39.2, -6.8),
    (90.4, 23.8),
    (-61.4, 15.4),
    (35.0, -15.8),
    (5.1, 52.1),
)


def make(folder: Path, count: int) -> list[dict]:
    """Campaigns in eight cities: drone flights of some hundred metres, and every fourth a scene of 5 km."""
    from rasterio.crs import CRS
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin
    from rasterio.warp import transform_bounds
    from rio_cogeo.cogeo import cog_translate
    from rio_cogeo.profiles import cog_profiles

    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)  # noqa: S311
    noise = np.random.default_rng(SEED)
    found = []
    for n in range(count):
        west, south = CITIES[n % len(CITIES)]
        is_scene = n % 4 == 3
        zone = int((west + 180) // 6) + 1
        crs = CRS.from_epsg((32600 if south > 0 else 32700) + zone)
        pixel, side = (2.5, 2000) if is_scene else (rng.choice([0.1, 0.2, 0.5]), 2000)
        from rasterio.warp import transform

        (east,), (north,) = transform(
            "EPSG:4326", crs, [west + rng.uniform(-0.05, 0.05)], [south + rng.uniform(-0.05, 0.05)]
        )
        path = folder / f"{n:05}.tif"
        if not path.exists():
            coarse = noise.integers(30, 226, (3, 125, 125), dtype=np.uint8)
            bands = np.kron(coarse, np.ones((1, 16, 16), np.uint8)) ^ noise.integers(
                0, 8, (3, 2000, 2000), dtype=np.uint8
            )
            with MemoryFile() as memory:
                with memory.open(
                    driver="GTiff",
                    width=side,
                    height=side,
                    count=3,
                    dtype="uint8",
                    crs=crs,
                    transform=from_origin(east, north, pixel, pixel),
                ) as made:
                    made.write(bands)
                cog_translate(
                    memory.name,
                    path,
                    cog_profiles.get("jpeg"),
                    quiet=True,
                    in_memory=True,
                    overview_resampling="average",
                )
        bounds = transform_bounds(crs, "EPSG:4326", east, north - side * pixel, east + side * pixel, north)
        found.append({"path": path.name, "bounds": bounds, "gsd": pixel})
    return found


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256


def serve(folder: str, port: multiprocessing.Queue, counts) -> None:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            time.sleep(LATENCY)
            path = Path(folder) / self.path.lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                with lock:
                    counts[0] += 1
                return
            size = path.stat().st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = (int(asked[1]), min(int(asked[2]), size - 1)) if asked else (0, size - 1)
            body = b""
            if self.command == "GET":
                with path.open("rb") as file:
                    file.seek(start)
                    body = file.read(end + 1 - start)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            self.send_header("Content-Length", str(end + 1 - start))
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            self.wfile.write(body)
            with lock:
                counts[0] += 1
                counts[1] += len(body)

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        port.put(server.server_address[1])
        server.serve_forever()


@contextmanager
def served(folder: Path):
    ports, counts = multiprocessing.Queue(), multiprocessing.Array("q", 2)
    process = multiprocessing.Process(target=serve, args=(str(folder), ports, counts), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{ports.get(timeout=30)}", counts
    finally:
        process.terminate()
        process.join()


class Memory(threading.Thread):
    """Watches what this process and its children hold."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.going, self.skip, self.cpu = 0, True, set(), 0.0

    def run(self) -> None:
        while self.going:
            self.most = max(self.most, sum(_pss(pid) for pid in _family(os.getpid()) if pid not in self.skip))
            time.sleep(0.05)
        self.cpu = time.thread_time()  # watching is no part of what is watched


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it ended meanwhile
            found += [each for child in task.read_text().split() for each in _family(int(child))]
    return found


def _pss(pid: int) -> int:
    try:
        return (
            int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1])
            * 1024
        )
    except (OSError, TypeError):
        return 0


def cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def ours(host: str, cogs: list[dict], home: Path, changed: int = 0) -> dict:
    from oam_mosaic_assets.core.imagery.recipe import Image, Recipe
    from oam_mosaic_assets.gateways.folder_store import FolderStore
    from oam_mosaic_assets.gateways.imagery.addresses import Rules
    from oam_mosaic_assets.gateways.imagery.partition import Budget
    from oam_mosaic_assets.gateways.imagery.workers import Workers
    from oam_mosaic_assets.gateways.imagery_blocks import Partition, partitions_of

    images = [
        Image(
            id=each["path"],
            footprint=shapely.box(*each["bounds"]),
            asset=f"http://{host}/{each['path']}",
            gsd=each["gsd"],
        )
        for each in cogs
    ]
    for each in range(changed):
        images[each] = replace(images[each], updated=datetime.now(UTC))
    rules, recipe, store = Rules(frozenset({host})), Recipe(), FolderStore(home)
    partitions = partitions_of([each.footprint for each in images])
    scratch, size, made = home.with_name(home.name + "-scratch"), 0, 0
    with Workers(rules, {"seconds": 90.0}, count=WORKERS) as workers:
        for tile, members in partitions.items():
            folder = scratch / f"{tile.x}-{tile.y}-{time.monotonic_ns()}"
            folder.mkdir(parents=True)
            partition = Partition(store, "imagery/", tile, recipe, rules)
            tally = partition.build([images[each] for each in members], workers, folder, Budget())
            assert not tally.skipped, tally.skipped
            made += tally.made
            path = partition.fetch(partition.state().tiles, folder)
            size += path.stat().st_size
            subprocess.run(["rm", "-r", folder], check=True)
    return {"archive": size, "made": made}


def plain_way(host: str, cogs: list[dict]) -> dict:
    from morecantile import tms
    from rio_tiler.errors import EmptyMosaicError
    from rio_tiler.io import Reader
    from rio_tiler.mosaic import mosaic_reader

    grid = tms.get("WebMercatorQuad")
    order = sorted(cogs, key=lambda each: (each["gsd"], each["path"]))
    wanted: dict[tuple, list[str]] = {}
    for each in order:
        for zoom in range(6, 15):
            for tile in grid.tiles(*each["bounds"], zooms=zoom):
                wanted.setdefault((tile.z, tile.x, tile.y), []).append(f"http://{host}/{each['path']}")

    def read(source: str, x: int, y: int, z: int):
        with Reader(source) as image:
            return image.tile(x, y, z)

    def draw(item) -> int:
        (z, x, y), sources = item
        try:
            image, _ = mosaic_reader(sources, read, x, y, z, threads=0)
        except EmptyMosaicError:
            return 0
        return len(image.render(img_format="PNG"))

    os.environ.update(
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        CPL_VSIL_CURL_ALLOWED_EXTENSIONS=".tif",
        GDAL_HTTP_MERGE_CONSECUTIVE_RANGES="YES",
    )
    with ThreadPoolExecutor(WORKERS) as pool:
        return {"archive": sum(pool.map(draw, sorted(wanted.items()))), "made": len(wanted)}


def measured(counts, work, *, skip: set[int] = frozenset()) -> dict:
    counts[0] = counts[1] = 0
    memory = Memory()
    memory.skip = skip
    memory.start()
    clock, before = time.monotonic(), cpu()
    found = work()
    memory.going = False
    memory.join()
    return {
        "cpu_s": round(cpu() - before - memory.cpu, 2),
        "wall_s": round(time.monotonic() - clock, 2),
        "requests": counts[0],
        "MB": round(counts[1] / 1e6, 2),
        "memory_MB": round(memory.most / 1e6),
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where COGs and results are kept")
    parser.add_argument("--cogs", type=int, default=80, help="images")
    parser.add_argument("--way", choices=["ours", "plain"], action="append", help="one of both alone")
    stated = parser.parse_args()
    folder, count, ways = stated.folder, stated.cogs, stated.way or ["ours", "plain"]
    cogs = make(folder / "cogs", count)
    home = folder / f"store-{count}-{time.time_ns()}"
    with served(folder / "cogs") as (host, counts):
        servers = {each.pid for each in multiprocessing.active_children()}
        runs = {}
        if "ours" in ways:
            runs["all"] = measured(counts, lambda: ours(host, cogs, home), skip=servers)
            runs["nothing changed"] = measured(counts, lambda: ours(host, cogs, home), skip=servers)
            runs["one changed"] = measured(counts, lambda: ours(host, cogs, home, changed=1), skip=servers)
        if "plain" in ways:
            runs["plain"] = measured(counts, lambda: plain_way(host, cogs), skip=servers)
    for name, run in runs.items():
        print(f"{name:16}", json.dumps(run))


if __name__ == "__main__":
    main()

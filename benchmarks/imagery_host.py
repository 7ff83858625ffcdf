"""Synthetic COGs, and a host that serves them and counts requests and bytes."""

from __future__ import annotations

import multiprocessing
import random
import re
import socketserver
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np

LATENCY = 0.02
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
    """Make COGs around eight cities: drone flights 200 m to 1 km across, and every fourth a 5 km scene."""
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

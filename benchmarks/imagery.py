"""What imagery costs, against the plain way: a rio-tiler `mosaic_reader` over all COGs that touch a tile.

    python benchmarks/imagery.py FOLDER [--cogs N] [--way ours|plain] [--plain-in threads|processes]

Needs the environment of requirements-benchmark.lock. The COGs are made once, in the folder, and served with
20 ms of latency by a separate process, which counts requests and bytes. CPU seconds and memory are those
of all other processes; memory is their peak total, with shared pages divided among them (PSS).

Both ways have two workers. In the plain way these are threads of one process, which share GDAL's cache of the
COGs, or processes with a cache each. In ours they are always processes. What this process imports is left out
of both; what worker processes import counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import shapely
from imagery_host import make, served
from morecantile import tms
from rio_tiler.errors import EmptyMosaicError
from rio_tiler.io import Reader
from rio_tiler.mosaic import mosaic_reader

from oam_mosaic_assets.core.imagery.recipe import Image, Recipe
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets.gateways.imagery.workers import Workers
from oam_mosaic_assets.gateways.imagery_blocks import Partition
from oam_mosaic_assets_tests.gateways.imagery.bench import partitions_of

WORKERS = 2


class Memory(threading.Thread):
    """Watches the memory of this process and its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.going, self.skip, self.cpu = 0, True, set(), 0.0

    def run(self) -> None:
        while self.going:
            self.most = max(self.most, sum(_pss(pid) for pid in _family(os.getpid()) if pid not in self.skip))
            time.sleep(0.05)
        self.cpu = time.thread_time()  # to be subtracted: watching is not what is measured


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
            touching = [images[each] for each in members]
            tally = partition.build(touching, workers, folder, Budget(), taken_down=frozenset)
            assert not tally.skipped, tally.skipped
            made += tally.made
            path = partition.fetch(partition.state().tiles, folder)
            size += path.stat().st_size
            subprocess.run(["rm", "-r", folder], check=True)
    return {"archive": size, "made": made}


def plain_way(host: str, cogs: list[dict], kind: str) -> dict:
    grid = tms.get("WebMercatorQuad")
    order = sorted(cogs, key=lambda each: (each["gsd"], each["path"]))
    wanted: dict[tuple, list[str]] = {}
    for each in order:
        for zoom in range(6, 15):
            for tile in grid.tiles(*each["bounds"], zooms=zoom):
                wanted.setdefault((tile.z, tile.x, tile.y), []).append(f"http://{host}/{each['path']}")
    os.environ.update(
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        CPL_VSIL_CURL_ALLOWED_EXTENSIONS=".tif",
        GDAL_HTTP_MERGE_CONSECUTIVE_RANGES="YES",
    )
    pool = (
        ThreadPoolExecutor(WORKERS)
        if kind == "threads"
        else ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn"))
    )
    with pool:
        return {"archive": sum(pool.map(draw, sorted(wanted.items()))), "made": len(wanted)}


def draw(item: tuple[tuple[int, int, int], list[str]]) -> int:
    """Draw one tile; returns its size in bytes."""
    (z, x, y), sources = item
    try:
        image, _ = mosaic_reader(sources, read, x, y, z, threads=0)
    except EmptyMosaicError:
        return 0
    return len(image.render(img_format="PNG"))


def read(source: str, x: int, y: int, z: int):
    with Reader(source) as image:
        return image.tile(x, y, z)


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
    parser.add_argument(
        "--plain-in", choices=["threads", "processes"], action="append", help="one of both alone"
    )
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
            for kind in stated.plain_in or ["threads", "processes"]:
                runs[f"plain, {kind}"] = measured(
                    counts, lambda kind=kind: plain_way(host, cogs, kind), skip=servers
                )
    for name, run in runs.items():
        print(f"{name:17}", json.dumps(run))


if __name__ == "__main__":
    main()

"""The whole chain against the plain sequence it replaced, on the same catalogue, in one run.

    python benchmarks/pipeline.py ITEMS.ndjson.gz [--repeat N] [--json FILE]

Loads the items into a real pgSTAC and publishes to a real S3 server, both as the tests run them. The plain
sequence: one query, one GeoJSON file, one tippecanoe call. Ours: the job `global_mosaic`, audit and
publication included, Dagster's own start-up left out. Each runs in its own process; compare the ratios, as
the machine may be shared. Memory is that of all Python processes together, and of tippecanoe.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil

SAMPLED_EVERY = 0.1
"""Seconds between two samples of the memory of all processes."""

ARCHIVE = "global-mosaic.pmtiles"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=Path, help="newline-delimited STAC items, plain or gzip")
    parser.add_argument(
        "--repeat", type=int, default=1, help="runs of each, taken in turn; medians are compared"
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--only", choices=["plain", "ours"], help=argparse.SUPPRESS)
    stated = parser.parse_args()
    if stated.only:
        print(json.dumps({"plain": plain, "ours": ours}[stated.only]()))
        return
    figures = compare(stated.items, stated.repeat)
    show(figures)
    if stated.json:
        stated.json.write_text(json.dumps(figures, indent=2) + "\n")


def compare(items: Path, repeat: int) -> dict[str, list[dict[str, Any]]]:
    from oam_mosaic_assets_tests.servers.buckets import new_bucket
    from oam_mosaic_assets_tests.servers.ceph import running_ceph
    from oam_mosaic_assets_tests.servers.pgstac_items import load_items
    from oam_mosaic_assets_tests.servers.postgres import PRODUCTION_PGSTAC, running_postgres

    with running_postgres() as postgres, running_ceph() as s3, tempfile.TemporaryDirectory() as folder:
        database = postgres.create_pgstac("benchmark", PRODUCTION_PGSTAC)
        load_items(database, read(items))
        figures: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": []}
        for number in range(repeat):
            for name, measured in figures.items():
                home = Path(folder) / f"{name}-{number}"
                (home / "dagster").mkdir(parents=True)
                shutil.copy(Path(__file__).parents[1] / "dagster.yaml", home / "dagster")
                environment = {
                    "PG_DSN": database.dsn,
                    "S3_ENDPOINT": s3.endpoint,
                    "S3_BUCKET": new_bucket(s3),
                    "S3_ACCESS_KEY": s3.access_key,
                    "S3_SECRET_KEY": s3.secret_key,
                    "MOSAIC_SCRATCH": str(home / "scratch"),
                    "DAGSTER_HOME": str(home / "dagster"),
                    "TMPDIR": str(home),
                    "LOG_LEVEL": "WARNING",
                }
                measured.append(measure(name, items, home, {**os.environ, **environment}))
    return figures


def measure(
    name: str, items: Path, home: Path, environment: dict[str, str], group: Path | None = None
) -> dict[str, Any]:
    """Run one of the two in its own process; returns its figures, with the peak memory of all it started.

    Args:
        group: folder of a control group to run it in; then `own_mib` is the peak memory of all its processes
            apart from pages of files.
    """
    join = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / "cgroup.procs")] if group else []
    with subprocess.Popen(
        [*join, sys.executable, __file__, str(items), "--only", name],
        env=environment,
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        peaks: dict[str, float] = {}
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            sizes: dict[str, float] = {}
            with suppress(psutil.NoSuchProcess):
                for each in [watched, *watched.children(recursive=True)]:
                    side = "python" if each.name().startswith(("python", "oam-mosaic")) else "other"
                    sizes[side] = sizes.get(side, 0.0) + each.memory_info().rss / 2**20
            if group:
                sizes["own"] = own_memory(group) / 2**20
            peaks |= {side: max(size, peaks.get(side, 0.0)) for side, size in sizes.items()}
            time.sleep(SAMPLED_EVERY)
        answer = process.stdout.read()
    if process.returncode:
        sys.exit(f"{name} failed with exit code {process.returncode}")
    figures: dict[str, Any] = json.loads(answer.splitlines()[-1])
    # the kernel recorded the peak of the process itself, sampling that of all processes together
    return figures | {
        "python_mib": max(peaks["python"], figures["python_mib"]),
        "tippecanoe_mib": peaks.get("other", 0.0),  # not started, if nothing changed
        **({"own_mib": peaks["own"]} if group else {}),
    }


def own_memory(group: Path) -> int:
    """Bytes that a control group (version 1 or 2) holds apart from pages of files."""
    stated = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(stated.get("total_rss") or stated["anon"])


def read(path: Path) -> Iterator[dict[str, Any]]:
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as lines:
        yield from map(json.loads, lines)


def plain() -> dict[str, Any]:
    """The sequence of the previous job, with its flags."""
    import psycopg

    from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe

    clock = Clock()
    with psycopg.connect(os.environ["PG_DSN"]) as connection, open("footprints.geojson", "w") as geojson:
        rows = connection.execute(
            "SELECT id, ST_AsGeoJSON(geometry)::json FROM pgstac.items WHERE collection = 'openaerialmap'"
            " ORDER BY content->>'datetime'"
        )
        for name, geometry in rows:
            feature = {"type": "Feature", "properties": {"id": name}, "geometry": geometry}
            geojson.write(json.dumps(feature) + "\n")
    subprocess.run(
        [
            find_tippecanoe(), "-o", ARCHIVE, "--minimum-zoom=0", "--maximum-zoom=15",
            "--drop-densest-as-needed", "--quiet", "footprints.geojson",
        ],
        stderr=subprocess.DEVNULL,
        check=True,
    )  # fmt: skip
    return clock.read(archive=Path(ARCHIVE).stat().st_size)


def ours() -> dict[str, Any]:
    """The job, as `oam-mosaic build` runs it."""
    from oam_mosaic_assets.automation.jobs import PLAIN_LOG
    from oam_mosaic_assets.cli.build import instance_at
    from oam_mosaic_assets.definitions import build_definitions
    from oam_mosaic_assets.gateways.from_settings import store_of
    from oam_mosaic_assets.gateways.releases import Releases
    from oam_mosaic_assets.settings import Settings

    settings = Settings.read()
    job = build_definitions(settings).resolve_job_def("global_mosaic")
    with instance_at(settings.dagster_home) as instance:
        clock = Clock()
        result = job.execute_in_process(instance=instance, run_config=PLAIN_LOG)
        spent = clock.read()
        run = instance.get_run_stats(result.run_id)
        # leave out what Dagster records of the run before it starts
        spent["wall"] = run.end_time - run.start_time
        found = Releases(store_of(settings), settings.keys).current()
        assert found is not None
        stages = {
            name.removeprefix("seconds: "): value.value
            for each in result.asset_materializations_for_node("published_mosaic")  # none, if nothing changed
            for name, value in each.metadata.items()
            if name.startswith("seconds: ")
        }
        return spent | {
            "archive": found[0].size,
            "images": found[0].images,
            "set_aside": found[0].set_aside,
            "seconds": stages,
        }


class Clock:
    """Wall time, CPU time of this process and its children, and this process's peak memory."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = self._cpu_now()

    def read(self, **more: Any) -> dict[str, Any]:
        return {
            "wall": time.perf_counter() - self._wall,
            "cpu": self._cpu_now() - self._cpu,
            "python_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **more,
        }

    @staticmethod
    def _cpu_now() -> float:
        spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in spent)


def show(figures: dict[str, list[dict[str, Any]]]) -> None:
    print(f"{'':<22}{'plain':>12}{'ours':>12}{'ratio':>8}")
    for name, unit in (
        ("wall", "s"),
        ("cpu", "s"),
        ("python_mib", "MiB"),
        ("tippecanoe_mib", "MiB"),
        ("archive", "B"),
    ):
        before, now = (median(each[name] for each in figures[who]) for who in ("plain", "ours"))
        print(f"{name + ', ' + unit:<22}{before:>12,.1f}{now:>12,.1f}{now / before:>8.2f}")
    last = figures["ours"][-1]
    print(f"\n{last['images']:,} images drawn, {last['set_aside']:,} set aside")
    print("stages, s: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in last["seconds"].items()))


if __name__ == "__main__":
    main()

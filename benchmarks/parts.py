"""A full build with its map tiled in one step, and in several: time and memory.

    python benchmarks/parts.py ITEMS.ndjson.gz [--parts N] [--repeat N]

Makes only the mosaic, from a file of items, and publishes it to a real S3 server, as the tests run it: in one
step with one tippecanoe, or with two; in steps run by a single process; in steps that are processes. The
archives must be identical. CPU and memory are those of all processes, memory as their peak total (PSS);
`tiling` lasts from the start of the archive's first step to the end of its last.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from pipeline import SAMPLED_EVERY, Clock, read

WAYS = {
    "one step, one tippecanoe": {"BUILD_PROCESSES": "1"},
    "one step, two tippecanoe": {"BUILD_PROCESSES": "2"},
    "parts, in one process": {"BUILD_PARTS": "{}"},
    "parts, in processes": {"BUILD_PARTS": "{}", "BUILD_EXECUTOR": "multiprocess"},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=Path, help="newline-delimited STAC items, plain or gzip")
    parser.add_argument("--parts", type=int, default=4, help="how many parts")
    parser.add_argument(
        "--repeat", type=int, default=1, help="runs of each, taken in turn; medians are shown"
    )
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    stated = parser.parse_args()
    if stated.only:
        print(json.dumps(build()))
        return
    show(compare(stated.items, stated.parts, stated.repeat))


def compare(items: Path, parts: int, repeat: int) -> dict[str, list[dict[str, Any]]]:
    from oam_mosaic_assets_tests.servers.buckets import new_bucket
    from oam_mosaic_assets_tests.servers.ceph import running_ceph

    figures: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with running_ceph() as s3, tempfile.TemporaryDirectory() as folder:
        catalogue = Path(folder) / "items.ndjson"
        with catalogue.open("w") as lines:
            lines.writelines(json.dumps(each) + "\n" for each in read(items))
        for number in range(repeat):
            for way, settings in WAYS.items():
                home = Path(folder) / f"{number} {way}"
                (home / "dagster").mkdir(parents=True)
                shutil.copy(Path(__file__).parents[1] / "dagster.yaml", home / "dagster")
                environment = {
                    "STAC_ITEMS": str(catalogue),
                    "S3_ENDPOINT": s3.endpoint,
                    "S3_BUCKET": new_bucket(s3),
                    "S3_ACCESS_KEY": s3.access_key,
                    "S3_SECRET_KEY": s3.secret_key,
                    "MOSAIC_PRODUCTS": "mosaic",
                    "MOSAIC_SCRATCH": str(home / "scratch"),
                    "DAGSTER_HOME": str(home / "dagster"),
                    "TMPDIR": str(home),
                    "LOG_LEVEL": "WARNING",
                    **{name: value.format(parts) for name, value in settings.items()},
                }
                figures[way].append(measure(items, home, {**os.environ, **environment}))
                print(f"{way}: {figures[way][-1]}", file=sys.stderr)
                shutil.rmtree(home)
    assert len({each["sha256"] for some in figures.values() for each in some}) == 1
    return figures


def measure(items: Path, home: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Build in a separate process."""
    command = [sys.executable, __file__, str(items), "--only"]
    with subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        peak = elsewhere = 0.0
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                every = [watched, *watched.children(recursive=True)]
                peak = max(peak, sum(each.memory_full_info().pss for each in every) / 2**20)
                # steps are children of a fork server, which is not waited for: `Clock` misses their CPU time
                servers = [
                    each for each in watched.children() if "multiprocessing.forkserver" in str(each.cmdline())
                ]
                elsewhere = max(elsewhere, sum(sum(each.cpu_times()[:4]) for each in servers))
            time.sleep(SAMPLED_EVERY)
        figures: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    return {**figures, "cpu": figures["cpu"] + elsewhere, "mib": peak}


def build() -> dict[str, Any]:
    """Run the job with the environment's settings."""
    import dagster as dg

    from oam_mosaic_assets.automation.jobs import PLAIN_LOG
    from oam_mosaic_assets.cli.build import instance_at
    from oam_mosaic_assets.gateways.from_settings import store_of
    from oam_mosaic_assets.gateways.releases import Releases
    from oam_mosaic_assets.settings import Settings

    settings = Settings.read()
    with instance_at(settings.dagster_home) as instance:
        clock = Clock()
        job = dg.build_reconstructable_job(
            "parts", "chain", reconstructor_working_directory=str(Path(__file__).parent)
        )
        with dg.execute_job(job, instance, run_config=PLAIN_LOG) as result:
            assert result.success
        spent = clock.read()
        steps = [
            each
            for each in instance.get_run_step_stats(result.run_id)
            if each.step_key.startswith("global_mosaic_pmtiles")
        ]
        found = Releases(store_of(settings), settings.keys).current()
    assert found is not None
    tiling = max(each.end_time or 0.0 for each in steps) - min(each.start_time or 0.0 for each in steps)
    return {"wall": spent["wall"], "cpu": spent["cpu"], "tiling": tiling, "sha256": found[0].sha256}


def chain() -> Any:
    from oam_mosaic_assets.definitions import build_definitions
    from oam_mosaic_assets.settings import Settings

    return build_definitions(Settings.read()).resolve_job_def("global_mosaic")


def show(figures: Mapping[str, list[dict[str, Any]]]) -> None:
    print(f"{'':<24}{'wall, s':>10}{'tiling, s':>11}{'CPU, s':>9}{'MiB':>7}")
    for way, some in figures.items():
        wall, tiling, cpu, mib = (
            median(each[name] for each in some) for name in ("wall", "tiling", "cpu", "mib")
        )
        print(f"{way:<24}{wall:>10.1f}{tiling:>11.1f}{cpu:>9.1f}{mib:>7.0f}")


if __name__ == "__main__":
    main()

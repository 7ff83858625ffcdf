"""A run that is stopped while its map is tiled in parts ends, along with everything it started."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import psutil
import pytest

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.gateways.publisher_lock import holder_of
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets_tests.automation.live_dagster import (
    LiveDagster,
    running_dagster,
    running_program,
    until,
)
from oam_mosaic_assets_tests.chain import (
    Site,
    another_tippecanoe,
    dagster_instance,
    public_mosaic_is_whole,
    quick_folder,
    site_on,
    some_items,
    write_items,
)
from oam_mosaic_assets_tests.servers.ceph import CephServer

IMAGES = 300
CORNERS = 120
"""Of each image's outline: with so many, the GeoJSON is larger than 1 MiB; below that, the map is not cut."""

AT_ONCE = 2
NEVER = "0 0 29 2 *"
ANEW = {ANEW_TAG: "yes"}

COMMAND = ["dagster", "job", "execute", "-m", "oam_mosaic_assets.definitions", "-j", "global_mosaic"]
COMMAND += ["--tags", json.dumps(ANEW)]

ENDS_SECONDS = 60
"""Three are enough, unless the machine is busy."""


@pytest.fixture(scope="module")
def site(ceph: CephServer) -> Iterator[Site]:
    """An installation with its own Dagster instance, whose runs no other test restarts."""
    with dagster_instance() as instance, site_on(ceph, instance, IMAGES) as made:
        (made.folder / "tippecanoe").symlink_to(find_tippecanoe())
        made.environment |= {
            "TIPPECANOE": str(made.folder / "tippecanoe"),
            "BUILD_PARTS": "3",
            "BUILD_EXECUTOR": "multiprocess",
            "BUILD_PROCESSES": f"{AT_ONCE}",
            "MOSAIC_CRON": NEVER,
        }
        write_items(made.items, map(rounded, some_items(IMAGES)))
        yield made


def rounded(item: dict[str, Any]) -> dict[str, Any]:
    """The same image with a circle within its square as its outline."""
    west, south, east, north = item["bbox"]
    radius = (east - west) / 2
    angles = (2 * math.pi * each / CORNERS for each in range(CORNERS))
    ring = [
        [(west + east) / 2 + radius * math.cos(angle), (south + north) / 2 + radius * math.sin(angle)]
        for angle in angles
    ]
    return {**item, "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}}


@pytest.fixture
def dagster(site: Site) -> Iterator[LiveDagster]:
    _, environment = site.command_line()
    with quick_folder() as folder, running_dagster(folder, environment) as running:
        yield running


def test_a_run_that_is_terminated_in_the_ui_leaves_nothing(site: Site, dagster: LiveDagster) -> None:
    before = site.published()
    with endless_tippecanoe(site) as drawing:
        run = dagster.launch("global_mosaic", tags=ANEW)
        until(lambda: len(drawing()) == AT_ONCE, dagster.said)
        step, forkserver, process, *_ = drawing()[0].parents()
        started = {process, *process.children(recursive=True)}
        assert {step, forkserver, *drawing()} < started
        dagster.terminate(run)
        all_end(started)
        assert dagster.finished(run) == "CANCELED"
    assert site.stays_whole() == before
    assert site.recovers(before).sha256 == before.sha256


def by_ctrl_c(command: subprocess.Popen[bytes]) -> None:
    os.killpg(command.pid, signal.SIGINT)


def by_sigterm(command: subprocess.Popen[bytes]) -> None:
    command.terminate()


@pytest.mark.parametrize("stop", [by_ctrl_c, by_sigterm])
def test_a_command_that_is_stopped_ends_with_all_it_started(
    site: Site, stop: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    before = site.published()
    _, environment = site.command_line()
    with (
        quick_folder() as folder,
        endless_tippecanoe(site) as drawing,
        running_program(COMMAND, folder, environment) as run,
    ):
        until(lambda: len(drawing()) == AT_ONCE, (folder / "dagster.log").read_text)
        process = psutil.Process(run.pid)
        started = {process, *process.children(recursive=True)}
        assert {*drawing()} < started
        stop(run)
        all_end(started)
    (recorded,) = site.instance.get_runs(limit=1)
    assert recorded.status is dg.DagsterRunStatus.FAILURE
    assert public_mosaic_is_whole(site.store, site.keys) == before
    assert holder_of(site.store, site.keys.lock) is None
    # staged objects may remain: a cluster stops a part's pod in this way, and other steps go on using them;
    # scratch files may remain too, if both the terminal and the run stop a step, the second during clean-up
    assert site.recovers(before).sha256 == before.sha256


@contextmanager
def endless_tippecanoe(site: Site) -> Iterator[Callable[[], list[psutil.Process]]]:
    """Let tippecanoe never end: its last source is a pipe that nothing writes to.

    Yields a function that returns the tippecanoe processes started so far.
    """
    with quick_folder() as folder:
        program, numbers, pipe = folder / "tippecanoe", folder / "numbers", folder / "pipe"
        os.mkfifo(pipe)
        numbers.touch()
        program.write_text(
            f"#!/bin/sh\n[ \"$1\" = --version ] || {{ echo $$ >>'{numbers}'; set -- \"$@\" '{pipe}'; }}\n"
            f"exec '{find_tippecanoe()}' \"$@\"\n"
        )
        program.chmod(0o755)
        with another_tippecanoe(site.folder / "tippecanoe", str(program)):
            yield lambda: [psutil.Process(int(each)) for each in numbers.read_text().split()]


def all_end(processes: set[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, ENDS_SECONDS)
    assert not alive

"""Imagery on several hosts that share only S3 and PostgreSQL, one of which loses power."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
import shapely
import yaml

from oam_mosaic_assets.assets.imagery_blocks import imagery_blocks
from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets_tests.automation.live_dagster import program
from oam_mosaic_assets_tests.chain import REPOSITORY, Site, quick_folder, site_on, some_items, write_items
from oam_mosaic_assets_tests.faults.test_imagery import seen
from oam_mosaic_assets_tests.images import Writing, utm, write_image
from oam_mosaic_assets_tests.servers import hosts
from oam_mosaic_assets_tests.servers.hosts import PLAIN, Host, running_host
from oam_mosaic_assets_tests.servers.image_hosts import Request, ScriptedHost, scripted_host
from oam_mosaic_assets_tests.servers.postgres import PostgresServer
from oam_mosaic_assets_tests.servers.s3 import S3Server

NOTHING_READ = {"IMAGERY_BUDGET_HOURS": "0"}
PARTITIONS = 3
BY_DAGSTER = ["dagster", "asset", "materialize", "-m", "oam_mosaic_assets.definitions"]
BY_DAGSTER += ["--select", imagery_blocks.key.to_user_string(), "--partition"]
BY_COMMAND = ["oam-mosaic", "imagery"]


class Images:
    """A host with one image in each of several partitions; it can hold back its first answer."""

    def __init__(self, host: ScriptedHost, folder: Path) -> None:
        self.host, self._folder = host, folder
        self.is_held = False
        self.asked, self.go_on = threading.Event(), threading.Event()
        host.script = self._answer

    def items(self) -> list[dict[str, Any]]:
        found = some_items(PARTITIONS)
        for number, item in enumerate(found):
            of = utm(33, 500_000, 2_000_000 + 1_000_000 * number, 3.0, (300, 250))
            footprint = of.footprint()
            item |= {"geometry": json.loads(shapely.to_geojson(footprint)), "bbox": list(footprint.bounds)}
            write_image(self._folder / f"{number}.tif", of, Writing(bands=of.colours()))
            item["assets"]["visual"]["href"] = self.host.address(f"{number}.tif")
        return found

    def _answer(self, request: Request) -> None:
        if self.is_held and not self.asked.is_set():
            self.asked.set()
            self.go_on.wait(300)
            raise ConnectionAbortedError  # the client is dead
        request.give((self._folder / request.path.rpartition("/")[2]).read_bytes())


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    (tmp_path / "images").mkdir()
    with scripted_host() as host:
        made = Images(host, tmp_path / "images")
        yield made
        made.go_on.set()


def home_in(folder: Path) -> Path:
    """A DAGSTER_HOME that keeps its records where production does."""
    stated = yaml.safe_load((REPOSITORY / "deploy" / "dagster.yaml").read_text())
    home = folder / "home"
    home.mkdir(parents=True)
    kept = {name: stated[name] for name in ("telemetry", "storage")}
    (home / "dagster.yaml").write_text(yaml.safe_dump(kept))
    return home


@pytest.fixture
def records(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """Dagster's records in a database, to which the environment points during the test."""
    database = postgres.create_empty("hosts")
    for name in ("host", "port", "user", "password"):
        monkeypatch.setenv(f"DAGSTER_PG_{name.upper()}", str(getattr(database, name)))
    monkeypatch.setenv("DAGSTER_PG_DATABASE", database.name)
    with dg.DagsterInstance.from_config(str(home_in(tmp_path))) as instance:
        yield instance
    postgres.drop(database.name)


@pytest.fixture
def boot(moto: S3Server, postgres: PostgresServer, images: Images) -> Iterator[Callable[[str], Host]]:
    """A function that starts a host by name; the host reaches the store, the database and the images."""
    reach = [urlsplit(each).port or 0 for each in (moto.endpoint, images.host.address())]
    # Dagster's processes use sockets in it, and their paths are limited to about a hundred characters
    with quick_folder() as disks, ExitStack() as ends:

        def booted(name: str) -> Host:
            home_in(disks / name)
            return ends.enter_context(running_host(disks / name, [postgres.port, *reach]))

        yield booted


def read(host: Host, site: Site, command: list[str], partition: str) -> subprocess.Popen[bytes]:
    """Read a partition on a host; Dagster's own command runs the step in a separate process."""
    _, environment = site.command_line()
    own = {
        "DAGSTER_HOME": str(host.disk / "home"),
        "MOSAIC_SCRATCH": str(host.disk / "scratch"),
        "TMPDIR": str(host.disk),
        "STAC_ITEMS": str(host.disk / "nothing"),  # the kind of source decides where to publish
        "BUILD_EXECUTOR": "multiprocess",
    }
    return host.start(program(command[0]), *command[1:], partition, environment=environment | own)


def is_shut_in(host: Host, others_file: Path) -> None:
    """Check that a host reaches only the servers that it needs, and has no disk but its own."""
    with socket.create_server(("127.0.0.1", 0)) as another_server:
        assert all(host.connects(port) for port in host.reach)
        assert not host.connects(another_server.getsockname()[1])
    assert others_file.exists()
    assert not host.can("test", "-e", str(others_file))
    assert host.can("test", "-w", str(host.disk))
    assert not host.can("test", "-w", str(REPOSITORY))


def report_of(site: Site) -> Mapping[str, Any]:
    found = site.store.get_bytes(f"{site.keys.imagery}report.json")
    assert found is not None
    told: Mapping[str, Any] = json.loads(found[0])
    return told


@pytest.mark.parametrize("environment", ["true", ""])
def test_where_the_gate_runs_no_host_is_just_plain_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\necho forbidden >&2\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CI", environment)
    monkeypatch.setattr(hosts, "refusal", hosts.refusal.__wrapped__)  # not what was found out before

    meets = (
        pytest.raises(pytest.fail.Exception, match="no host can be simulated here: forbidden")
        if environment
        else pytest.warns(UserWarning, match=f"{PLAIN}: forbidden")
    )
    with meets, running_host(tmp_path, []) as host:
        assert not host.is_of_its_own


@pytest.mark.filterwarnings(f"default:{PLAIN}")
def test_hosts_that_share_no_disk_make_what_one_makes_though_one_loses_its_power(
    moto_site: Site,
    new_site: Site,
    records: dg.DagsterInstance,
    images: Images,
    boot: Callable[[str], Host],
) -> None:
    for site in (moto_site, new_site):
        site.environment |= {"MOSAIC_PRODUCTS": "imagery", "IMAGERY_PRIVATE_HOSTS": images.host.host}
        write_items(site.items, images.items())
    outcome = new_site.run()
    assert outcome.success, outcome.log
    alone = seen(new_site)
    assert report_of(new_site)["read"] == PARTITIONS

    outcome = moto_site.run(NOTHING_READ)
    assert outcome.success, outcome.log
    assert report_of(moto_site)["read"] == 0
    partitions = moto_site.instance.get_dynamic_partitions("imagery")
    assert len(partitions) == PARTITIONS
    records.add_dynamic_partitions("imagery", partitions)
    lost, *others = map(boot, ("lost", "first", "second"))
    images.is_held = True
    reading = read(lost, moto_site, BY_DAGSTER, partitions[0])
    while not images.asked.wait(0.5):
        assert reading.poll() is None, lost.said()
    running = [
        (host, read(host, moto_site, command, partition))
        for host, command, partition in zip(others, (BY_DAGSTER, BY_COMMAND), partitions[1:], strict=True)
    ]
    if lost.is_of_its_own:
        is_shut_in(lost, others[0].disk / "home" / "dagster.yaml")
        for host in others:
            is_shut_in(host, next(lost.disk.rglob("footprints.parquet")))
    lost.cut_power()
    images.go_on.set()
    third = boot("third")
    running.append((third, read(third, moto_site, BY_DAGSTER, partitions[0])))
    for host, each in running:
        assert each.wait(600) == 0, host.said()
    assert records.get_materialized_partitions(imagery_blocks.key) == {*partitions}

    outcome = moto_site.run(NOTHING_READ, tags={ANEW_TAG: "yes"})
    assert outcome.success, outcome.log
    report = report_of(moto_site)
    assert (report["read"], report["made"], report["requests"]) == (PARTITIONS, 0, 0)
    assert seen(moto_site) == alone


def test_a_pod_that_reads_images_needs_no_setting_but_those_that_its_manifest_gives_it(
    moto: S3Server, instance: dg.DagsterInstance, images: Images, tmp_path: Path
) -> None:
    manifest = yaml.safe_load((REPOSITORY / "deploy" / "kubernetes" / "imagery.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    with site_on(moto, instance, PARTITIONS) as site:
        site.environment |= {"MOSAIC_PRODUCTS": "imagery", "IMAGERY_PRIVATE_HOSTS": images.host.host}
        write_items(site.items, images.items())
        outcome = site.run(NOTHING_READ)
        assert outcome.success, outcome.log
        given = {
            each["name"]: each.get("value", site.environment.get(each["name"])) for each in container["env"]
        }
        of_the_image = {
            "PATH": f"{Path(program('oam-mosaic')).parent}{os.pathsep}{os.environ['PATH']}",
            "DAGSTER_HOME": str(tmp_path / "dagster"),
            "MOSAIC_SCRATCH": str(tmp_path / "scratch"),
            "JOB_COMPLETION_INDEX": "0",
        }
        pod = subprocess.run(
            container["args"],
            cwd=tmp_path,
            env=of_the_image | {name: value for name, value in given.items() if value is not None},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert pod.returncode == 0, pod.stderr
        outcome = site.run(NOTHING_READ, tags={ANEW_TAG: "yes"})
        assert outcome.success, outcome.log
        assert report_of(site)["read"] == 1, "of a pod's share"

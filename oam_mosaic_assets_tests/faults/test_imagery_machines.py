"""Imagery on several machines: processes that share S3 and PostgreSQL and no disk, one of them killed."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import shapely
import yaml

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets_tests.chain import REPOSITORY, Site, some_items, write_items
from oam_mosaic_assets_tests.faults.test_imagery import seen
from oam_mosaic_assets_tests.images import Writing, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Request, ScriptedHost, scripted_host
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase, PostgresServer

NOTHING_READ = {"IMAGERY_BUDGET_HOURS": "0"}
PARTITIONS = 3


class Images:
    """A host with an image in each of some partitions; the first answer may be kept back."""

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
            raise ConnectionAbortedError  # whoever asked is dead
        request.give((self._folder / request.path.rpartition("/")[2]).read_bytes())


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    (tmp_path / "images").mkdir()
    with scripted_host() as host:
        made = Images(host, tmp_path / "images")
        yield made
        made.go_on.set()


@pytest.fixture
def records(postgres: PostgresServer) -> Iterator[PgstacDatabase]:
    yield postgres.create_empty("machines")
    postgres.drop("machines")


def machine(site: Site, folder: Path, records: PgstacDatabase, partition: str) -> subprocess.Popen[str]:
    """Read a partition with nothing but a store, a database for records, and an empty disk."""
    folder.mkdir()
    (folder / "home").mkdir()
    storage = yaml.safe_load((REPOSITORY / "deploy" / "dagster.yaml").read_text())["storage"]
    (folder / "home" / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage}))
    command, environment = site.command_line("imagery", partition)
    own = {
        "DAGSTER_HOME": str(folder / "home"),
        "MOSAIC_SCRATCH": str(folder / "scratch"),
        "DAGSTER_PG_HOST": records.host,
        "DAGSTER_PG_PORT": str(records.port),
        "DAGSTER_PG_USER": records.user,
        "DAGSTER_PG_PASSWORD": records.password,
        "DAGSTER_PG_DATABASE": records.name,
        "TMPDIR": str(folder),
        "STAC_ITEMS": str(folder / "nothing"),  # names the kind of source, which tells where is published
    }
    return subprocess.Popen(
        command, env=environment | own, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def report_of(site: Site) -> Mapping[str, Any]:
    found = site.store.get_bytes(f"{site.keys.imagery}report.json")
    assert found is not None
    told: Mapping[str, Any] = json.loads(found[0])
    return told


def test_machines_that_share_no_disk_make_what_one_makes_though_one_is_killed(
    moto_site: Site, new_site: Site, images: Images, records: PgstacDatabase, tmp_path: Path
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
    with ExitStack() as ends:
        images.is_held = True
        killed = ends.enter_context(machine(moto_site, tmp_path / "killed", records, partitions[0]))
        ends.callback(killed.kill)
        while not images.asked.wait(0.5):
            assert killed.poll() is None, killed.communicate()[1]
        os.killpg(killed.pid, 9)
        images.go_on.set()
        running = [
            ends.enter_context(machine(moto_site, tmp_path / partition, records, partition))
            for partition in partitions
        ]
        for each in running:
            said = each.communicate(timeout=600)[1]
            assert each.returncode == 0, said
    outcome = moto_site.run(NOTHING_READ, tags={ANEW_TAG: "yes"})
    assert outcome.success, outcome.log
    report = report_of(moto_site)
    assert (report["read"], report["made"], report["requests"]) == (PARTITIONS, 0, 0)
    assert seen(moto_site) == alone

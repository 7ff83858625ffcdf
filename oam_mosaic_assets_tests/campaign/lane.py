"""One installation that faults are injected into: its servers, its builds, and what they leave."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import psutil

from oam_mosaic_assets.core.release import MANIFEST, Keys, Pointer
from oam_mosaic_assets.gateways.from_settings import store_of
from oam_mosaic_assets.gateways.publisher_lock import holder_of
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.live_dagster import environment_of, program
from oam_mosaic_assets_tests.campaign.builds import Build, CommandBuild
from oam_mosaic_assets_tests.campaign.dagster_runs import Dagster, DagsterBuild
from oam_mosaic_assets_tests.campaign.reader import Reader
from oam_mosaic_assets_tests.chain import public_mosaic_is_whole, quick_folder, some_items
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PgstacDatabase, PostgresServer, running_postgres
from oam_mosaic_assets_tests.servers.proxy import PASS, Proxy, running_proxy
from oam_mosaic_assets_tests.servers.s3_proxy import S3Proxy, running_s3_proxy

IMAGES: Final = 300


@dataclass(slots=True)
class Lane:
    """An installation: pgSTAC and a Ceph bucket, each behind a proxy; the programs; maybe a Dagster daemon.

    Attributes:
        catalogue_proxy: between the builds and PostgreSQL.
        proxy: between the builds and Ceph.
        dagster: set if builds are runs of Dagster's daemon.
    """

    folder: Path
    environment: dict[str, str]
    postgres: PostgresServer
    database: PgstacDatabase
    ceph: CephServer
    bucket: str
    catalogue_proxy: Proxy
    proxy: S3Proxy
    dagster: Dagster | None = None
    altered: int = 0
    begun: list[Build] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings.read(self.environment)

    @property
    def keys(self) -> Keys:
        return self.settings.keys

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def start(self, **settings: str) -> Build:
        """Start a build the lane's way: by Dagster if it has one, else by the command."""
        if self.dagster is None:
            return self.command(**settings)
        assert not settings
        build = DagsterBuild(self.dagster, self.dagster.live.launch("global_mosaic"), self.scratch)
        self.begun.append(build)
        return build

    def command(
        self,
        *,
        before: Sequence[str] = (),
        module: str | None = None,
        **settings: str,
    ) -> Build:
        """Start `oam-mosaic build` as a process.

        Args:
            before: a command that launches it.
            module: a Python module to run in place of the command.
            settings: environment variables on top of the lane's.
        """
        command = [program("python"), "-m", module] if module else [program("oam-mosaic")]
        log = self.folder / f"build-{len(self.begun)}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [*before, "setpriv", "--pdeathsig", "KILL", "--", *command, "build", "--anew"],
                env=self.environment | settings,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        build = CommandBuild(process, log)
        self.begun.append(build)
        return build

    def let_tippecanoe(self, script: str = 'exec "$real" "$@"') -> None:
        """Set, as a shell script, what tippecanoe does from now on; `$real` is the real program."""
        (self.folder / "tippecanoe.does").write_text(f"{script}\n")

    def alter_catalogue(self) -> None:
        """Move one image, so that the next mosaic differs from all earlier ones."""
        self.altered += 1
        (item,) = some_items(1)
        for corner in item["geometry"]["coordinates"][0]:
            corner[0] += self.altered * 0.01
        load_items(self.database, [item])

    def heal(self) -> None:
        """End every fault, kill running builds, and abandon uploads as builds would hours later."""
        self.proxy.forget()
        self.catalogue_proxy.set_fault(PASS)
        self.let_tippecanoe()
        for build in self.begun:
            if build.is_running():
                build.abandon()
        self.begun.clear()
        store_in(self.ceph, self.bucket).abandon_uploads("", older_than_seconds=0.0)

    def is_whole(self) -> Pointer:
        """Check, tile by tile, that everything public is whole; returns the pointer."""
        return public_mosaic_is_whole(store_of(self.settings), self.keys)

    def left_behind(self) -> list[str]:
        """Name what is neither public nor kept on purpose."""
        store, keys = store_in(self.ceph, self.bucket), self.keys
        present = [each.key for each in store.keys(keys.prefix)]
        released = [each.removeprefix(keys.releases_root) for each in present if keys.releases_root in each]
        builds = {each.split("/", 1)[0] for each in released}
        halves = [each for each in builds if keys.release(each, MANIFEST) not in present]
        staged = [each for each in present if each.startswith(keys.staging_root)]
        uploads = client_of(self.ceph).list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        found = {
            "process": self._processes(),
            "scratch folder": {each.with_suffix("") for each in self.scratch.glob("*")},  # or its lock
            "staged object": staged,
            "lock": [keys.lock] if holder_of(store, keys.lock) else [],
            "half release": halves,
            "unfinished upload": uploads,
        }
        return [f"{len(those)} {what}{'s' * (len(those) > 1)}" for what, those in found.items() if those]

    def _processes(self) -> list[int]:
        """Processes of builds: they have scratch files open, or name one on their command line."""
        found = []
        for each in psutil.process_iter():
            try:
                names = [*each.cmdline(), *(opened.path for opened in each.open_files())]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if any(name.startswith(str(self.scratch)) for name in names) and each.pid != os.getpid():
                found.append(each.pid)
        return found


@contextmanager
def running_lane(ceph: CephServer, *, with_dagster: bool) -> Iterator[Lane]:
    """An installation with its own servers, except Ceph; all of it ends with the block."""
    with ExitStack() as held:
        folder = held.enter_context(quick_folder())
        postgres = held.enter_context(running_postgres())
        database = postgres.create_pgstac("campaign")
        load_items(database, some_items(IMAGES))
        between = held.enter_context(running_proxy(f"http://{database.host}:{database.port}"))
        proxy = held.enter_context(running_s3_proxy(ceph.endpoint))
        bucket = new_bucket(ceph)
        environment = environment_of(
            folder,
            **replace(database, port=int(between.server_address[1])).environment,
            S3_BUCKET=bucket,
            S3_ENDPOINT=proxy.endpoint,
            S3_ACCESS_KEY=ceph.access_key,
            S3_SECRET_KEY=ceph.secret_key,
            TIPPECANOE=str(_a_tippecanoe(folder)),
            NO_PROXY="127.0.0.1",
            AWS_EC2_METADATA_DISABLED="true",
        )
        lane = Lane(folder, environment, postgres, database, ceph, bucket, between, proxy)
        lane.let_tippecanoe()
        if with_dagster:
            lane.dagster = held.enter_context(Dagster.running(folder, environment))
        yield lane


@contextmanager
def being_read(lane: Lane) -> Iterator[Reader]:
    """Build a first mosaic in a lane, then let a stranger read what is public during the block."""
    ended = lane.start().wait()
    if ended.how not in {"0", "SUCCESS"}:
        raise RuntimeError(f"there is no mosaic to begin with: {ended.said}")
    lane.heal()
    reader = Reader(f"{lane.ceph.endpoint}/{lane.bucket}", store_in(lane.ceph, lane.bucket), lane.keys)
    with reader.reading():
        yield reader


def _a_tippecanoe(folder: Path) -> Path:
    """A program that reports tippecanoe's version and otherwise does what `let_tippecanoe` set."""
    made = folder / "tippecanoe"
    made.write_text(
        f"#!/bin/sh\nreal='{find_tippecanoe()}'\n"
        f'[ "$1" = --version ] && exec "$real" --version\n. \'{folder}/tippecanoe.does\'\n'
    )
    made.chmod(0o755)
    return made

"""Run the whole chain as a maintainer does, and inspect what it left: for end-to-end tests.

- `Site`: one installation: its settings, its Dagster instance, and the resources a test replaces.
- `run_chain`: one run of a job, and its outcome.
- `public_mosaic_is_whole`, `nothing_left_behind`: what must be true whatever happened.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.pool import NullPool, QueuePool

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.automation.jobs import PLAIN_LOG
from oam_mosaic_assets.cli import main
from oam_mosaic_assets.cli.build import UNCAPTURED
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.drawn import read_drawn
from oam_mosaic_assets.core.release import MANIFEST, Keys, Pointer
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.gateways.from_settings import store_of
from oam_mosaic_assets.gateways.object_store import ObjectStore
from oam_mosaic_assets.gateways.publisher_lock import holder_of
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets.resources.failures import EXIT_CODE
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.servers.buckets import new_bucket
from oam_mosaic_assets_tests.servers.s3 import S3Server

REPOSITORY: Final = Path(__file__).parents[1]
"""Where `workspace.yaml` and `dagster.yaml` are."""

MEMORY: Final = Path("/dev/shm")  # noqa: S108  # it has the same permissions as /tmp
"""In memory: on a disk, Dagster's SQLite and the folder store would wait for it at every write."""


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A temporary folder, in memory where possible; removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix="mosaic-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@contextmanager
def dagster_instance(*, is_capturing: bool = False) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance like a maintainer's, with its own `DAGSTER_HOME`: its `root_directory`.

    Args:
        is_capturing: whether what runs print is kept, as it is not for the command's runs. For that, Dagster
            starts four processes beside each process that executes steps, two of them Python.
    """
    with quick_folder() as home:
        (home / "dagster.yaml").write_bytes((REPOSITORY / "dagster.yaml").read_bytes())
        ref = InstanceRef.from_dir(str(home), overrides={} if is_capturing else UNCAPTURED)
        with _revisions_kept(), dg.DagsterInstance.from_ref(ref) as instance:
            yield instance


@contextmanager
def _engines_kept() -> Iterator[None]:
    """Make Dagster keep a file's SQLAlchemy engine and connections for the duration of the block.

    Otherwise it creates both for every event it stores, compiles the SQL and reads the file's schema again:
    a quarter of a run's work. Each run has a file of its own, so compiled SQL is kept for all files.
    """
    make, kept = sqlalchemy.create_engine, dict[str, Engine]()

    def kept_or_made(address: str, **options: Any) -> Engine:
        if address not in kept:
            kept[address] = made = make(address, **{**options, "poolclass": QueuePool})
            made.dialect, made._compiled_cache = _compiled()
            patch.setattr(made, "dispose", lambda: None)  # Dagster calls it after each event
        return kept[address]

    with pytest.MonkeyPatch.context() as patch:
        for storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
            patch.setattr(storage, "create_engine", kept_or_made)
        try:
            yield
        finally:
            for each in kept.values():
                Engine.dispose(each)


@cache
def _compiled() -> tuple[Dialect, Any]:
    """A dialect of SQLite, and a cache of what was compiled for it, which SQLAlchemy looks up by dialect."""
    engine = sqlalchemy.create_engine("sqlite://", poolclass=NullPool)
    engine.connect().close()  # initialises the dialect
    return engine.dialect, engine._compiled_cache


@contextmanager
def _revisions_kept() -> Iterator[None]:
    """Make Alembic read Dagster's revisions once, not for the event file of each run, for the block.

    Reading them, which are the same each time, is a twentieth of a small run's work.
    """
    read, kept = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def kept_or_read(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in kept:
            kept[place] = read(config)
        return kept[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", kept_or_read)
        yield


def some_items(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Clean STAC items: small squares scattered over the world, each with an id of 24 hex digits.

    Args:
        count: how many.
        first: number of the first item; the same number always gives the same item.
    """
    return [_an_item(number) for number in range(first, first + count)]


def _an_item(number: int) -> dict[str, Any]:
    west, south, side = -170.0 + number * 37.3 % 340.0, -60.0 + number * 23.9 % 120.0, 0.02
    ring = [[west, south], [west + side, south], [west + side, south + side], [west, south + side]]
    name = hashlib.sha256(str(number).encode()).hexdigest()[:24]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": "openaerialmap",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "bbox": [west, south, west + side, south + side],
        "links": [],
        "properties": {
            "datetime": f"2024-03-01T10:{number % 60:02}:00Z",
            "title": f"Field {number}",
            "gsd": 0.05,
            "license": "CC-BY-4.0",
            "oam:producer_name": "A mapper",
            "oam:platform_type": "uav",
        },
        "assets": {"visual": {"type": "image/tiff", "href": f"https://images.invalid/{name}.tif"}},
    }


def write_items(path: Path, items: Iterable[Mapping[str, Any] | str]) -> None:
    """Write a catalogue as newline-delimited JSON; strings are written as they are."""
    rows = (item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in items)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        success: whether it succeeded.
        run_id: Dagster's id of the run.
        kind: the class of the error that a step failed with; empty if no step failed with one of ours.
        text: the failed step's message: what happened, and what to do.
        metadata: metadata of the failed blocking check and of the failure.
        exit_code: what the command line would exit with; None if the failure does not state it.
        failed_checks: names and descriptions of the blocking checks that failed.
        log: the run's console output.
    """

    success: bool
    run_id: str
    kind: str
    text: str
    metadata: Mapping[str, Any]
    exit_code: int | None
    failed_checks: Mapping[str, str]
    log: str

    @property
    def build(self) -> str:
        """The build that a failed check refers to."""
        return str(self.metadata["build"])


def run_chain(
    environment: Mapping[str, str],
    instance: dg.DagsterInstance,
    *,
    job: str = "global_mosaic",
    tags: Mapping[str, str] | None = None,
    **resources: Any,
) -> Outcome:
    """Run a job in this process, with the settings in the environment.

    Args:
        resources: overrides as for `build_definitions`; a `store` is used throughout.
    """
    log = io.StringIO()
    definitions = build_definitions(Settings.read(environment), log_to=log, **resources)
    with _engines_kept():
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, tags=dict(tags or {}), run_config=PLAIN_LOG, raise_on_error=False
        )
    failures = [
        event.step_failure_data.user_failure_data
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
    ]
    stated = next((failure for failure in failures if failure is not None), None)
    refused = [each for each in result.get_asset_check_evaluations() if not each.passed and each.blocking]
    metadata = {**(refused[0].metadata if refused else {}), **(stated.metadata if stated else {})}
    values = {name: value.value for name, value in metadata.items()}
    return Outcome(
        success=result.success,
        run_id=result.run_id,
        kind=str(values.get("kind", "")),
        text=(stated.description or "") if stated else "",
        metadata=values,
        exit_code=int(str(values[EXIT_CODE])) if EXIT_CODE in values else None,
        failed_checks={each.check_name: each.description or "" for each in refused},
        log=log.getvalue(),
    )


def published_from(
    items: Iterable[Mapping[str, Any] | str],
    home: Path,
    instance: dg.DagsterInstance,
    environment: Mapping[str, str],
) -> tuple[dict[str, Any], str]:
    """Publish a mosaic of these items to `home/store`, on an empty disk; returns its manifest and the log."""
    write_items(home / "items.ndjson", items)
    outcome = run_chain(
        {
            "STAC_ITEMS": str(home / "items.ndjson"),
            "MOSAIC_STORE": str(home / "store"),
            "MOSAIC_SCRATCH": str(home / "scratch"),
            **environment,
        },
        instance,
    )
    assert outcome.success, outcome.text
    pointer = json.loads((home / "store/mosaic/latest.json").read_bytes())
    manifest: dict[str, Any] = json.loads((home / "store" / pointer["manifest"]).read_bytes())
    return manifest, outcome.log


def public_mosaic_is_whole(store: ObjectStore, keys: Keys) -> Pointer:
    """Check as a stranger that every fixed key holds, whole, what the pointer says; returns the pointer."""
    content = store.read_publicly(keys.pointer)
    assert content is not None, f"{keys.pointer} is not public"
    pointer = Pointer.from_json(content)
    for key in (*keys.fixed_archives(), pointer.archive):
        content = store.read_publicly(key)
        assert content is not None, f"{key} is not public"
        assert hashlib.sha256(content).hexdigest() == pointer.sha256, f"{key} is not what the pointer says"
    assert images_of(content) == pointer.images
    for name, stated in pointer.products.items():
        for key in (*keys.fixed(name), stated["key"]):
            content = store.read_publicly(key)
            assert content is not None, f"{key} is not public"
            assert hashlib.sha256(content).hexdigest() == stated["sha256"], f"{key} is not what it should be"
    document = store.read_publicly(keys.tilejson)
    assert document is not None, f"{keys.tilejson} is not public"
    described = json.loads(document)
    assert described["build"] == pointer.build
    assert described["pmtiles"] == store.public_address(keys.archive)
    manifest = store.read_publicly(pointer.manifest)
    assert manifest is not None, f"{pointer.manifest} is not public"
    stated = json.loads(manifest)
    assert stated["archive"]["sha256"] == pointer.sha256
    assert stated["catalogued"] == pointer.images + sum(stated["set_aside"].values())
    return pointer


def images_of(archive: bytes) -> int:
    """Read every tile of an archive, none of which may be broken; returns the image count at max zoom."""
    with quick_folder() as folder:
        path = folder / "archive.pmtiles"
        path.write_bytes(archive)
        with open_archive(path) as opened:
            drawn = read_drawn(opened, None, layer=TilingPlan().layer)
            assert not drawn.fault_count, drawn.faults
            assert sum(drawn.tiles.values()) == opened.header["addressed_tiles_count"]
            return drawn.images[opened.header["max_zoom"]]


def nothing_left_behind(store: ObjectStore, keys: Keys, scratch: Path) -> None:
    """Check that no run left anything that is neither public nor kept on purpose."""
    staged = [each.key for each in store.keys(keys.staging_root)]
    assert not staged, f"staged objects are left: {staged}"
    assert holder_of(store, keys.lock) is None, "the publisher's lock is left"
    present = [each.key for each in store.keys(keys.releases_root)]
    builds = {key.removeprefix(keys.releases_root).split("/", 1)[0] for key in present}
    halves = [each for each in builds if keys.release(each, MANIFEST) not in present]
    assert not [each for each in halves if not each.startswith("foreign-")], f"half releases: {halves}"
    assert store.abandon_uploads("", older_than_seconds=0) == 0, "unfinished uploads are left"
    assert not scratch.exists() or not list(scratch.iterdir()), f"files are left in {scratch}"


def slow_tippecanoe(folder: Path, number: Path) -> str:
    """A program that writes its process id to `number`, then runs for longer than anyone waits."""
    program = folder / "slow-tippecanoe"
    program.write_text(
        f"#!/bin/sh\n[ \"$1\" = --version ] && exec '{find_tippecanoe()}' --version\n"
        f"echo $$ >'{number}'\nexec sleep 600\n"
    )
    program.chmod(0o755)
    return str(program)


@contextmanager
def another_tippecanoe(link: Path, program: str) -> Iterator[None]:
    """Point the link that TIPPECANOE names at another program until the block ends."""
    usual = link.readlink()
    link.unlink()
    link.symlink_to(program)
    try:
        yield
    finally:
        link.unlink()
        link.symlink_to(usual)


def is_running(number: int) -> bool:
    """Whether a process is running; a zombie has no command line."""
    try:
        return bool(Path(f"/proc/{number}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


@dataclass(slots=True)
class Site:
    """One installation of the project.

    Attributes:
        environment: its settings.
        instance: where its runs are recorded.
        folder: its files: `store`, `scratch`, `items.ndjson`, unless the environment says otherwise.
        resources: replacements for real resources, in every run.
    """

    environment: dict[str, str]
    instance: dg.DagsterInstance
    folder: Path
    resources: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {
            "MOSAIC_SCRATCH": str(self.folder / "scratch"),
            "ZOOM_MAX": "10",
            "MOSAIC_PRODUCTS": "mosaic",
            "SERVE_VIEWER": str(self.folder / "viewer"),  # never this clone's own, built or not
            **({} if "S3_BUCKET" in self.environment else {"MOSAIC_STORE": str(self.folder / "store")}),
            **self.environment,
        }

    @property
    def settings(self) -> Settings:
        return Settings.read(self.environment)

    @property
    def keys(self) -> Keys:
        return self.settings.keys

    @property
    def store(self) -> ObjectStore:
        """The real store, not what a test put in its place."""
        return store_of(self.settings)

    @property
    def items(self) -> Path:
        """The catalogue file, if it reads one."""
        return self.folder / "items.ndjson"

    def run(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        job: str = "global_mosaic",
        tags: Mapping[str, str] | None = None,
        **resources: Any,
    ) -> Outcome:
        """Run a job; the arguments apply to this run only."""
        stated = {**self.environment, **(environment or {})}
        return run_chain(stated, self.instance, job=job, tags=tags, **{**self.resources, **resources})

    def command_line(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """The command `oam-mosaic` and its environment, for a separate process that runs in `folder`."""
        known = {name.upper() for name in Settings.model_fields}
        environment = {name: value for name, value in os.environ.items() if name not in known}
        command = [str(Path(sys.executable).with_name("oam-mosaic")), *arguments]
        return command, {**environment, **self.environment, "DAGSTER_HOME": self.instance.root_directory}

    def command(self, *arguments: str) -> int:
        """Run the command `oam-mosaic` in this process; returns its exit code."""
        _, environment = self.command_line()
        with _engines_kept(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", environment)
            patch.chdir(self.folder)
            return main(arguments)

    def published(self) -> Pointer:
        """A public, whole mosaic: an earlier test's or, if that left none, a new one."""
        try:
            pointer = public_mosaic_is_whole(self.store, self.keys)
            nothing_left_behind(self.store, self.keys, self.settings.mosaic_scratch)
        except AssertionError:
            self.store.delete([each.key for each in self.store.keys("")])
            outcome = self.run()
            assert outcome.success, outcome.log
            return self.stays_whole()
        return pointer

    def stays_whole(self) -> Pointer:
        """Check that the public mosaic is whole and that nothing else is left; returns its pointer."""
        pointer = public_mosaic_is_whole(self.store, self.keys)
        nothing_left_behind(self.store, self.keys, self.settings.mosaic_scratch)
        return pointer

    def recovers(self, before: Pointer) -> Pointer:
        """Run again, now that the cause is gone, and check that a newer mosaic is public; returns it."""
        outcome = self.run(tags={ANEW_TAG: "yes"})
        assert outcome.success, outcome.log
        after = self.stays_whole()
        assert after.published_at > before.published_at
        return after


@contextmanager
def site_on(
    server: S3Server, instance: dg.DagsterInstance, images: int, bucket: str | None = None
) -> Iterator[Site]:
    """An installation that reads a file and publishes to a bucket, which is created if none is named."""
    with quick_folder() as folder:
        settings = {
            "STAC_ITEMS": str(folder / "items.ndjson"),
            "S3_BUCKET": bucket or new_bucket(server),
            "S3_ENDPOINT": server.endpoint,
            "S3_ACCESS_KEY": server.access_key,
            "S3_SECRET_KEY": server.secret_key,
        }
        made = Site(settings, instance, folder)
        write_items(made.items, some_items(images))
        yield made

"""Each step may run in its own process or on its own machine: every edge is an object in the store."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from oam_mosaic_assets.assets.published_mosaic import PUBLISHED
from oam_mosaic_assets.automation.executors import executor_of
from oam_mosaic_assets.core.product import BY_DEFAULT
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.conftest import IMAGES
from oam_mosaic_assets_tests.chain import Site, public_mosaic_is_whole, some_items, write_items

STEPS = {
    "stac_footprints",
    "footprints_geojson",
    "global_mosaic_pmtiles",
    "mosaic_audit",
    "details_geojson",
    "details_pmtiles",
    "details_audit",
    "exact_coverage_pmtiles",
    "exact_audit",
    "whole_coverage_pmtiles",
    "whole_audit",
    "density_cells",
    "density_pmtiles",
    "density_audit",
    "catalog_statistics",
    "statistics_audit",
    "catalog_changes",
    "changes_audit",
    "published_mosaic",
    "published_mosaic_mosaic_is_fresh",
}
"""The steps of a build of all default products."""

ONE_AT_A_TIME = {
    "execution": {
        "config": {
            "max_concurrent": 1,
            "start_method": {"forkserver": {"preload_modules": [__name__]}},
        }
    },
    "loggers": {"console": {}},
}


class DiskOfItsOwn(Scratch):
    """Scratch space as on a fresh machine: whatever an earlier step left is gone."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Scratch]:
        shutil.rmtree(self.root, ignore_errors=True)
        with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", temporary)
            patch.setattr(tempfile, "tempdir", None)  # it caches the previous folder
            with super().yield_for_execution(context) as scratch:
                yield scratch


def chain_on_many_machines(environment: dict[str, str]) -> dg.JobDefinition:
    """The job `global_mosaic` with another executor; each step rebuilds it in its own process."""
    settings = Settings.read(environment)
    scratch = DiskOfItsOwn(root=str(settings.mosaic_scratch))
    job = dg.define_asset_job(
        "chain_on_many_machines",
        selection=dg.AssetSelection.assets(PUBLISHED).upstream(),
        executor_def=dg.multiprocess_executor,
    )
    made = dg.Definitions.merge(build_definitions(settings, scratch=scratch), dg.Definitions(jobs=[job]))
    return made.resolve_job_def(job.name)


def test_every_step_may_run_in_a_process_with_an_empty_disk(site: Site) -> None:
    # passed on, not set: the steps are forked from a server that keeps the environment it was started with
    stated = {**site.environment, "MOSAIC_PRODUCTS": ",".join(each.word for each in BY_DEFAULT)}
    job = dg.build_reconstructable_job(__name__, chain_on_many_machines.__name__, (stated,))
    with dg.execute_job(job, site.instance, run_config=ONE_AT_A_TIME) as result:
        assert result.success
        started = site.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
    workers = {
        event.step_key: event.dagster_event.engine_event_data.metadata["pid"].value
        for event in started
        if event.dagster_event is not None
    }
    assert workers.keys() == STEPS
    assert len({*workers.values(), str(os.getpid())}) == len(STEPS) + 1, "each in a process of its own"
    site.stays_whole()


def test_the_steps_of_one_process_fetch_each_file_once(site: Site) -> None:
    """They do fetch it, although one of them stored it: what is audited is the object in the store."""
    site.published()  # so that there is something to reuse
    fetched: list[str] = []

    class Counting(FolderStore):
        def get_file(self, key: str, path: Path) -> StoredObject | None:
            fetched.append(key)
            return super().get_file(key, path)

    assert site.run(store=Counting(Path(site.environment["MOSAIC_STORE"]))).success

    staged = [key for key in fetched if key.startswith(site.keys.staging_root)]
    assert sorted(key.rsplit("/", 1)[-1] for key in staged) == [
        "footprints.geojsonl",
        "footprints.parquet",
        "footprints.splice.npz",
        "global-mosaic.pmtiles",
        "set_aside.parquet",
    ]


def materialize(site: Site, *assets: str, **environment: str) -> dg.ExecuteInProcessResult:
    """Materialise only some assets, as the UI's `Materialize selected` does."""
    definitions = build_definitions(Settings.read({**site.environment, **environment}))
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=site.instance,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        run_config={"loggers": {"console": {}}},
        raise_on_error=False,
    )


def why(result: dg.ExecuteInProcessResult) -> str:
    """The failed step's description of its failure."""
    (failure,) = [
        event.step_failure_data
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
    ]
    assert failure.user_failure_data is not None, failure.error
    return failure.user_failure_data.description or ""


def test_assets_may_be_materialised_one_after_the_other(site: Site) -> None:
    before = site.published()
    for asset in ("stac_footprints", "footprints_geojson", "global_mosaic_pmtiles", "published_mosaic"):
        assert materialize(site, asset).success, asset
    after = site.stays_whole()
    assert after.build > before.build
    assert after.digest == before.digest


@pytest.mark.parametrize("asset", ["footprints_geojson", "global_mosaic_pmtiles", "published_mosaic"])
def test_what_is_left_of_a_published_build_is_not_enough_for_one_asset(site: Site, asset: str) -> None:
    before = site.published()
    reason = why(materialize(site, asset))
    assert f"{before.build} is public; its staged objects were then deleted" in reason
    assert "For a newer mosaic, materialise the whole chain" in reason
    assert site.stays_whole() == before


def test_what_is_left_of_a_failed_chain_is_not_enough_for_one_asset(site: Site) -> None:
    before = site.published()
    assert not site.run({"TIPPECANOE": "/nowhere/tippecanoe"}).success
    reason = why(materialize(site, "footprints_geojson"))
    assert "a build's staged objects are deleted once it has failed" in reason
    assert "Materialise the whole chain again" in reason
    assert site.stays_whole() == before


def test_an_asset_that_was_never_materialised_is_asked_for_by_name(site: Site, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as fresh:
        elsewhere = Site(site.environment, fresh, site.folder)
        assert "stac_footprints has never been materialised here" in why(
            materialize(elsewhere, "footprints_geojson")
        )


@contextmanager
def grown_catalogue(site: Site) -> Iterator[None]:
    """Add one image for the duration of the block."""
    write_items(site.items, some_items(IMAGES + 1))
    try:
        yield
    finally:
        write_items(site.items, some_items(IMAGES))


def test_an_archive_is_not_published_with_another_builds_footprints(site: Site) -> None:
    before = site.published()
    archive = ("stac_footprints", "footprints_geojson", "global_mosaic_pmtiles")
    assert materialize(site, *archive).success
    with grown_catalogue(site):
        assert materialize(site, "stac_footprints").success, "a newer build begins"
    reason = why(materialize(site, "published_mosaic"))
    assert "belong to different builds" in reason
    assert public_mosaic_is_whole(site.store, site.keys) == before


def test_a_build_goes_on_from_where_it_began_though_another_is_published_meanwhile(site: Site) -> None:
    """As when a scheduled build begins while one that the sensor has started is about to be published."""
    site.published()
    with grown_catalogue(site):
        assert materialize(site, "stac_footprints", "footprints_geojson", "global_mosaic_pmtiles").success
    (other,) = {build for build, _ in Releases(site.store, site.keys).staged.objects()}
    time.sleep(1.1)  # names tell which build is newer, by the second
    assert materialize(site, "stac_footprints", "footprints_geojson").success
    assert site.command("publish", other, "--confirm", "no waiting") == 0
    assert public_mosaic_is_whole(site.store, site.keys).build == other
    assert materialize(site, "global_mosaic_pmtiles").success
    assert materialize(site, "published_mosaic").success
    now = public_mosaic_is_whole(site.store, site.keys)
    assert now.build > other
    assert now.images == IMAGES


def test_tiles_that_went_meanwhile_are_not_taken_over(site: Site) -> None:
    before = site.published()
    with grown_catalogue(site):
        assert materialize(site, "stac_footprints", "footprints_geojson").success
    archive = site.settings.mosaic_store / before.archive
    aside = archive.rename(archive.with_suffix(".aside"))
    try:
        reason = why(materialize(site, "global_mosaic_pmtiles"))
    finally:
        aside.rename(archive)
    assert f"global-mosaic.pmtiles can no longer take over tiles from {before.build}" in reason
    assert f"{before.archive} is not in" in reason
    assert public_mosaic_is_whole(site.store, site.keys) == before


def test_an_archive_is_not_audited_against_another_builds_footprints(site: Site) -> None:
    before = site.published()
    assert materialize(site, "stac_footprints", "footprints_geojson").success
    with grown_catalogue(site):
        assert materialize(site, "stac_footprints").success, "a newer build begins"
    reason = why(materialize(site, "global_mosaic_pmtiles"))
    assert "belong to different builds" in reason
    assert public_mosaic_is_whole(site.store, site.keys) == before


def test_an_executor_is_found_by_its_name() -> None:
    assert executor_of("in_process", 2) is dg.in_process_executor
    assert executor_of("multiprocess", 3).name == dg.multiprocess_executor.name
    assert executor_of("dagster:multiprocess_executor", 2) is dg.multiprocess_executor
    settings = Settings.read({"BUILD_EXECUTOR": "multiprocess", "MOSAIC_PRODUCTS": "imagery"})
    for name in ("global_mosaic", "imagery_partitions"):
        job = build_definitions(settings).resolve_job_def(name)
        assert job.executor_def.name == dg.multiprocess_executor.name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:executor", "cannot be imported: No module named 'nowhere'"),
        ("dagster:k8s", "cannot be imported: module 'dagster' has no attribute 'k8s'"),
        ("dagster:asset", "is not a Dagster executor but a function"),
        (
            "dagster_k8s.k8s_job_executor",
            "BUILD_EXECUTOR: must be in_process, multiprocess, or an executor as",
        ),
        ("os:system('x')", "BUILD_EXECUTOR: must be in_process, multiprocess, or an executor as"),
    ],
)
def test_what_is_no_executor_is_a_mistake_in_the_settings(name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        build_definitions(Settings.read({"BUILD_EXECUTOR": name}))


def test_parts_that_one_process_makes_are_remarked_on() -> None:
    in_one = Settings.read({"BUILD_PARTS": "8"}).remarks()
    assert [each for each in in_one if "make the parts one after another" in each]
    assert not Settings.read({"BUILD_PARTS": "8", "BUILD_EXECUTOR": "multiprocess"}).remarks()

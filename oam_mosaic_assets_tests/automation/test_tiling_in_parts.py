"""A map cut into parts, tiled by steps with disks of their own, and merged gives the same archive."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.assets.tiling import SPLICE, splice_beside
from oam_mosaic_assets.automation.chain import BRANCHES, IN_PARTS
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways import mosaic_tiles
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import Site, public_mosaic_is_whole, site_on, some_items, write_items
from oam_mosaic_assets_tests.servers.ceph import CephServer

IMAGES = 60

PARTS = {"BUILD_PARTS": "3", "BUILD_EXECUTOR": "multiprocess", "BUILD_PROCESSES": "2"}

MOSAIC = "global_mosaic_pmtiles"
OF_PARTS = [f"{MOSAIC}.part[{each}]" for each in ("0", "1", "2", "low_zooms")]
STEPS = {f"{MOSAIC}.cut", *OF_PARTS, f"{MOSAIC}.merge"}

ANEW = {ANEW_TAG: "yes"}


def chain_in_parts(environment: dict[str, str]) -> dg.JobDefinition:
    """The job `global_mosaic`, cutting even a small map; each process that builds it has its own scratch."""
    mosaic_tiles.WORTH_PARTING = 0
    settings = Settings.read(environment)
    scratch = Scratch(root=f"{settings.mosaic_scratch} of {os.getpid()}")
    return build_definitions(settings, scratch=scratch).resolve_job_def("global_mosaic")


@pytest.fixture(scope="module")
def site(ceph: CephServer, instance: dg.DagsterInstance) -> Iterator[Site]:
    """An installation that publishes to a Ceph bucket."""
    with site_on(ceph, instance, IMAGES) as made:
        yield made


def run_in_parts(site: Site, settings: Mapping[str, str], **options: Any) -> dg.JobExecutionResult:
    """Run the job that `chain_in_parts` builds."""
    stated = {**site.environment, **PARTS, **settings}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mosaic_tiles, "WORTH_PARTING", mosaic_tiles.WORTH_PARTING)  # restored on exit
        job = dg.build_reconstructable_job(__name__, chain_in_parts.__name__, (stated,))
        with dg.execute_job(job, site.instance, **options) as result:
            return result


def by_step(result: dg.JobExecutionResult, kind: dg.DagsterEventType) -> dict[str, dg.DagsterEvent]:
    return {each.step_key: each for each in result.all_events if each.event_type is kind and each.step_key}


def materialization(site: Site, run: str) -> dg.AssetMaterialization:
    records = site.instance.get_records_for_run(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    made = [each.asset_materialization for each in records.records if each.asset_key == dg.AssetKey(MOSAIC)]
    (found,) = filter(None, made)
    return found


def test_steps_with_disks_of_their_own_make_the_archive_of_one_step(site: Site) -> None:
    at_once = site.run(tags=ANEW)
    assert at_once.success, at_once.log
    before = site.stays_whole()

    in_parts = run_in_parts(site, {}, tags=ANEW)

    assert in_parts.success
    after = site.stays_whole()
    assert after.build > before.build
    assert after.sha256 == before.sha256
    started = by_step(in_parts, dg.DagsterEventType.STEP_WORKER_STARTED)
    assert started.keys() > STEPS
    workers = {each.engine_event_data.metadata["pid"].value for each in started.values()}
    assert len({*workers, str(os.getpid())}) == len(started) + 1, "each in a process of its own"
    told = [materialization(site, each.run_id) for each in (at_once, in_parts)]
    seldom_alike = {"build", "dagster/uri", "seconds"}
    values = [{name: each.metadata[name] for name in each.metadata.keys() - seldom_alike} for each in told]
    assert values[0] == values[1]
    assert told[0].metadata.keys() == told[1].metadata.keys()
    assert told[0].tags["dagster/data_version"] == told[1].tags["dagster/data_version"]


def test_the_details_are_made_in_parts_as_well(site: Site) -> None:
    products = {"MOSAIC_PRODUCTS": "mosaic,details"}
    assert site.run(products, tags=ANEW).success
    before = site.stays_whole()
    in_parts = run_in_parts(site, {**products, "BUILD_EXECUTOR": "in_process"}, tags=ANEW)

    assert "details_pmtiles.part[low_zooms]" in by_step(in_parts, dg.DagsterEventType.STEP_SUCCESS)
    digests = [
        {name: each["sha256"] for name, each in some.products.items()}
        for some in (before, site.stays_whole())
    ]
    assert len(digests[0]) == len(products["MOSAIC_PRODUCTS"].split(","))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("executor", "fault", "said"),
    [
        ("multiprocess", "kill -9 $PPID", "ChildProcessCrashException"),
        ("multiprocess", "kill $PPID", "DagsterExecutionInterruptedError"),
        ("in_process", "exec head -c 1 /dev/zero >/dev/full", "tippecanoe ran out of disk space"),
    ],
    ids=["its process is killed", "its pod is evicted", "its disk is full"],
)
def test_a_part_that_fails_costs_no_other(
    site: Site, tmp_path: Path, executor: str, fault: str, said: str
) -> None:
    before = site.published()
    settings = {"TIPPECANOE": failing_once(tmp_path, fault), "BUILD_EXECUTOR": executor}

    failed = run_in_parts(site, settings, tags=ANEW)

    assert not failed.success
    failures = by_step(failed, dg.DagsterEventType.STEP_FAILURE)
    assert failures.keys() == {OF_PARTS[1]}
    failure = failures[OF_PARTS[1]].step_failure_data
    assert said in f"{failure.error} {failure.user_failure_data}"
    made = by_step(failed, dg.DagsterEventType.STEP_SUCCESS)
    assert {*OF_PARTS} - made.keys() == {OF_PARTS[1]}

    retry = dg.ReexecutionOptions.from_failure(failed.run_id, site.instance)
    mended = run_in_parts(site, settings, reexecution_options=retry)

    assert mended.success
    made = by_step(mended, dg.DagsterEventType.STEP_SUCCESS)
    assert {each for each in made if each.startswith(MOSAIC)} == {OF_PARTS[1], f"{MOSAIC}.merge"}
    assert site.stays_whole().sha256 == before.sha256


def test_what_is_little_is_made_in_one_step(site: Site) -> None:
    """Parts get no steps of their own where few images changed, or where there are few."""
    before = site.published()
    few = site.run(PARTS, tags=ANEW)
    assert site.stays_whole().sha256 == before.sha256
    write_items(site.items, some_items(IMAGES + 1))
    try:
        change = run_in_parts(site, {"BUILD_EXECUTOR": "in_process"})
        spliced = site.stays_whole()
        at_once = site.run(tags=ANEW)
        assert site.stays_whole().sha256 == spliced.sha256
    finally:
        write_items(site.items, some_items(IMAGES))
    assert materialization(site, change.run_id).metadata["tiles reused"].value > 0
    for run in (few.run_id, change.run_id):
        assert steps_of(site, run) == {f"{MOSAIC}.cut", f"{MOSAIC}.merge"}
    assert steps_of(site, at_once.run_id) == {MOSAIC}


def test_parts_of_another_plan_are_not_merged(site: Site, tmp_path: Path) -> None:
    before = site.published()
    fails = {"TIPPECANOE": failing_once(tmp_path, "exit 1")}
    failed = run_in_parts(site, {**fails, "BUILD_EXECUTOR": "in_process"}, tags=ANEW)
    assert not failed.success

    retry = dg.ReexecutionOptions.from_failure(failed.run_id, site.instance)
    another = {**fails, "BUILD_EXECUTOR": "in_process", "ZOOM_MAX": "9"}
    refused = run_in_parts(site, another, reexecution_options=retry)

    (failure,) = by_step(refused, dg.DagsterEventType.STEP_FAILURE).values()
    assert "footprints.part-1.geojsonl was made by a different plan" in f"{failure.step_failure_data}"
    assert public_mosaic_is_whole(site.store, site.keys) == before
    site.recovers(before)


def test_lines_that_another_version_wrote_are_refused(tmp_path: Path) -> None:
    """As one that listed the images near a change."""
    lines, before = tmp_path / "footprints.geojsonl", tmp_path / f"footprints{SPLICE}"
    np.savez_compressed(before, changed=1, begin=[], end=[], deepest=[])
    with pytest.raises(TilingFailed, match=f"{lines.name} was written by another version"):
        splice_beside(Artifact(build="b", files=(lines, before)))


@pytest.mark.parametrize("asset", IN_PARTS.values(), ids=lambda each: each.key.to_user_string())
def test_an_asset_in_parts_is_said_to_be_the_same(asset: dg.AssetsDefinition) -> None:
    (whole,) = {each for branch in BRANCHES.values() for each in branch.assets if each.key == asset.key}
    (said,), (of_whole,) = asset.specs, whole.specs
    assert {each.asset_key for each in said.deps} == {each.asset_key for each in of_whole.deps}
    assert said.replace_attributes(deps=[]) == of_whole.replace_attributes(deps=[])
    assert asset.hook_defs == whole.hook_defs


def steps_of(site: Site, run: str) -> set[str]:
    events = site.instance.all_logs(run, of_type=dg.DagsterEventType.STEP_SUCCESS)
    return {each.step_key for each in events if each.step_key and each.step_key.startswith(MOSAIC)}


def failing_once(folder: Path, fault: str) -> str:
    """A tippecanoe that runs `fault` the first time it is given the second part."""
    program, marker = folder / "tippecanoe", folder / "failed"
    program.write_text(
        "#!/bin/sh\n"
        f"case \"$*\" in *.part-1.geojsonl) if ! [ -e '{marker}' ]; then : >'{marker}'; {fault}; fi ;; esac\n"
        f"exec '{find_tippecanoe()}' \"$@\"\n"
    )
    program.chmod(0o755)
    return str(program)

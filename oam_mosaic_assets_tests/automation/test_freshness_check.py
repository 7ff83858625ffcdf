"""The hourly look at what is public: the job `mosaic_freshness`, which asks the store and the catalogue."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import dagster as dg
import pytest

from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.automation.conftest import IMAGES
from oam_mosaic_assets_tests.chain import Outcome, Site, quick_folder, some_items, write_items
from oam_mosaic_assets_tests.disks import a_small_disk, fill
from oam_mosaic_assets_tests.gateways.catalogue.scripted_api import HERE, a_page, scripted_api
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket
from oam_mosaic_assets_tests.servers.s3 import S3Server

CHECK = dg.AssetCheckKey(dg.AssetKey("published_mosaic"), "mosaic_is_fresh")


def look(site: Site) -> tuple[Outcome, dg.AssetCheckEvaluation]:
    """Run the job; returns its outcome and the check's evaluation as the UI shows it."""
    outcome = site.run(job="mosaic_freshness")
    (record,) = site.instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=1)
    assert record.run_id == outcome.run_id
    assert record.event is not None
    assert record.event.dagster_event is not None, outcome.log
    return outcome, record.event.dagster_event.asset_check_evaluation_data


@contextmanager
def aged(site: Site, hours: float) -> Iterator[None]:
    """Make the mosaic this old for the duration of the block."""
    found = site.store.get_bytes(site.keys.pointer)
    assert found is not None
    older = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    pointer = replace(site.published(), checked_at=older).to_json()
    site.store.put_bytes(site.keys.pointer, pointer, Headers("application/json"), public=True)
    try:
        yield
    finally:
        site.store.put_bytes(site.keys.pointer, found[0], Headers("application/json"), public=True)


def test_a_fresh_mosaic_is_green_and_says_how_old_and_how_large_it_is(site: Site) -> None:
    build = site.published().build
    outcome, evaluation = look(site)
    assert outcome.success
    assert evaluation.passed
    assert evaluation.description is not None
    assert f"{build} is 0 min old and shows {IMAGES} images" in evaluation.description
    assert "no images have since been added to the catalogue or removed from it" in evaluation.description
    assert evaluation.metadata["lacking"].value == 0
    assert "what to do" not in evaluation.metadata


def test_a_late_mosaic_is_a_warning_in_a_green_run(site: Site) -> None:
    site.published()
    with aged(site, hours=30):
        outcome, evaluation = look(site)
    assert outcome.success
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert evaluation.description is not None
    assert "the mosaic is late: a build was due 5.0 h ago" in evaluation.description


def test_a_takedown_that_is_not_finished_is_a_warning_that_names_nobody(site: Site) -> None:
    site.published()
    takedowns = Releases(site.store, site.keys).takedowns
    takedowns.add("somebody's garden", "a request")
    try:
        outcome, evaluation = look(site)
    finally:
        takedowns.remove("somebody's garden")
    assert outcome.success
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert evaluation.description is not None
    assert "on the takedown list that may still be public or kept here: 1" in evaluation.description
    assert "garden" not in f"{evaluation} {outcome.log}"


def test_a_stale_mosaic_turns_the_run_red(site: Site) -> None:
    site.published()
    with aged(site, hours=40):
        outcome, evaluation = look(site)
    assert not outcome.success
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    assert "the mosaic is stale: no build for 40.0 h (allowed: 36 h)" in outcome.failed_checks[CHECK.name]


def test_a_late_mosaic_that_is_not_whole_is_no_mere_warning(site: Site) -> None:
    site.published()
    with aged(site, hours=30):
        site.store.delete([site.keys.tilejson])
        outcome, _ = look(site)
    assert not outcome.success
    assert f"{site.keys.tilejson} is gone" in outcome.failed_checks[CHECK.name]


@pytest.mark.parametrize("key", ["global-mosaic.pmtiles", "global-mosaic.json"])
def test_a_deleted_object_turns_the_run_red_by_name(site: Site, key: str) -> None:
    site.published()
    site.store.delete([key])
    outcome, _ = look(site)
    assert not outcome.success
    assert f"{key} is gone" in outcome.failed_checks[CHECK.name]


def test_a_deleted_release_turns_the_run_red_by_name(site: Site) -> None:
    release = site.published().archive
    site.store.delete([release])
    outcome, _ = look(site)
    assert not outcome.success
    assert f"{release} is gone" in outcome.failed_checks[CHECK.name]


def test_an_overwritten_object_turns_the_run_red_by_name(site: Site) -> None:
    site.published()
    site.store.put_bytes(site.keys.archive, b"somebody else's", Headers("text/plain"), public=True)
    outcome, _ = look(site)
    assert not outcome.success
    assert f"{site.keys.archive} was overwritten on " in outcome.failed_checks[CHECK.name]
    assert "who else writes to the bucket" in outcome.metadata["what to do"]


def test_a_copied_store_is_not_taken_for_an_older_build_that_is_alike(site: Site, tmp_path: Path) -> None:
    older = site.published()
    newer, copied = site.recovers(older), tmp_path / "store"
    assert newer.sha256 == older.sha256
    shutil.copytree(site.settings.mosaic_store, copied)

    said = site.run({"MOSAIC_STORE": str(copied)}, job="mosaic_freshness").failed_checks[CHECK.name]

    alike = f"{site.keys.archive}, {site.keys.tilejson}"
    assert (
        f"{alike}: not the objects that {newer.build} wrote, but of the same size and the same at both"
        in said
    )
    assert "did not finish" not in said
    edited = json.loads((copied / site.keys.tilejson).read_text()) | {"name": "another"}
    (copied / site.keys.tilejson).write_text(json.dumps(edited))
    said = site.run({"MOSAIC_STORE": str(copied)}, job="mosaic_freshness").failed_checks[CHECK.name]
    assert f"{site.keys.tilejson} was overwritten on" in said


def test_a_file_that_strangers_cannot_read_turns_the_run_red_by_name(site: Site) -> None:
    site.published()
    (site.settings.mosaic_store / site.keys.archive).chmod(0o600)
    outcome, _ = look(site)
    assert not outcome.success
    assert f"{site.keys.archive} is not publicly readable" in outcome.failed_checks[CHECK.name]


def test_an_object_that_was_made_private_turns_the_run_red_by_name(
    moto: S3Server, instance: dg.DagsterInstance
) -> None:
    bucket = new_bucket(moto)
    with quick_folder() as folder:
        settings = {
            "STAC_ITEMS": str(folder / "items.ndjson"),
            "S3_BUCKET": bucket,
            "S3_ENDPOINT": moto.endpoint,
            "S3_ACCESS_KEY": moto.access_key,
            "S3_SECRET_KEY": moto.secret_key,
        }
        site = Site(settings, instance, folder)
        write_items(site.items, some_items(IMAGES))
        site.published()
        assert look(site)[0].success
        client_of(moto).put_object_acl(Bucket=bucket, Key=site.keys.archive, ACL="private")
        outcome, _ = look(site)
    assert not outcome.success
    assert f"{site.keys.archive} is not publicly readable" in outcome.failed_checks[CHECK.name]


def test_nothing_published_is_red(instance: dg.DagsterInstance) -> None:
    with quick_folder() as folder:
        outcome, _ = look(Site({}, instance, folder))
    assert not outcome.success
    assert outcome.failed_checks[CHECK.name] == "nothing has been published here yet"


def test_it_says_how_many_images_are_lacking_and_how_many_have_left(site: Site) -> None:
    site.published()
    write_items(site.items, some_items(IMAGES, first=7))
    try:
        outcome, evaluation = look(site)
    finally:
        write_items(site.items, some_items(IMAGES))
    assert outcome.success, "new images are no fault before the next build is due"
    assert evaluation.metadata["lacking"].value == 7
    assert evaluation.metadata["departed"].value == 7
    assert evaluation.description is not None
    assert (
        "7 of the catalogue's images not in it yet, 7 of its own no longer in the catalogue"
        in evaluation.description
    )


def test_where_the_ids_were_not_kept_it_counts_and_says_so(site: Site) -> None:
    build = site.published().build
    site.store.delete([site.keys.set_aside(build)])
    write_items(site.items, some_items(IMAGES + 1, first=7))
    try:
        _, evaluation = look(site)
    finally:
        write_items(site.items, some_items(IMAGES))
        assert site.run().success
    assert (evaluation.metadata["lacking"].value, evaluation.metadata["departed"].value) == (1, 0)
    assert evaluation.description is not None
    assert "(only counted: the ids of this build were not kept)" in evaluation.description


def test_where_the_kept_ids_are_damaged_it_counts_and_says_so(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    key = site.keys.footprints(site.published().build)
    kept = site.store.get_bytes(key)
    assert kept is not None
    type_ = Headers("application/vnd.apache.parquet")
    site.store.put_bytes(key, kept[0][:-9], type_)
    try:
        outcome, evaluation = look(site)
        assert site.command("status", "--catalogue") == 0
    finally:
        site.store.put_bytes(key, kept[0], type_)
    assert outcome.success
    counted = "the catalogue still has as many images (only counted: the kept ids cannot be read)"
    assert counted in str(evaluation.description)
    assert counted in capfd.readouterr().out


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
def test_where_scratch_cannot_take_a_copy_of_the_ids_it_counts_and_says_so(
    site: Site, fault: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    site.published()
    mkstemp = tempfile.mkstemp

    def failing(**named: Any) -> tuple[int, str]:
        if named.get("prefix") == "run-":
            raise OSError(fault, os.strerror(fault))
        return mkstemp(**named)

    monkeypatch.setattr(tempfile, "mkstemp", failing)
    outcome, evaluation = look(site)
    assert outcome.success
    scratch = site.settings.mosaic_scratch
    counted = f"as many images (only counted: a folder in {scratch} cannot be used: {os.strerror(fault)})"
    assert counted in str(evaluation.description)
    assert site.command("status", "--catalogue") == 0
    assert counted in capfd.readouterr().out


def test_a_full_scratch_disk_does_not_hide_the_mosaic(site: Site) -> None:
    site.published()
    with a_small_disk() as disk:
        fill(disk, room=0)
        full = replace(site, environment={**site.environment, "MOSAIC_SCRATCH": str(disk)})
        outcome, evaluation = look(full)
    assert outcome.success
    assert f"(only counted: no space left for {disk}/" in str(evaluation.description)


def test_a_catalogue_that_cannot_be_asked_does_not_hide_the_mosaic(site: Site) -> None:
    site.published()
    site.items.rename(site.folder / "away")
    try:
        outcome, evaluation = look(site)
    finally:
        (site.folder / "away").rename(site.items)
    assert outcome.success
    assert "lacking" not in evaluation.metadata
    assert "How many images the catalogue now holds is unknown" in outcome.log


def test_a_catalogue_that_does_not_say_how_much_it_holds_is_not_read_for_it(site: Site) -> None:
    site.published()
    with scripted_api(a_page(*some_items(1), leads_to=f"{HERE}/search?2")) as api:
        settings = {**site.environment, "STAC_ITEMS": "", "STAC_API_URL": api.address}
        outcome, evaluation = look(replace(site, environment=settings))
        assert sum(path.startswith("/search") for _, path, _, _ in api.asked) == 1
    assert outcome.success
    assert "lacking" not in evaluation.metadata
    assert "How many images the catalogue now holds is unknown: its API does not say" in outcome.log


def test_what_is_compared_is_copied_to_the_scratch_folder_if_that_can_be_used(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site.published()
    elsewhere = replace(site, environment={**site.environment, "MOSAIC_SCRATCH": "/proc/none"})
    unusable = "MOSAIC_SCRATCH, /proc/none, cannot be used"
    outcome, evaluation = look(elsewhere)
    assert outcome.success
    assert "lacking" not in evaluation.metadata
    assert f"How many images the catalogue now holds is unknown: {unusable}" in outcome.log
    capfd.readouterr()
    assert elsewhere.command("status", "--catalogue") == SettingsError.exit_code
    assert unusable in capfd.readouterr().err
    assert elsewhere.command("status") == 0


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"PG_DSN": "postgresql://nobody@127.0.0.1:9/none"}, "127.0.0.1:9/none: Connection refused. Check"),
        ({"STAC_ITEMS": "/none"}, "/none cannot be opened: No such file or directory. Check"),
    ],
    ids=["a database that is down", "a file that is gone"],
)
def test_status_tells_what_is_public_though_the_catalogue_cannot_be_asked(
    site: Site, capfd: pytest.CaptureFixture[str], source: dict[str, str], why: str
) -> None:
    build = site.published().build
    other = replace(site, environment={**site.environment, "STAC_ITEMS": "", **source})
    capfd.readouterr()

    assert other.command("status", "--catalogue", "--json") == 1

    stated = json.loads(capfd.readouterr().out)
    assert (stated["build"], stated["fresh"]) == (build, True)
    assert not {"lacking", "departed", "catalogued"} & stated.keys()
    (remark,) = [each for each in stated["remarks"] if each.startswith("--catalogue: not compared. ")]
    assert why in remark
    assert other.command("status") == 0


def test_status_says_why_nothing_is_compared(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    sample = {**site.environment, "STAC_ITEMS": "", "MOSAIC_STORE": str(site.folder / "sample")}
    assert replace(site, environment=sample).run().success
    other = {**sample, "PG_DSN": "postgresql://nobody@127.0.0.1:9/none"}
    capfd.readouterr()
    assert replace(site, environment=other).command("status", "--catalogue") == 0
    assert "--catalogue: not compared, as the public mosaic shows another source." in capfd.readouterr().out
    assert (
        replace(site, environment={**other, "MOSAIC_STORE": str(site.folder / "none")}).command(
            "status", "--catalogue"
        )
        == 1
    )
    assert "--catalogue: not compared, as nothing is public." in capfd.readouterr().out


def test_status_waits_for_a_publisher_at_work_and_says_so_once(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site.published()
    archive = site.folder / "store" / site.keys.archive
    aside, is_at_work = archive.with_suffix(".aside"), Event()

    def publish() -> None:
        with PublisherLock(site.store, site.keys.lock, "another").held(lambda _: None):
            archive.rename(aside)
            is_at_work.set()
            time.sleep(1.5)
            aside.rename(archive)

    publishing = Thread(target=publish)
    publishing.start()
    try:
        assert is_at_work.wait(30)
        assert site.command("status") == 0
    finally:
        publishing.join()
    assert capfd.readouterr().err.count("while a publisher is at work, or was until lately") == 1

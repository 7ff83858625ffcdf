"""An earlier build made public again: whole or not at all, and not undone by the next build."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.chain import Outcome, Site, some_items, write_items
from oam_mosaic_assets_tests.faults.conftest import IMAGES
from oam_mosaic_assets_tests.faults.stores import AT_ITS_KEYS, failing_at

BINARY = Headers("application/octet-stream")
WHY = "the islands are missing"
ANOTHER = "20260101T000000Z-another"
BRIEF = timedelta(seconds=2)


def published(site: Site, images: int) -> Pointer:
    """Publish a mosaic of this many images."""
    write_items(site.items, some_items(images))
    outcome = site.run()
    assert outcome.success, outcome.log
    return site.stays_whole()


def rolled_back(site: Site, build: str = "", **resources: Any) -> Outcome:
    tags = {"oam-mosaic/reason": WHY} | ({"oam-mosaic/build": build} if build else {})
    return site.run(job="rollback", tags=tags, **resources)


def metadata_of(site: Site, outcome: Outcome) -> dict[str, Any]:
    """What the lineage says of the rollback that this run made."""
    record = site.instance.fetch_materializations(dg.AssetKey("published_mosaic"), limit=1).records[0]
    assert record.run_id == outcome.run_id
    assert record.asset_materialization is not None
    return {name: each.value for name, each in record.asset_materialization.metadata.items()}


def listed(site: Site, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capfd.readouterr()
    assert site.command("releases", "--json") == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_the_build_before_is_public_again_until_somebody_resumes(
    any_new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = any_new_site
    site.environment["MOSAIC_ALIASES"] = "coverage/old.pmtiles"
    first, second = published(site, IMAGES), published(site, IMAGES + 1)

    assert site.command("rollback", "--reason", WHY) == 0

    told = capfd.readouterr().err
    assert f"Rolled back from {second.build} to {first.build}" in told
    after = site.stays_whole()
    assert (after.build, after.images, after.sha256) == (first.build, IMAGES, first.sha256)
    assert after.checked_at == first.checked_at, "it is as old as its snapshot"
    assert site.run(job="mosaic_freshness").success
    seen = listed(site, capfd)
    assert seen["held"]["reason"] == f"a rollback to {first.build}: {WHY}"
    assert site.command("status", "--json") == 0
    state = json.loads(capfd.readouterr().out)
    assert (state["held"], state["waiting"]) == (seen["held"], [])
    assert state["public_since"] == after.published_at
    assert [(each["build"], each["state"], each["images"]) for each in seen["releases"]] == [
        (second.build, "rolled back", IMAGES + 1),
        (first.build, "public", IMAGES),
    ]
    assert site.store.read_publicly(site.keys.hold) is None

    assert site.command("build") == 3
    told = capfd.readouterr().err
    assert "Publication has been held since 20" in told
    assert f": a rollback to {first.build}: {WHY}." in told
    assert site.stays_whole() == after

    assert site.command("resume") == 0
    assert site.command("publish", second.build, "--confirm", "the islands are back") == 2
    assert f"oam-mosaic rollback {second.build} --reason REASON" in capfd.readouterr().err
    third = published(site, IMAGES + 2)
    seen = listed(site, capfd)
    assert seen["held"] is None
    states = {each["build"]: each["state"] for each in seen["releases"]}
    assert states == {third.build: "public", second.build: "earlier", first.build: "before it"}


def test_a_build_that_never_was_public_is_not_called_rolled_back(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site
    first, second, third = (published(site, IMAGES + more) for more in range(3))
    write_items(site.items, some_items(IMAGES + 3))
    with failing_at(site.store, site.keys.pointer, for_good=True):  # as if its publisher was killed there
        assert not site.run().success

    def states() -> list[str]:
        return [each["state"] for each in listed(site, capfd)["releases"]]

    assert states() == ["unfinished", "public", "before it", "earlier"]
    site.store.delete([site.keys.lock])  # as if it had expired
    assert rolled_back(site, second.build).success
    assert states() == ["unfinished", "rolled back", "public", "before it"]
    assert first.build < second.build < third.build


def test_a_rollback_stands_in_the_lineage_with_its_reason(new_site: Site) -> None:
    site = new_site
    first, second = published(site, IMAGES), published(site, IMAGES)

    outcome = rolled_back(site)

    assert outcome.success, outcome.log
    told = metadata_of(site, outcome)
    assert told["build"] == first.build
    assert told["rolled back from"] == second.build
    assert told["reason"] == WHY
    assert told["address"] == site.store.public_address(site.keys.archive)
    assert "viewer" not in told, "there is no page"
    assert site.command("resume") == 0


def test_a_rollback_links_the_page_at_the_build_that_is_public_again(new_site: Site, tmp_path: Path) -> None:
    site = new_site
    (tmp_path / "page" / "assets").mkdir(parents=True)
    (tmp_path / "page" / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "page" / "licences.txt").write_text("none")
    site.environment["SERVE_VIEWER"] = str(tmp_path / "page")
    first, _ = published(site, IMAGES), published(site, IMAGES)

    assert rolled_back(site).success

    record = site.instance.fetch_materializations(dg.AssetKey("published_mosaic"), limit=1).records[0]
    assert record.asset_materialization is not None
    link = record.asset_materialization.metadata["viewer"].value
    page = site.store.public_address(f"{site.keys.viewer}index.html")
    assert link == f"{page}?build={first.build}"
    assert site.command("resume") == 0


def test_a_build_that_was_at_work_when_a_hold_came_is_refused_and_taken_away(any_new_site: Site) -> None:
    site = any_new_site
    before = published(site, IMAGES)
    releases = Releases(site.store, site.keys)

    class Late(Releases):
        """Somebody places a hold once the build has read the catalogue."""

        def publish(self, *rest: Any, **options: Any) -> Pointer:
            releases.holds.place(WHY)
            return super().publish(*rest, **options)

    outcome = site.run(releases=Late(site.store, site.keys))

    assert outcome.kind == "PublicationHeld"
    assert outcome.exit_code == 3
    assert site.stays_whole() == before


def test_a_rollback_waits_for_another_publisher_and_gives_up(new_site: Site) -> None:
    site = new_site
    _, before = published(site, IMAGES), published(site, IMAGES + 1)
    releases = Releases(site.store, site.keys, lock_lifetime=BRIEF)

    with PublisherLock(site.store, site.keys.lock, ANOTHER, lifetime=BRIEF).held(lambda _: None):
        outcome = rolled_back(site, releases=releases)

    assert outcome.kind == "PublicationLost"
    assert f"{ANOTHER} holds the lock" in outcome.text
    assert site.stays_whole() == before
    assert site.store.head(site.keys.hold) is None
    site.recovers(before)


@AT_ITS_KEYS
def test_a_rollback_that_fails_half_way_leaves_all_as_it_was(any_new_site: Site, key: str) -> None:
    site = any_new_site
    site.environment["MOSAIC_ALIASES"] = "coverage/old.pmtiles"
    _, before = published(site, IMAGES), published(site, IMAGES + 1)
    with failing_at(site.store, key):
        outcome = rolled_back(site)

    assert "the store is gone" in outcome.text
    after = site.stays_whole()
    assert (after.build, after.images) == (before.build, IMAGES + 1)
    assert site.run(job="mosaic_freshness").success
    assert site.store.head(site.keys.hold) is None
    assert site.recovers(before).images == IMAGES + 1


@dataclass(slots=True)
class KilledAtItsEnd:
    """Marks the run as failed once the pointer is turned, as the daemon does, and ends it unrecorded."""

    instance: dg.DagsterInstance

    def step(self, log: logging.Logger, stage: str, share: float | None, text: str) -> None:  # noqa: ARG002
        if (stage, share) != ("rolling back", 1.0):
            return
        (run,) = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        self.instance.report_run_failed(run)
        raise dg.DagsterExecutionInterruptedError


@pytest.mark.parametrize("is_overwritten", [True, False])
def test_a_rollback_that_is_repeated_goes_no_further_back(
    new_site: Site,
    is_overwritten: bool,  # noqa: FBT001  # pytest passes it by name
) -> None:
    site = new_site
    first, second, third = (published(site, IMAGES + more) for more in range(3))
    assert not rolled_back(site, progress=KilledAtItsEnd(site.instance)).success
    killed = site.stays_whole()
    assert killed.build == second.build
    if is_overwritten:
        site.store.put_bytes(site.keys.archive, b"another job's", BINARY, public=True)

    repeated = rolled_back(site)

    assert repeated.success, repeated.log
    after = site.stays_whole()
    assert after.build == second.build
    hold = Releases(site.store, site.keys).holds.present()
    assert hold is not None
    assert hold.reason == f"a rollback to {second.build}: {WHY}"
    if not is_overwritten:
        assert after == killed
        assert "to go further back, name a build" in repeated.log
        assert metadata_of(site, repeated)["rolled back from"] == third.build
    assert rolled_back(site, first.build).success, "it is named"
    assert site.stays_whole().build == first.build


def test_the_daemon_repeats_no_rollback(new_site: Site) -> None:
    """A person may have done something else by then."""
    site = new_site
    published(site, IMAGES), published(site, IMAGES + 1)

    outcome = rolled_back(site, progress=KilledAtItsEnd(site.instance))

    run = site.instance.get_run_by_id(outcome.run_id)
    assert run is not None
    assert (run.status, run.tags[WILL_RETRY_TAG]) == (dg.DagsterRunStatus.FAILURE, "false")


def test_what_cannot_be_public_again_is_refused_with_the_names_of_what_can(new_site: Site) -> None:
    site = new_site
    assert "Nothing has been published here yet" in rolled_back(site).text
    first = published(site, IMAGES)
    assert f"There is no build left that was public before {first.build}" in rolled_back(site).text
    second = published(site, IMAGES + 1)
    names = f"Name another build: {first.build}. "

    for build, said in (
        (second.build, f"{second.build} is already public"),
        (ANOTHER, f"no build {ANOTHER}"),
    ):
        outcome = rolled_back(site, build)
        assert outcome.kind == "RollbackRefused"
        assert said in outcome.text
        assert names in outcome.text
        assert outcome.exit_code == 2

    archive = site.store.get_bytes(first.archive)
    assert archive is not None
    site.store.put_bytes(first.archive, archive[0][:-1] + b"x", BINARY, public=True)
    assert f"{first.archive} is not what its manifest says" in rolled_back(site, first.build).text
    site.store.delete([first.archive])
    told = rolled_back(site, first.build).text
    assert f"{first.archive} is gone" in told
    assert "There is no other build to go back to." in told
    site.store.put_bytes(first.archive, archive[0], BINARY, public=True)
    site.store.delete([site.keys.release(first.build, "global-mosaic.json")])
    assert "its TileJSON is gone" in rolled_back(site, first.build).text
    site.store.put_bytes(first.manifest, b"{", BINARY, public=True)
    assert "its manifest cannot be read" in rolled_back(site, first.build).text
    assert site.store.head(site.keys.hold) is None
    assert site.stays_whole() == second


def test_where_nothing_says_what_is_public_a_build_is_what_helps(new_site: Site) -> None:
    site = new_site
    advice = "Publish a new build: oam-mosaic build."
    assert advice in rolled_back(site).text
    before = published(site, IMAGES)
    site.store.delete([site.keys.pointer])

    told = rolled_back(site).text

    assert f"although there are releases; the last is {before.build}" in told
    assert advice in told
    assert "no other build" not in told
    published(site, IMAGES)


def test_the_public_build_is_shown_again_though_publication_is_held(any_new_site: Site) -> None:
    """No build may mend what somebody overwrote while the hold lasts that a rollback left."""
    site = any_new_site
    published(site, IMAGES), published(site, IMAGES + 1)
    assert rolled_back(site).success
    before = site.stays_whole()
    site.store.put_bytes(site.keys.archive, b"another job's", BINARY, public=True)
    assert not site.run(job="mosaic_freshness").success
    assert site.command("resume") == 0
    with failing_at(site.store, site.keys.archive, for_good=False):
        assert not rolled_back(site, before.build).success
    assert site.store.head(site.keys.hold) is None, "as it was before"

    site.store.put_bytes(site.keys.archive, b"another job's", BINARY, public=True)
    assert site.command("hold", "--reason", "of something else") == 0
    assert rolled_back(site, before.build).success

    after = site.stays_whole()
    assert (after.build, after.checked_at) == (before.build, before.checked_at)
    assert site.run(job="mosaic_freshness").success
    assert "is already public" in rolled_back(site, before.build).text
    assert site.command("resume") == 0


def test_a_hold_is_told_by_status_and_lets_a_build_that_waits_be(
    new_site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site = new_site
    published(site, IMAGES)
    write_items(site.items, some_items(IMAGES - 10))
    held = site.run()
    assert site.command("hold", "--reason", WHY) == 0
    first = capfd.readouterr().out
    minute = r"20\d\d-\d\d-\d\d \d\d:\d\d UTC"
    assert re.fullmatch(rf"publication has been held since {minute}: {WHY}\. To end it: .+\n", first)
    for _ in range(2):
        assert site.command("hold", "--reason", "the bucket moves") == 0
    both = f"{first.partition('. To end')[0]}; the bucket moves"
    assert capfd.readouterr().out == f"{both}. To end it: oam-mosaic resume\n" * 2

    assert site.command("status") == 0
    told = capfd.readouterr().out
    assert f"{both}\n" in told
    assert f"waiting       {held.build}\n" in told
    assert site.command("releases") == 0
    names, *rows = capfd.readouterr().out.splitlines()
    assert names.split() == ["build", "published", "images", "size", "state"]
    assert rows[0].split()[3] == f"{IMAGES}"
    assert max(len(names), len(rows[0])) < 80
    assert site.command("publish", held.build, "--confirm", "cleaned up") == 3
    assert site.command("resume") == 0
    assert f"the next build will be published. It said: {both}\n" in capfd.readouterr().out
    assert site.command("publish", held.build, "--confirm", "cleaned up") == 0

    assert site.stays_whole().build == held.build
    write_items(site.items, some_items(IMAGES))

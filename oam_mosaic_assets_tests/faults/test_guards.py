"""What is not drawn, and what a person must confirm: dirt, too much of it, and a catalogue that shrank."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl
import pytest

from oam_mosaic_assets.core.release import AUDIT, Pointer, as_json
from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue
from oam_mosaic_assets.gateways.catalogue.sample_dirt import DIRT, MARK
from oam_mosaic_assets.gateways.catalogue.source import Unreadable
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.publisher_lock import PublisherLock, holder_of
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets_tests.chain import (
    Outcome,
    Site,
    public_mosaic_is_whole,
    quick_folder,
    some_items,
    write_items,
)
from oam_mosaic_assets_tests.faults.conftest import IMAGES

FEWEST_OF_A_SAMPLE = 2 * sum(dirt.count for dirt in DIRT.values())

REASON = "the archive was cleaned up in March"


@pytest.fixture
def site(instance: dg.DagsterInstance) -> Iterator[Site]:
    """An installation of its own for each test: what is held back depends on what was public before."""
    with quick_folder() as folder:
        made = Site({"STAC_ITEMS": str(folder / "items.ndjson")}, instance, folder)
        write_items(made.items, some_items(IMAGES))
        yield made


def test_every_kind_of_dirt_is_accounted_for(site: Site) -> None:
    before = site.published()
    dirty = dirty_rows()
    write_items(site.items, dirty)

    held = site.run()

    assert list(held.failed_checks) == ["few_images_are_set_aside"]
    listed = table(site, held.build, "set_aside.parquet")
    drawn = table(site, held.build, "footprints.parquet")
    expected: Counter[str] = Counter()
    for dirt in DIRT.values():
        if dirt.outcome == "set_aside":
            expected[dirt.concerns] += dirt.count
    assert Counter(listed["reason"]) == expected
    assert all(listed["value"])
    spoilt = {kind for kind, dirt in DIRT.items() if dirt.outcome == "set_aside"}
    named = {
        row.get("id") for row in dirty if isinstance(row, dict) and row["properties"].get(MARK) in spoilt
    }
    assert named - {None} <= set(listed["id"])
    assert len(drawn) + len(listed) == len(dirty)
    assert drawn["id"].n_unique() == len(drawn)
    unchanged(site, before)

    outcome = site.run(job="publish_held_build", tags=confirmation(held))
    assert outcome.success, outcome.log
    after = site.stays_whole()
    assert after.build == held.build
    assert (after.images, after.set_aside) == (len(drawn), len(listed))
    manifest = manifest_of(site, after)
    assert manifest["catalogued"] == len(dirty)
    assert manifest["watermark"] == manifest["snapshot"]["digest"]
    assert manifest["set_aside"] == expected
    unknown: Counter[str] = Counter()
    for dirt in DIRT.values():
        if dirt.outcome == "unknown":
            unknown[dirt.concerns] += dirt.count
    assert manifest["unknown_values"] == unknown


UNREADABLE = [{**item, "geometry": None} for item in some_items(2, first=IMAGES)]
GUARDED = {
    "too many are set aside": (
        [*some_items(IMAGES), *UNREADABLE],
        (
            "few_images_are_set_aside: 2 of 32 images (6.25%) set aside: no_geometry 2; "
            "more than the 2.00% that MAX_SET_ASIDE_SHARE allows"
        ),
        (IMAGES, 2),
    ),
    "the catalogue shrank": (
        some_items(IMAGES - 10),
        (
            "20 images in the catalogue, 30 when the published mosaic was made: 33.3% fewer, "
            "more than the 10.0% that MAX_SHRINK_SHARE allows"
        ),
        (IMAGES - 10, 0),
    ),
}
guarded = pytest.mark.parametrize(("items", "said", "counts"), GUARDED.values(), ids=list(GUARDED))


@guarded
def test_a_build_that_a_guard_holds_back_is_published_once_someone_confirms_it(
    site: Site,
    capfd: pytest.CaptureFixture[str],
    items: list[dict[str, Any]],
    said: str,
    counts: tuple[int, int],
) -> None:
    before = site.published()
    write_items(site.items, items)
    capfd.readouterr()

    assert site.command("build") == 3

    told = capfd.readouterr().err
    assert said in told
    (build,) = {key.split("/")[2] for key in staged_keys(site)}
    assert f"confirm it: oam-mosaic publish {build} --confirm REASON" in told
    unchanged(site, before)

    assert site.command("publish", build, "--confirm", REASON) == 0
    assert f"Published {build}" in capfd.readouterr().err
    after = site.stays_whole()
    assert after.build == build
    assert (after.images, after.set_aside) == counts
    assert manifest_of(site, after)["confirmed"] == REASON

    write_items(site.items, some_items(IMAGES))
    site.recovers(after)


def test_a_build_that_lacks_a_product_of_the_settings_is_said_to(site: Site) -> None:
    before = site.published()
    write_items(site.items, some_items(IMAGES - 10))
    held = site.run()

    outcome = site.run(
        {"MOSAIC_PRODUCTS": "mosaic,details"}, job="publish_held_build", tags=confirmation(held)
    )

    assert outcome.text == (
        f"{held.build} has no details_pmtiles.json: these settings name a product that it lacks.\n"
        "Publish it with the MOSAIC_PRODUCTS that it was built with, or build again."
    )
    unchanged(site, before)
    assert site.run(job="publish_held_build", tags=confirmation(held)).success
    write_items(site.items, some_items(IMAGES))
    site.recovers(site.stays_whole())


def test_a_publication_that_is_stopped_leaves_the_build_that_waits(site: Site) -> None:
    before = site.published()
    write_items(site.items, some_items(IMAGES - 10))
    held = site.run()
    command, environment = site.command_line("publish", held.build, "--confirm", REASON)

    with (
        PublisherLock(site.store, site.keys.lock, "another").held(lambda _: None),
        subprocess.Popen(
            command, env=environment, cwd=site.folder, stderr=subprocess.PIPE, text=True
        ) as publication,
    ):
        assert publication.stderr is not None
        assert any(
            "waiting for another, which holds the publisher's lock" in line for line in publication.stderr
        )
        publication.terminate()
        assert publication.wait(60) == 128 + signal.SIGTERM
        assert holder_of(site.store, site.keys.lock) is not None

    unchanged(site, before)
    assert site.run(job="publish_held_build", tags=confirmation(held)).success
    assert site.stays_whole().build == held.build


def test_a_build_that_is_held_back_is_gone_once_another_is_public(site: Site) -> None:
    before = site.published()
    write_items(site.items, some_items(IMAGES - 10))
    held = site.run()
    unchanged(site, before)

    write_items(site.items, some_items(IMAGES))
    after = site.recovers(before)

    outcome = site.run(job="publish_held_build", tags=confirmation(held))
    assert not outcome.success
    assert (outcome.kind, outcome.exit_code) == ("StoreRefused", 2), "no rerun can help"
    assert f"{held.build} was overtaken and can no longer be published" in outcome.text
    assert f"The newer mosaic {after.build} is public; the staged objects of {held.build}" in outcome.text
    assert "oam-mosaic status" in outcome.text
    assert site.stays_whole() == after


def test_of_builds_that_are_held_back_only_the_newest_waits(site: Site) -> None:
    waiting = Releases(site.store, site.keys).staged.waiting
    before = site.published()
    write_items(site.items, some_items(IMAGES - 10))
    oldest = site.run()
    with PublisherLock(site.store, site.keys.lock, "a person's").held(lambda _: None):
        older = site.run()
    assert waiting() == [oldest.build, older.build], "a person may be publishing one"

    newest = site.run()

    assert list(newest.failed_checks) == ["catalogue_did_not_shrink"]
    unchanged(site, before)
    assert waiting() == [newest.build]
    outcome = site.run(job="publish_held_build", tags=confirmation(older))
    assert f"{older.build} was deleted when {newest.build} was held back" in outcome.text
    assert f"oam-mosaic publish {newest.build} --confirm REASON" in outcome.text
    assert site.run(job="publish_held_build", tags=confirmation(newest)).success
    assert site.stays_whole().build == newest.build


def test_a_confirmation_that_names_no_build_approves_none(site: Site) -> None:
    """The newest may not be the one that the person looked at."""
    before = site.published()
    write_items(site.items, some_items(IMAGES - 10))
    site.run()
    write_items(site.items, some_items(IMAGES - 20))
    newest = site.run()
    tags = confirmation(newest)
    build = tags.pop("oam-mosaic/build")

    outcome = site.run(job="publish_held_build", tags=tags)

    assert (outcome.kind, outcome.exit_code) == ("SettingsError", 2)
    assert "the run has no tag oam-mosaic/build" in outcome.text
    unchanged(site, before)
    assert site.run(job="publish_held_build", tags={**tags, "oam-mosaic/build": build}).success
    write_items(site.items, some_items(IMAGES - 25))
    assert site.run(tags=tags).success, "it made the build itself"


def test_a_build_that_is_on_its_way_is_left_alone_when_another_is_held_back(site: Site) -> None:
    site.published()
    staged = Releases(site.store, site.keys).staged
    underway = audited(site, catalogue_did_not_shrink=True)
    write_items(site.items, some_items(IMAGES - 10))

    held = site.run()

    assert staged.waiting() == [underway, held.build]
    staged.discard(underway)


def test_only_a_build_that_a_person_can_confirm_is_listed_as_waiting(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither one that is being published, or was left by a killed run, nor one that failed its audit too."""
    site.published()
    write_items(site.items, some_items(IMAGES - 10))
    held = site.run()
    audited(site, archive_is_whole=True, catalogue_did_not_shrink=True)
    audited(site, archive_is_whole=False, catalogue_did_not_shrink=False)
    capfd.readouterr()

    for command in ("releases", "status"):
        site.command(command, "--json")
        assert json.loads(capfd.readouterr().out)["waiting"] == [held.build]


def test_the_list_of_those_set_aside_is_kept_in_private_with_each_release(
    any_site: Site,
) -> None:
    site = any_site
    site.store.delete([each.key for each in site.store.keys("")])
    lost = {**some_items(1)[0], "id": "lost", "geometry": None}
    write_items(site.items, [*some_items(60), lost])
    published = []
    try:
        for _ in range(3):
            outcome = site.run()
            assert outcome.success, outcome.log
            published.append(site.stays_whole())
    finally:
        write_items(site.items, some_items(IMAGES))
        site.store.delete([site.keys.pointer])  # or the next build, with fewer images, would be held

    kept = [each.key for each in site.store.keys(site.keys.set_aside())]
    assert kept == [site.keys.set_aside(each.build) for each in published]
    for key, pointer in zip(kept, published, strict=True):
        assert read_table(site, key).rows() == [("lost", "no_geometry", "None")]
        assert site.store.read_publicly(key) is None
        assert manifest_of(site, pointer)["set_aside_list"] == key


def test_the_first_of_those_set_aside_are_shown_as_they_are(site: Site) -> None:
    hostile = "#<img src=x onerror=alert(1)> | [a](javascript:b)"
    lost = [{**item, "geometry": None} for item in some_items(30, first=100)]
    lost[0]["id"] = hostile
    write_items(site.items, [*some_items(IMAGES), *lost])

    outcome = site.run({"MAX_SET_ASIDE_SHARE": "1"})

    assert outcome.success, outcome.log
    (shown,) = [
        event.dagster_event.step_materialization_data.materialization.metadata["first 20 set aside"]
        for event in site.instance.all_logs(outcome.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
        if event.step_key == "stac_footprints" and event.dagster_event
    ]
    assert isinstance(shown, dg.TableMetadataValue), "its cells are text to the UI, never markup"
    assert len(shown.records) == 20
    assert shown.records[0].data == {"id": hostile, "reason": "no_geometry", "value": "None"}


def audited(site: Site, **passed: bool) -> str:
    """Another run's build, of which this audit is staged."""
    build = Releases(site.store, site.keys).staged.name_build(datetime.now(UTC), "0" * 64, run="another")
    verdicts = [{"name": name, "passed": is_passed} for name, is_passed in passed.items()]
    audit = as_json({"sha256": "0", "seconds": 1.0, "verdicts": verdicts})
    site.store.put_bytes(site.keys.staging(build, AUDIT), audit, Headers("application/json"))
    return build


def unchanged(site: Site, before: Pointer) -> None:
    """Check that the last mosaic is still public, and that only the held build is staged."""
    assert public_mosaic_is_whole(site.store, site.keys) == before
    assert len({key.split("/")[2] for key in staged_keys(site)}) == 1
    assert holder_of(site.store, site.keys.lock) is None
    assert not list(site.settings.mosaic_scratch.iterdir())


def staged_keys(site: Site) -> list[str]:
    return [each.key for each in site.store.keys(site.keys.staging_root)]


def confirmation(held: Outcome) -> dict[str, str]:
    return {"oam-mosaic/build": held.build, "oam-mosaic/confirm": REASON}


def manifest_of(site: Site, pointer: Pointer) -> dict[str, Any]:
    content = site.store.read_publicly(pointer.manifest)
    assert content is not None
    manifest: dict[str, Any] = json.loads(content)
    return manifest


def table(site: Site, build: str, name: str) -> pl.DataFrame:
    return read_table(site, site.keys.staging(build, name))


def read_table(site: Site, key: str) -> pl.DataFrame:
    found = site.store.get_bytes(key)
    assert found is not None
    return pl.read_parquet(io.BytesIO(found[0]))


def dirty_rows() -> list[Any]:
    """The smallest catalogue with every kind of dirt; anything that is not an item is given as text."""
    with SampleCatalogue(FEWEST_OF_A_SAMPLE).snapshot() as snapshot:
        return [row.text if isinstance(row, Unreadable) else row for row in snapshot.items()]

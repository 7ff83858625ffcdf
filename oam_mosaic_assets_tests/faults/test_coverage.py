"""Coverage as pictures, from the catalogue to publication, and faults that leave it as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.product import EXACT, MOSAIC, WHOLE
from oam_mosaic_assets.gateways import coverage
from oam_mosaic_assets.gateways.children import Program
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets_tests.chain import Site, some_items, write_items
from oam_mosaic_assets_tests.core.pictures import bits_of
from oam_mosaic_assets_tests.faults.conftest import IMAGES

GONE = some_items(1)[0]["id"]


@pytest.fixture
def pictured(new_site: Site) -> Site:
    """An installation that publishes coverage as well."""
    new_site.environment["MOSAIC_PRODUCTS"] = "mosaic,exact,whole"
    return new_site


def manifest_of(site: Site) -> dict[str, Any]:
    content = site.store.read_publicly(site.stays_whole().manifest)
    assert content is not None
    stated: dict[str, Any] = json.loads(content)["products"]
    return stated


def test_both_ways_are_published_and_only_what_changed_is_drawn_again(pictured: Site) -> None:
    site = pictured
    outcome = site.run()
    assert outcome.success, outcome.log
    assert [*site.stays_whole().products] == [MOSAIC.name, EXACT.name, WHOLE.name]
    exact, whole = (site.settings.mosaic_store / each.name for each in (EXACT, WHOLE))
    assert bits_of(exact).keys() == bits_of(whole).keys()
    assert [len(manifest_of(site)[each.name]["audit"]) for each in (EXACT, WHOLE)] == [4, 3]

    before = site.stays_whole().build
    write_items(site.items, some_items(IMAGES + 1))
    outcome = site.run()
    assert outcome.success, outcome.log
    taken_over = manifest_of(site)[EXACT.name]["taken_over"]
    assert taken_over["from"] == before
    assert taken_over["images_changed"] == 1
    assert taken_over["tiles_made"] < taken_over["tiles_reused"]
    spliced = exact.read_bytes()

    outcome = site.run(tags={ANEW_TAG: "yes"})
    assert outcome.success, outcome.log
    assert manifest_of(site)[EXACT.name]["taken_over"]["from"] is None
    assert exact.read_bytes() == spliced


def test_a_key_of_its_own_shows_a_product_and_its_name_shows_it_no_longer(pictured: Site) -> None:
    site = pictured
    site.published()
    shown = site.store.read_publicly(EXACT.name)
    assert shown

    site.environment["MOSAIC_KEYS"] = "exact=coverage/pixels.pmtiles"
    outcome = site.run(tags={ANEW_TAG: "yes"})

    assert outcome.success, outcome.log
    assert "coverage/pixels.pmtiles" in site.stays_whole().etags
    assert site.store.read_publicly("coverage/pixels.pmtiles") == shown
    assert site.store.head(EXACT.name) is None
    assert site.store.read_publicly(site.stays_whole().products[EXACT.name]["key"]) == shown


def test_a_key_that_somebody_else_overwrote_is_not_taken_away(pictured: Site) -> None:
    site = pictured
    site.published()
    theirs = b"whoever wrote this wants it"
    site.store.put_bytes(WHOLE.name, theirs, Headers("text/plain"), public=True)

    site.environment["MOSAIC_KEYS"] = "whole=coverage/tiles.pmtiles"
    outcome = site.run(tags={ANEW_TAG: "yes"})

    assert outcome.success, outcome.log
    assert site.store.read_publicly(WHOLE.name) == theirs
    assert "coverage/tiles.pmtiles" in site.stays_whole().etags


def test_another_colour_is_drawn_anew(pictured: Site) -> None:
    site = pictured
    assert site.run().success
    write_items(site.items, some_items(IMAGES + 1))
    outcome = site.run({"COVERAGE_COLOUR": "255,102,0"})
    assert outcome.success, outcome.log
    assert "was made by a different plan" in manifest_of(site)[EXACT.name]["taken_over"]["why_anew"]
    assert manifest_of(site)[MOSAIC.name]["taken_over"]["from"] is not None


def test_a_drawing_that_fails_leaves_the_mosaic(pictured: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = pictured
    before = site.published()
    with monkeypatch.context() as patch:
        patch.setattr(coverage, "WORTH_A_PROCESS", 5)
        killed = Program("A process that draws coverage", ["sh", "-c", "kill -KILL $$"])
        patch.setattr(coverage, "program_of", lambda *_: killed)
        outcome = site.run({"BUILD_PROCESSES": "2"}, tags={ANEW_TAG: "yes"})
    assert not outcome.success
    assert outcome.kind == "TilingFailed"
    assert "A process that draws coverage was killed by signal SIGKILL" in outcome.text
    assert site.stays_whole() == before
    site.recovers(before)


def test_coverage_that_lost_an_image_leaves_the_mosaic(
    pictured: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = pictured
    before = site.published()
    drawn = coverage.blocks_spooled
    with monkeypatch.context() as patch:
        patch.setattr(
            coverage, "blocks_spooled", lambda blocks, which, *rest: drawn(blocks, which[1:], *rest)
        )
        outcome = site.run({"BUILD_PROCESSES": "1"}, tags={ANEW_TAG: "yes"})
    assert not outcome.success
    assert "missing where images are" in outcome.failed_checks["tiles_are_those_of_images"]
    assert site.stays_whole() == before
    site.recovers(before)


def test_an_image_that_is_taken_down_leaves_coverage_too(pictured: Site) -> None:
    site = pictured
    before = site.published()
    shown = len(bits_of(site.settings.mosaic_store / WHOLE.name))

    assert site.command("takedown", GONE, "--reason", "the pilot asked for it") == 0

    assert site.stays_whole().images == IMAGES - 1
    assert len(bits_of(site.settings.mosaic_store / WHOLE.name)) < shown
    assert site.store.head(before.products[EXACT.name]["key"]) is None
    assert not names_any(site.settings.mosaic_store / EXACT.name, {GONE})

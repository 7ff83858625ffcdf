"""A build of several products, from the catalogue to what is public: all of it, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.details import details_plan
from oam_mosaic_assets.core.names import names_any
from oam_mosaic_assets.core.product import DETAILS, MOSAIC
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.auditor import Auditor, of_footprints
from oam_mosaic_assets_tests.chain import Site, some_items
from oam_mosaic_assets_tests.faults.conftest import IMAGES

GONE = some_items(1)[0]["id"]


@pytest.fixture
def described(new_site: Site) -> Site:
    """An installation that publishes details as well."""
    new_site.environment["MOSAIC_PRODUCTS"] = "mosaic,details"
    return new_site


def test_details_are_published_with_the_mosaic(described: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site = described
    outcome = site.run()
    assert outcome.success, outcome.log
    pointer = site.stays_whole()
    assert [*pointer.products] == [MOSAIC.name, DETAILS.name]
    manifest = site.store.read_publicly(pointer.manifest)
    assert manifest is not None
    stated = json.loads(manifest)["products"][DETAILS.name]
    assert stated["tiles"] > 0
    assert [each["passed"] for each in stated["audit"]] == [True] * 5
    assert site.command("validate", str(site.settings.mosaic_store / DETAILS.name)) == 0
    assert site.command("status") == 0
    assert f"/{DETAILS.name}" in capfd.readouterr().out

    assert site.run({"MOSAIC_PRODUCTS": "mosaic"}).success
    assert [*site.stays_whole().products] == [MOSAIC.name]
    assert site.store.head(DETAILS.name) is None


def test_details_that_fail_their_audit_keep_all_back(described: Site) -> None:
    site = described
    before = site.published()
    releases = Releases(site.store, site.keys)
    plan = TilingPlan(zoom_max=site.settings.zoom_max)

    def unhappy(*_: Any, **__: Any) -> list[Verdict]:
        return [Verdict.failing("archive_is_whole", "a tile is broken")]

    for broken in (MOSAIC, DETAILS):
        examiners = {
            MOSAIC.name: of_footprints(plan),
            DETAILS.name: of_footprints(details_plan(plan.zoom_max)),
        }
        auditor = Auditor(
            releases, {**examiners, broken.name: unhappy}, max_set_aside_share=1.0, max_shrink_share=1.0
        )
        outcome = site.run(auditor=auditor)

        assert not outcome.success
        assert not outcome.text, "no step fails for what an audit left"
        assert outcome.failed_checks["archive_is_whole"] == "a tile is broken"
        assert site.stays_whole() == before


def test_an_image_that_is_taken_down_leaves_the_details_too(described: Site) -> None:
    site = described
    before = site.published()
    path = site.settings.mosaic_store / DETAILS.name
    assert names_any(path, {GONE})

    assert site.command("takedown", GONE, "--reason", "the pilot asked for it") == 0

    after = site.stays_whole()
    assert after.images == IMAGES - 1
    assert not names_any(path, {GONE})
    assert site.store.head(before.products[DETAILS.name]["key"]) is None

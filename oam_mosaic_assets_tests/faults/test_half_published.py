"""What happens after a publication that fails between writing the fixed keys and the pointer."""

from __future__ import annotations

import json

import pytest

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets_tests.chain import Site, some_items, write_items
from oam_mosaic_assets_tests.faults.conftest import IMAGES
from oam_mosaic_assets_tests.faults.stores import AT_ITS_KEYS, failing_at
from oam_mosaic_assets_tests.servers.buckets import client_of
from oam_mosaic_assets_tests.servers.ceph import CephServer

ARCHIVE = Headers("application/vnd.pmtiles")


def ended(site: Site, key: str, *, for_good: bool) -> None:
    """Run, with the store failing when the key is written; `for_good`: and at every write after that."""
    with failing_at(site.store, key, for_good=for_good):
        outcome = site.run()
    assert not outcome.success
    assert "the store is gone" in outcome.text
    if for_good:
        site.store.delete([site.keys.lock])  # nobody could release it; it expires by itself


@pytest.fixture
def aliased(any_site: Site) -> Site:
    """An installation with an alias, as all of this module are; its tests go on from each other's mosaics."""
    any_site.environment["MOSAIC_ALIASES"] = "coverage/old.pmtiles"
    return any_site


def with_one_image_more(site: Site) -> Pointer:
    """Add an image to the catalogue; returns the mosaic that is public, which does not show it."""
    before = site.published()
    write_items(site.items, some_items(before.images + 1))
    return before


@AT_ITS_KEYS
def test_the_mosaic_before_is_shown_again(aliased: Site, key: str) -> None:
    site = aliased
    before = with_one_image_more(site)

    ended(site, key, for_good=False)

    after = site.stays_whole()
    assert (after.build, after.images) == (before.build, before.images)
    assert site.run(job="mosaic_freshness").success
    assert site.recovers(before).images == before.images + 1


def test_where_the_store_is_gone_for_good_the_next_build_settles_it(aliased: Site) -> None:
    site = aliased
    before = with_one_image_more(site)

    ended(site, "mosaic/latest.json", for_good=True)

    noticed = site.run(job="mosaic_freshness")
    assert not noticed.success
    assert "global-mosaic.pmtiles shows 2" in noticed.failed_checks["mosaic_is_fresh"]
    assert "whose publication did not finish" in noticed.failed_checks["mosaic_is_fresh"]
    assert site.recovers(before).images == before.images + 1


def test_a_first_publication_that_was_not_ended_holds_nobody_up(aliased: Site) -> None:
    site = aliased
    site.store.delete([each.key for each in site.store.keys("")])
    write_items(site.items, some_items(IMAGES))

    ended(site, "mosaic/latest.json", for_good=True)

    assert site.store.head(site.keys.archive) is not None
    outcome = site.run()
    assert outcome.success, outcome.text
    assert site.stays_whole().images == IMAGES


def test_an_upload_that_was_not_ended_is_taken_away_by_the_next_build(
    aliased: Site, ceph: CephServer
) -> None:
    site = aliased
    before = site.published()
    key = site.keys.archive
    if "S3_BUCKET" in site.environment:
        client_of(ceph).create_multipart_upload(Bucket=site.environment["S3_BUCKET"], Key=key)
    else:
        (site.settings.mosaic_store / f".{key}.{'0' * 16}.partial").write_bytes(b"half")

    site.recovers(before)  # which checks that nothing is left behind


def test_a_tilejson_shown_again_names_the_fixed_address(aliased: Site) -> None:
    site = aliased
    with_one_image_more(site)
    described = site.store.read_publicly(site.keys.tilejson)

    ended(site, "mosaic/latest.json", for_good=False)

    again = site.store.read_publicly(site.keys.tilejson)
    assert again is not None
    assert described is not None
    assert json.loads(again) == json.loads(described)

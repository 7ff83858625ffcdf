"""TEST_MODE: a small part of the catalogue, published beside the mosaic and never in its place."""

from __future__ import annotations

import dagster as dg

from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import Site, public_mosaic_is_whole, some_items, write_items

TEST_MODE = {"TEST_MODE": "1"}


def test_a_build_of_the_test_box_is_published_beside_the_mosaic_and_guarded_by_itself(site: Site) -> None:
    broken = {**some_items(1, first=99)[0], "geometry": None}
    write_items(site.items, [*some_items(99), broken])
    before = site.published()

    outcome = site.run(TEST_MODE)

    assert outcome.success, outcome.log
    assert "1 of 100 images (1.00%) set aside" in outcome.log
    keys = Settings.read({**site.environment, **TEST_MODE}).keys
    assert 0 < public_mosaic_is_whole(site.store, keys).images < 10
    assert public_mosaic_is_whole(site.store, site.keys) == before
    assert site.run(TEST_MODE).success, "it shrank by nothing against the test build before"
    site.recovers(before)


def test_a_test_mode_that_someone_forgot_is_in_the_log_and_in_the_materialisation(site: Site) -> None:
    """Even where no command line shows it: in a run started by the daemon."""
    write_items(site.items, some_items(99))
    outcome = site.run(TEST_MODE)
    assert "[stac_footprints] warning: TEST_MODE is on" in outcome.log
    records = site.instance.fetch_materializations(dg.AssetKey("stac_footprints"), limit=1).records
    made = records[0].asset_materialization
    assert made is not None
    assert "TEST_MODE is on" in str(made.metadata["remarks"].value)

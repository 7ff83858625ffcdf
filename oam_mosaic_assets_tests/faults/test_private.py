"""Nobody can read a build before it is audited, and nothing is public before it is published."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.s3_store import S3Store
from oam_mosaic_assets_tests.chain import Site

STAGED = {
    "audit.json",
    "claim.json",
    "footprints.geojsonl",
    "footprints.parquet",
    "footprints_geojson.json",
    "global-mosaic.pmtiles",
    "global_mosaic_pmtiles.json",
    "set_aside.parquet",
    "stac_footprints.json",
}


@pytest.fixture(params=["moto_site", "ceph_site"])
def s3_site(request: pytest.FixtureRequest) -> Site:
    """An installation on each S3 server in turn."""
    found: Site = request.getfixturevalue(request.param)
    return found


def test_a_stranger_is_refused_all_of_a_build_until_it_is_published(s3_site: Site) -> None:
    """Requested once the audit is recorded, and again just before the archive is copied."""
    site = s3_site
    site.store.delete([each.key for each in site.store.keys("")])
    answers: list[dict[str, int]] = []
    beside: list[list[str]] = []

    def look(store: S3Store) -> None:
        keys = [each.key for each in store.keys("")]
        staged = [key for key in keys if key.startswith(site.keys.staging_root)]
        beside.append([key for key in keys if key not in staged])
        answers.append(
            {
                key.rpartition("/")[2]: requests.get(store.public_address(key), timeout=30).status_code
                for key in staged
            }
        )

    write, copy = S3Store.put_bytes, S3Store.copy

    def write_and_look(self: S3Store, key: str, *rest: Any, **options: Any) -> StoredObject:
        stored = write(self, key, *rest, **options)
        if key.endswith("/audit.json"):
            look(self)
        return stored

    def look_and_copy(
        self: S3Store, source: StoredObject, key: str, *rest: Any, **options: Any
    ) -> StoredObject:
        if len(answers) < 2:
            look(self)
        return copy(self, source, key, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Store, "put_bytes", write_and_look)
        patch.setattr(S3Store, "copy", look_and_copy)
        outcome = site.run()

    assert outcome.success, outcome.log
    assert answers == [dict.fromkeys(STAGED, 403)] * 2
    assert beside == [[], [site.keys.lock]]
    archive = requests.get(site.store.public_address(site.keys.archive), timeout=30)
    assert archive.status_code == 200, "the same question is answered once it is published"
    site.stays_whole()

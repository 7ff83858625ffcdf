"""Which releases remain after a publication."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from oam_mosaic_assets.core.release import MANIFEST, Pointer
from oam_mosaic_assets.gateways.history import released_objects
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets_tests.chain import Site
from oam_mosaic_assets_tests.servers.buckets import client_of
from oam_mosaic_assets_tests.servers.s3 import S3Server

FOREIGN = "mosaic/builds/foreign-20250801/an-old-archive"
JSON = Headers("application/json")


def published(site: Site) -> Pointer:
    outcome = site.run()
    assert outcome.success, outcome.log
    return site.stays_whole()


def age(site: Site, build: str, days: float) -> None:
    """Backdate a release's publication to this many days ago."""
    key = site.keys.release(build, MANIFEST)
    found = site.store.get_bytes(key)
    assert found is not None
    moment = datetime.now(UTC) - timedelta(days=days)
    manifest = json.loads(found[0]) | {"published_at": moment.isoformat()}
    site.store.put_bytes(key, json.dumps(manifest).encode(), JSON, public=True)


def builds(site: Site) -> list[str]:
    """List the released builds; there must be both tables of each, and no others."""
    found = list(released_objects(site.store, site.keys))
    for root in (site.keys.footprints(), site.keys.set_aside()):
        assert [each.key for each in site.store.keys(root)] == [f"{root}{build}.parquet" for build in found]
    return found


def test_what_is_neither_new_nor_young_goes_and_what_is_needed_stays(any_new_site: Site) -> None:
    site = any_new_site
    site.environment |= {"RETAIN_BUILDS": "2", "RETAIN_DAYS": "10"}
    site.store.put_bytes(FOREIGN, b"somebody else's", JSON)
    first, second, third = (published(site).build for _ in range(3))
    assert builds(site) == [first, second, third], "they are young"
    for build, days in ((first, 12), (second, 11), (third, 9)):
        age(site, build, days)

    fourth = published(site).build

    assert builds(site) == [third, fourth]
    assert site.store.head(FOREIGN) is not None
    for build in (third, fourth):
        age(site, build, 20)
    fifth = published(site).build
    assert builds(site) == [fourth, fifth], "the one before is needed, however old"


def test_an_upload_to_a_key_that_begins_like_ours_is_left_alone(moto_site: Site, moto: S3Server) -> None:
    """A bucket has other writers, whose keys may begin with one of the fixed ones."""
    client, bucket = client_of(moto), str(moto_site.settings.s3_bucket)
    ours = moto_site.keys.archive
    theirs = f"{ours}.theirs"
    for key in (ours, theirs):
        client.create_multipart_upload(Bucket=bucket, Key=key)

    outcome = moto_site.run()

    assert outcome.success, outcome.log
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [each["Key"] for each in left] == [theirs]
    assert moto_site.store.abandon_uploads(theirs, older_than_seconds=0, exactly=True) == 1
    moto_site.stays_whole()


def test_after_a_rollback_what_was_public_then_is_kept(new_site: Site) -> None:
    site = new_site
    first, second = (published(site).build for _ in range(2))
    assert site.command("rollback", "--reason", "it is wrong") == 0
    assert site.command("resume") == 0
    for build in (first, second):
        age(site, build, 90)

    site.environment |= {"RETAIN_BUILDS": "1", "RETAIN_DAYS": "1"}
    third = published(site).build

    assert builds(site) == [first, third]
    assert site.command("rollback", "--reason", "so is this") == 0
    assert site.stays_whole().build == first

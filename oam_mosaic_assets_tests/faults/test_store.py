"""An object store that is missing, refuses requests or cannot be reached does no harm to the mosaic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from oam_mosaic_assets.errors import StoreRefused, StoreUnavailable
from oam_mosaic_assets.gateways.object_store import StoredObject
from oam_mosaic_assets.gateways.publisher_lock import holder_of
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.s3_store import S3Store
from oam_mosaic_assets.gateways.viewer import Viewer
from oam_mosaic_assets_tests.chain import (
    REPOSITORY,
    Outcome,
    Site,
    public_mosaic_is_whole,
    site_on,
)
from oam_mosaic_assets_tests.faults.conftest import IMAGES
from oam_mosaic_assets_tests.faults.stores import Meddled
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer, principal
from oam_mosaic_assets_tests.servers.proxy import Fault, Proxy, http_answer, running_proxy
from oam_mosaic_assets_tests.servers.s3 import S3Server

ATTEMPTS = 2

PUBLISHER = "hotosm-oam-global-mosaic-upload"


def test_a_page_that_is_built_anew_meanwhile_costs_no_publication(
    new_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page" / "assets").mkdir(parents=True)
    (tmp_path / "page" / "index.html").write_text("<!doctype html><title>page</title>")
    new_site.environment["SERVE_VIEWER"] = str(tmp_path / "page")

    def gone(self: Viewer) -> None:
        raise FileNotFoundError(2, "No such file or directory", "index-1.js")

    monkeypatch.setattr(Viewer, "publish", gone)

    outcome = new_site.run()

    assert outcome.success, outcome.log
    assert "is public, but its page could not be published. [Errno 2] No such file" in outcome.log


def test_a_bucket_that_is_missing_leaves_the_mosaic(moto_site: Site) -> None:
    site = moto_site
    before = site.published()

    outcome = site.run({"S3_BUCKET": "oin-hotosm-tmep"})

    assert not outcome.success
    assert outcome.kind == "StoreRefused"
    assert "cannot read s3://oin-hotosm-tmep/mosaic/hold.json" in outcome.text
    assert "NoSuchBucket" in outcome.text
    assert "Create the bucket, or correct S3_BUCKET" in outcome.text
    assert outcome.exit_code == 2
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_store_that_fails_before_an_asset_is_staged_whole_leaves_nothing(site: Site) -> None:
    before = site.published()

    def fail() -> None:
        raise StoreUnavailable("the store is gone", hint="Run again.")

    description = site.keys.staging("*", "stac_footprints.json")
    outcome = site.run(store=Meddled(site.settings.mosaic_store, description, fail))

    assert not outcome.success
    assert "the store is gone" in outcome.text
    assert site.stays_whole() == before
    site.recovers(before)


@pytest.fixture(scope="module")
def bucket(ceph: CephServer) -> str:
    return new_bucket(ceph)


@pytest.fixture(scope="module")
def publisher_site(ceph: CephServer, bucket: str, instance: dg.DagsterInstance) -> Iterator[Site]:
    """An installation whose user owns nothing and may do only what the bucket's policy allows."""
    user = ceph.create_user(PUBLISHER)
    with site_on(user, instance, IMAGES, bucket) as made:
        yield made


def allow(ceph: CephServer, bucket: str, *denials: dict[str, Any]) -> None:
    """Let the publisher do everything in the bucket except what is denied."""
    everything = {"Effect": "Allow", "Action": "s3:*"}
    statements = [
        {
            **statement,
            "Principal": {"AWS": [principal(PUBLISHER)]},
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        for statement in (everything, *denials)
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    client_of(ceph).put_bucket_policy(Bucket=bucket, Policy=policy)


POLICY = REPOSITORY / "deploy" / "s3" / "publisher.json"


def test_the_rights_of_the_documented_policy_are_enough(
    publisher_site: Site, ceph: CephServer, bucket: str
) -> None:
    site = publisher_site
    policy = json.loads(POLICY.read_text().replace("oin-hotosm-temp", bucket))
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": [principal(PUBLISHER)]}
    client_of(ceph).put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    for _ in range(2):  # before the first run nothing is public
        outcome = site.run()
        assert outcome.success, outcome.text
        assert "warning" not in outcome.log
    site.stays_whole()
    assert site.run(job="mosaic_freshness").success
    client_of(ceph).put_object(Bucket=bucket, Key="somebody-elses", Body=b"private")
    with pytest.raises(StoreRefused):
        site.store.get_bytes("somebody-elses")
    client_of(ceph).delete_object(Bucket=bucket, Key="somebody-elses")


def test_a_user_who_may_not_write_leaves_the_mosaic(
    publisher_site: Site, ceph: CephServer, bucket: str
) -> None:
    site = publisher_site
    allow(ceph, bucket)
    before = site.published()
    allow(ceph, bucket, {"Effect": "Deny", "Action": "s3:PutObject"})

    outcome = site.run()

    assert not outcome.success
    assert outcome.kind == "StoreRefused"
    assert f"cannot write s3://{bucket}/mosaic/staging/" in outcome.text
    assert "PutObject was answered with AccessDenied" in outcome.text
    assert "Grant the user s3:PutObject here" in outcome.text
    assert outcome.exit_code == 2
    assert site.stays_whole() == before
    allow(ceph, bucket)
    site.recovers(before)


def test_a_user_who_may_not_make_objects_public_leaves_the_mosaic(
    publisher_site: Site, ceph: CephServer, bucket: str
) -> None:
    site = publisher_site
    allow(ceph, bucket)
    before = site.published()
    # Ceph requires no separate right for an ACL sent with a write, and ignores the condition on copies
    with_acl = {"StringEquals": {"s3:x-amz-acl": "public-read"}}
    allow(ceph, bucket, {"Effect": "Deny", "Action": "s3:PutObject", "Condition": with_acl})

    outcome = site.run()

    assert not outcome.success
    assert outcome.kind == "StoreRefused"
    assert f"cannot write s3://{bucket}/mosaic/builds/" in outcome.text
    assert "PutObject was answered with AccessDenied" in outcome.text
    assert "since the object is made public, s3:PutObjectAcl" in outcome.text
    assert outcome.exit_code == 2
    assert site.stays_whole() == before
    allow(ceph, bucket)
    site.recovers(before)


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[Proxy]:
    with running_proxy(moto.endpoint) as running:
        yield running


@pytest.fixture
def far_store(moto_site: Site, moto: S3Server, proxy: Proxy) -> S3Store:
    """The bucket of moto's site through the proxy, tried at most twice; public reads bypass the proxy."""
    bucket = moto_site.settings.s3_bucket
    public = f"{moto.endpoint}/{bucket}"
    return store_in(moto, bucket, endpoint=proxy.endpoint, public_base=public, attempts=ATTEMPTS)


def test_a_network_that_is_cut_during_an_upload_leaves_the_mosaic(
    moto_site: Site, far_store: S3Store, proxy: Proxy
) -> None:
    site = moto_site
    before = site.published()
    proxy.set_fault(Fault(cut_up=8_000))  # small uploads still pass

    outcome = site.run(store=far_store)

    assert not outcome.success
    assert outcome.kind == "StoreUnavailable"
    assert f"cannot write {site.store.origin}/mosaic/staging/" in outcome.text
    assert "no complete answer from the server" in outcome.text
    assert "Check S3_ENDPOINT and the network, then run again" in outcome.text
    assert outcome.exit_code == 1
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_server_that_is_too_busy_for_ever_leaves_the_mosaic(
    moto_site: Site, far_store: S3Store, proxy: Proxy
) -> None:
    site = moto_site
    before = site.published()
    proxy.set_fault(Fault(answer=http_answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>")))

    outcome = site.run(store=far_store)

    assert not outcome.success
    assert outcome.kind == "StoreUnavailable"
    assert "GetObject was answered with SlowDown" in outcome.text
    assert "The server is busy or failing; run again later" in outcome.text
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_network_that_is_cut_during_the_copy_leaves_the_mosaic(
    moto_site: Site, far_store: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = moto_site
    before = site.published()
    at_the_copy(monkeypatch, lambda: proxy.set_fault(Fault(cut_down=0, connections=ATTEMPTS)))

    outcome = site.run(store=far_store)

    cannot_copy(outcome)
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_network_that_stays_cut_leaves_the_mosaic_and_a_lock_that_ends_soon(
    moto_site: Site, far_store: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = moto_site
    before = site.published()
    with monkeypatch.context() as patch:
        at_the_copy(patch, lambda: proxy.set_fault(Fault(cut_down=0)))
        outcome = site.run(store=far_store)

    cannot_copy(outcome)
    assert public_mosaic_is_whole(site.store, site.keys) == before
    assert holder_of(site.store, site.keys.lock) is not None
    brief = Releases(site.store, site.keys, lock_lifetime=timedelta(seconds=2))
    assert site.run(releases=brief).success
    assert site.stays_whole().published_at > before.published_at


def at_the_copy(patch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Make something happen right before the server is asked to copy a staged archive."""
    look = S3Store._expect

    def look_first(self: S3Store, source: StoredObject) -> None:
        look(self, source)
        if "/staging/" in source.key:
            happens()

    patch.setattr(S3Store, "_expect", look_first)


def cannot_copy(outcome: Outcome) -> None:
    assert not outcome.success
    assert outcome.kind == "StoreUnavailable"
    assert "cannot copy mosaic/staging/" in outcome.text
    assert "no complete answer from the server" in outcome.text
    assert "Check S3_ENDPOINT and the network, then run again" in outcome.text

"""The documents in `deploy/s3/`: they grant exactly the rights the store needs, and servers obey them."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import botocore.exceptions
import pytest
import requests

from oam_mosaic_assets.core.product import PMTILES, PRODUCTS
from oam_mosaic_assets.core.release import ARCHIVE, AUDIT, CLAIM, MANIFEST, TILEJSON, Keys
from oam_mosaic_assets.errors import SettingsError, StoreUnavailable
from oam_mosaic_assets_tests.chain import REPOSITORY
from oam_mosaic_assets_tests.deployment.production import DEPLOY
from oam_mosaic_assets_tests.deployment.test_compose import SERVICES, settings_of
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.moto import running_moto
from oam_mosaic_assets_tests.servers.s3 import S3Server

DOCUMENTS: Final = DEPLOY / "s3"
DOCUMENTED_BUCKET: Final = "oin-hotosm-temp"

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
RIGHTS: Final = {
    "abort_multipart_upload": {"s3:AbortMultipartUpload"},
    "complete_multipart_upload": {"s3:PutObject"},
    "copy_object": {"s3:GetObject", "s3:PutObject", "s3:PutObjectAcl"},
    "create_multipart_upload": {"s3:PutObject", "s3:PutObjectAcl"},
    "delete_objects": {"s3:DeleteObject"},
    "get_object": {"s3:GetObject"},
    "head_object": {"s3:GetObject"},
    "list_multipart_uploads": {"s3:ListBucketMultipartUploads"},
    "list_objects_v2": {"s3:ListBucket"},
    "put_object": {"s3:PutObject", "s3:PutObjectAcl"},
    "upload_part": {"s3:PutObject"},
    "upload_part_copy": {"s3:GetObject", "s3:PutObject"},
}
"""The rights that Amazon requires for each request of the store, including for an ACL that may be sent."""


def document(name: str, bucket: str = DOCUMENTED_BUCKET) -> Any:
    return json.loads((DOCUMENTS / name).read_text().replace(DOCUMENTED_BUCKET, bucket))


def requests_of_the_store() -> set[str]:
    """The requests to an S3 client in the source of the store and of the diagnosis."""
    made = set()
    gateways = REPOSITORY / "oam_mosaic_assets" / "gateways"
    for path in (*gateways.glob("s3_*.py"), *gateways.glob("diagnosis/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if not ast.unparse(node.func.value).endswith("client"):
                continue
            first = node.args[0] if node.func.attr == "get_paginator" else ast.Constant(node.func.attr)
            assert isinstance(first, ast.Constant), ast.unparse(node)
            made.add(str(first.value))
    return made - {"client"}


def test_the_publisher_may_do_what_the_store_asks_for_and_nothing_else() -> None:
    made = requests_of_the_store()
    assert {"put_object", "copy_object", "list_multipart_uploads"} <= made, "the source was not understood"
    asked = {right for request in made for right in RIGHTS[request]}
    granted = {right for each in document("publisher.json")["Statement"] for right in each["Action"]}
    assert granted == asked


def test_rights_are_granted_on_the_projects_own_keys_alone() -> None:
    ours = ("/global-mosaic", "/mosaic/", *(f"/{each.name}" for each in PRODUCTS))
    for name in ("publisher.json", "public-read.json"):
        for statement in document(name)["Statement"]:
            for resource in statement["Resource"]:
                key = resource.removeprefix(f"arn:aws:s3:::{DOCUMENTED_BUCKET}")
                assert not key or key.startswith(ours), resource
                assert key or set(statement["Action"]) - {"s3:DeleteObject"} <= {
                    "s3:ListBucket",
                    "s3:ListBucketMultipartUploads",
                }


def test_the_documentation_lists_the_policies_that_there_are() -> None:
    listed = re.findall(r"^\| `(\S+\.json)` \|", (DEPLOY / "s3" / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (DEPLOY / "s3").glob("*.json"))


def test_what_is_published_is_public_by_policy_and_nothing_else_is(ceph: CephServer) -> None:
    """For a bucket that ignores ACLs."""
    keys, build = Keys(products=PRODUCTS), "20260115T030000Z-3f9c2a7d41be"
    public = {*keys.all_fixed(), keys.pointer}
    names = (*(each.name for each in PRODUCTS), TILEJSON, MANIFEST)
    public |= {keys.release(build, name) for name in names}
    public |= {f"{keys.viewer}index.html", f"{keys.viewer}assets/index-1.js"}
    public.add(f"{keys.prefix}doctor-0")  # a probe of `oam-mosaic doctor`
    private = {keys.lock, keys.staging(build, ARCHIVE), keys.footprints(build), keys.set_aside(build)}
    private |= {keys.release(build, CLAIM), keys.release(build, AUDIT), "mosaic/logs/run", "somebody-elses"}
    bucket = new_bucket(ceph)
    store = store_in(ceph, bucket)
    for key in public | private:
        client_of(ceph).put_object(Bucket=bucket, Key=key, Body=b"content")

    policy = json.dumps(document("public-read.json", bucket))
    client_of(ceph).put_bucket_policy(Bucket=bucket, Policy=policy)

    seen = {key for key in public | private if requests.get(store.public_address(key), timeout=10).ok}
    assert seen == public


def test_the_bucket_forgets_unfinished_uploads_and_old_logs_and_nothing_else(ceph: CephServer) -> None:
    bucket = new_bucket(ceph)
    client_of(ceph).put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration=document("lifecycle.json")
    )
    rules = client_of(ceph).get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert len(rules) == len(document("lifecycle.json")["Rules"])
    assert [rule["Filter"]["Prefix"] for rule in rules if "Expiration" in rule] == ["mosaic/logs/"]
    covered = tuple(rule["Filter"]["Prefix"] for rule in rules if "AbortIncompleteMultipartUpload" in rule)
    # other products are too small for multipart uploads
    in_parts = tuple(each for each in PRODUCTS if each.content_type == PMTILES)
    for key in (*Keys(products=in_parts).all_fixed(), Keys().staging("build", ARCHIVE)):
        assert key.startswith(covered)


def test_maps_on_other_sites_may_read_ranges(ceph: CephServer) -> None:
    bucket = new_bucket(ceph)
    client_of(ceph).put_bucket_cors(Bucket=bucket, CORSConfiguration=document("cors.json"))
    client_of(ceph).put_object(Bucket=bucket, Key="key", Body=b"content", ACL="public-read")
    answer = requests.get(
        store_in(ceph, bucket).public_address("key"),
        headers={"Origin": "https://map.example.org", "Range": "bytes=0-2"},
        timeout=10,
    )
    assert answer.content == b"con"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert {"etag", "content-range", "content-length"} <= {
        name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")
    }


def prepare(server: S3Server, bucket: str, folder: Path, *, exit_code: int = 0, **settings: str) -> str:
    """Prepare a bucket as the service `bucket` does, and return what it printed."""
    done = subprocess.run(
        [sys.executable, DOCUMENTS / "prepare_bucket.py"],
        env={
            **os.environ,
            "S3_BUCKET": bucket,
            "S3_ENDPOINT": server.endpoint,
            "S3_ACCESS_KEY": server.access_key,
            "S3_SECRET_KEY": server.secret_key,
            **settings,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    return done.stderr


def test_the_bucket_of_development_is_made_once(moto: S3Server, tmp_path: Path) -> None:
    assert prepare(moto, "of-development", tmp_path).endswith(": made\n")
    rules = client_of(moto).get_bucket_cors(Bucket="of-development")["CORSRules"]
    assert rules == document("cors.json")["CORSRules"]
    client_of(moto).delete_bucket_cors(Bucket="of-development")
    assert "there already, and left as it is" in prepare(moto, "of-development", tmp_path)
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchCORSConfiguration"):
        client_of(moto).get_bucket_cors(Bucket="of-development")


@pytest.mark.parametrize("end", ["", "/", ":443", ":443/"])
def test_a_bucket_on_amazon_is_left_alone(moto: S3Server, tmp_path: Path, end: str) -> None:
    endpoint = f"https://s3.eu-west-3.amazonaws.com{end}"
    # should it ask all the same, nobody answers
    said = prepare(moto, "mistyped", tmp_path, S3_ENDPOINT=endpoint, HTTPS_PROXY="http://127.0.0.1:9")
    assert said.endswith("on Amazon's servers, and left as it is\n")


def test_a_server_that_refuses_or_is_away_is_named(ceph: CephServer, tmp_path: Path) -> None:
    code = StoreUnavailable.exit_code
    told = prepare(ceph, "mosaic", tmp_path, exit_code=code, S3_SECRET_KEY="another")
    assert "neither there nor made" in told
    assert "403" in told
    told = prepare(ceph, "mosaic", tmp_path, exit_code=code, S3_ENDPOINT="http://127.0.0.1:9")
    assert "Start the server" in told
    assert "Traceback" not in told


def test_only_the_bucket_of_development_is_made_on_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another is production's, whose endpoint was forgotten, and would be gone when the server stops."""
    name = "S3_IGNORE_SUBDOMAIN_BUCKETNAME"
    monkeypatch.setenv(name, SERVICES["s3"]["environment"][name])
    of_development = settings_of("mosaicker")
    with running_moto() as server:
        # only compose's network knows the name; whatever is asked of a proxy reaches it
        there = {"S3_ENDPOINT": of_development.endpoint_url, "HTTP_PROXY": server.endpoint}
        assert prepare(server, of_development.s3_bucket, tmp_path, **there).endswith(": made\n")
        told = prepare(server, DOCUMENTED_BUCKET, tmp_path, exit_code=SettingsError.exit_code, **there)
        assert "Set S3_ENDPOINT" in told
        made = [each["Name"] for each in client_of(server).list_buckets()["Buckets"]]
    assert made == [of_development.s3_bucket]
    for service in ("mosaicker", "code-server"):
        assert SERVICES[service]["depends_on"]["bucket"] == {"condition": "service_completed_successfully"}

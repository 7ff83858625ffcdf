"""Findings about a bucket: a missing right is named, and no other; and nothing is left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.diagnosis.bucket import BucketExamination
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State, exit_code
from oam_mosaic_assets.gateways.diagnosis.probed_bucket import ProbedBucket
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer, principal
from oam_mosaic_assets_tests.servers.ports import free_port
from oam_mosaic_assets_tests.servers.proxy import Fault, http_answer, running_proxy
from oam_mosaic_assets_tests.servers.s3 import S3Server

DOCUMENTS = Path(__file__).parents[3] / "deploy" / "s3"
KEYS = Keys(aliases=("oam/coverage.pmtiles",))
TEXT = Headers("text/plain")

_numbers = count(1)


def bucket_on(server: S3Server, name: str, **options: Any) -> ProbedBucket:
    """A bucket as `oam-mosaic doctor` probes it, but without retries; `options` are those of `S3Store`."""
    settings: dict[str, Any] = {
        "region": server.region,
        "endpoint": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "attempts": 1,
    }
    return ProbedBucket(name, **settings | options)


def examined(bucket: ProbedBucket, *, keys: Keys = KEYS, **options: Any) -> list[Finding]:
    return list(BucketExamination(bucket, keys, **options).findings())


def beyond_ok(findings: Iterable[Finding]) -> dict[str, State]:
    return {each.subject: each.state for each in findings if each.state is not State.OK}


def the(subject: str, findings: Iterable[Finding]) -> Finding:
    (found,) = (each for each in findings if each.subject == subject)
    return found


def left_in(server: S3Server, name: str) -> list[str]:
    """Objects and unfinished uploads in a bucket, listed as its owner."""
    client = client_of(server)
    objects = client.list_objects_v2(Bucket=name).get("Contents", [])
    uploads = client.list_multipart_uploads(Bucket=name).get("Uploads", [])
    return [each["Key"] for each in [*objects, *uploads]]


def documented(name: str, bucket: str = "") -> Any:
    """A document from `deploy/s3/`, filled in for a bucket."""
    return json.loads((DOCUMENTS / name).read_text().replace("oin-hotosm-temp", bucket))


@pytest.fixture
def name(ceph: CephServer) -> str:
    """The name of an empty Ceph bucket with the documented CORS configuration."""
    made = new_bucket(ceph)
    client_of(ceph).put_bucket_cors(Bucket=made, CORSConfiguration=documented("cors.json"))
    return made


@pytest.fixture
def publisher(ceph: CephServer, name: str) -> tuple[ProbedBucket, Callable[..., None]]:
    """The bucket as a user sees it who owns nothing, and a function that sets the policy for that user."""
    user = f"doctor-{next(_numbers)}"
    server = ceph.create_user(user)

    def allow(*statements: dict[str, Any]) -> None:
        everywhere = [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
        defaults = {"Principal": {"AWS": [principal(user)]}, "Resource": everywhere}
        policy = {"Version": "2012-10-17", "Statement": [defaults | each for each in statements]}
        client_of(ceph).put_bucket_policy(Bucket=name, Policy=json.dumps(policy))

    return bucket_on(server, name), allow


EVERYTHING = {"Effect": "Allow", "Action": "s3:*"}


def test_the_rights_that_are_documented_are_enough(
    ceph: CephServer, name: str, publisher: tuple[ProbedBucket, Callable[..., None]]
) -> None:
    bucket, allow = publisher
    allow(*documented("publisher.json", name)["Statement"])

    findings = examined(bucket, keys=Keys())

    assert beyond_ok(findings) == {}
    assert exit_code(findings) == 0
    assert left_in(ceph, name) == []


@pytest.mark.parametrize(
    ("right", "named", "untried"),
    [
        ("s3:PutObject", "bucket: write", {"bucket: other rights"}),
        ("s3:GetObject", "bucket: read", {"bucket: copy"}),
        ("s3:ListBucket", "bucket: list", set()),
        ("s3:DeleteObject", "bucket: delete", set()),
        ("s3:AbortMultipartUpload", "bucket: uploads", {"bucket: fixed keys"}),
    ],
)
def test_the_one_right_that_is_missing_is_named(
    ceph: CephServer,
    name: str,
    publisher: tuple[ProbedBucket, Callable[..., None]],
    right: str,
    named: str,
    untried: set[str],
) -> None:
    bucket, allow = publisher
    allow(EVERYTHING, {"Effect": "Deny", "Action": right})

    findings = examined(bucket)

    assert beyond_ok(findings) == {named: State.WRONG} | dict.fromkeys(untried, State.UNTRIED)
    assert right in the(named, findings).hint
    assert exit_code(findings) == 2
    if right not in {"s3:DeleteObject", "s3:AbortMultipartUpload"}:
        assert left_in(ceph, name) == []


def test_what_could_not_be_deleted_goes_with_a_later_examination(
    ceph: CephServer, name: str, publisher: tuple[ProbedBucket, Callable[..., None]]
) -> None:
    bucket, allow = publisher
    allow(EVERYTHING, {"Effect": "Deny", "Action": "s3:DeleteObject"})
    findings = examined(bucket)
    assert len(left_in(ceph, name)) == 3
    assert "A later run" in the("bucket: delete", findings).hint

    allow(EVERYTHING)
    examined(bucket)
    assert len(left_in(ceph, name)) == 3, "another examination may be at work with them"
    examined(bucket, now=lambda: datetime.now(UTC) + timedelta(hours=2))
    assert left_in(ceph, name) == []


def test_a_user_who_may_not_list_uploads_is_warned(
    publisher: tuple[ProbedBucket, Callable[..., None]],
) -> None:
    bucket, allow = publisher
    allow(EVERYTHING, {"Effect": "Deny", "Action": "s3:ListBucketMultipartUploads"})

    findings = examined(bucket)

    assert beyond_ok(findings) == {"bucket: old uploads": State.WARNING}
    assert exit_code(findings) == 0


def test_a_user_who_may_not_make_objects_public_is_named(
    publisher: tuple[ProbedBucket, Callable[..., None]],
) -> None:
    bucket, allow = publisher
    with_acl = {"StringEquals": {"s3:x-amz-acl": "public-read"}}
    allow(EVERYTHING, {"Effect": "Deny", "Action": "s3:PutObject", "Condition": with_acl})

    findings = examined(bucket)

    wrong = [each.subject for each in findings if each.state is State.WRONG]
    assert "bucket: publish" in wrong
    assert {*wrong} <= {"bucket: publish", "bucket: fixed keys"}
    assert "s3:PutObjectAcl" in the("bucket: publish", findings).hint


def test_the_fixed_key_that_may_not_be_written_is_named(
    ceph: CephServer, name: str, publisher: tuple[ProbedBucket, Callable[..., None]]
) -> None:
    bucket, allow = publisher
    there = f"arn:aws:s3:::{name}/oam/*"
    allow(EVERYTHING, {"Effect": "Deny", "Action": "s3:PutObject", "Resource": there})

    findings = examined(bucket)

    assert beyond_ok(findings) == {"bucket: fixed keys": State.WRONG}
    assert "oam/coverage.pmtiles" in the("bucket: fixed keys", findings).text
    assert left_in(ceph, name) == []


@pytest.mark.parametrize(
    ("fault", "state", "hint"),
    [
        ({"bucket": "nobodys-bucket"}, State.WRONG, "Create the bucket, or correct S3_BUCKET"),
        ({"access_key": "unknown"}, State.WRONG, "Correct S3_ACCESS_KEY"),
        ({"secret_key": "S3cr3t-guess"}, State.WRONG, "Correct S3_SECRET_KEY"),
        ({"endpoint": f"http://127.0.0.1:{free_port()}"}, State.UNREACHABLE, "Check S3_ENDPOINT"),
    ],
)
def test_one_cause_is_said_once(
    ceph: CephServer, name: str, fault: dict[str, str], state: State, hint: str
) -> None:
    options = dict(fault)
    (finding,) = examined(bucket_on(ceph, options.pop("bucket", name), **options))

    assert (finding.subject, finding.state) == ("bucket", state)
    assert finding.hint.startswith(hint)
    assert "S3cr3t" not in f"{finding}"
    assert exit_code([finding]) == (2 if state is State.WRONG else 1)


def test_a_store_that_falls_silent_is_asked_no_further(ceph: CephServer, name: str) -> None:
    with running_proxy(ceph.endpoint) as proxy:
        bucket = bucket_on(ceph, name, endpoint=proxy.endpoint)
        busy = Fault(answer=http_answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"))
        write = bucket.put_bytes

        def write_then_fall_silent(*arguments: Any, **options: Any) -> Any:
            written = write(*arguments, **options)
            proxy.set_fault(busy)
            return written

        bucket.put_bytes = write_then_fall_silent  # type: ignore[method-assign]
        findings = examined(bucket)

    assert beyond_ok(findings) == {
        "bucket: conditions": State.UNREACHABLE,
        "bucket: delete": State.UNREACHABLE,
    }
    assert exit_code(findings) == 1


def test_maps_on_other_sites_are_thought_of(ceph: CephServer, name: str) -> None:
    bucket, client = bucket_on(ceph, name), client_of(ceph)
    rules = documented("cors.json")

    rules["CORSRules"][0]["ExposeHeaders"].remove("Content-Range")
    client.put_bucket_cors(Bucket=name, CORSConfiguration=rules)
    hidden = examined(bucket)
    assert beyond_ok(hidden) == {"bucket: CORS": State.WARNING}
    assert the("bucket: CORS", hidden).text.endswith(": Content-Range not exposed")

    rules["CORSRules"][0]["AllowedHeaders"] = ["x-other"]
    client.put_bucket_cors(Bucket=name, CORSConfiguration=rules)
    assert beyond_ok(examined(bucket)) == {"bucket: CORS": State.WARNING}

    client.delete_bucket_cors(Bucket=name)
    missing = examined(bucket)
    assert beyond_ok(missing) == {"bucket: CORS": State.WARNING}
    assert "requests from other origins are not allowed" in the("bucket: CORS", missing).text
    assert "put-bucket-cors" in the("bucket: CORS", missing).hint


def test_private_objects_that_everyone_may_read_are_a_warning(
    publisher: tuple[ProbedBucket, Callable[..., None]],
) -> None:
    bucket, allow = publisher
    allow(EVERYTHING, {"Effect": "Allow", "Action": "s3:GetObject", "Principal": "*"})

    assert beyond_ok(examined(bucket)) == {"bucket: private": State.WARNING}


def test_public_objects_that_nobody_can_read_are_named(ceph: CephServer, name: str) -> None:
    elsewhere = f"{ceph.endpoint}/{new_bucket(ceph)}"
    findings = examined(bucket_on(ceph, name, public_base=elsewhere))

    assert beyond_ok(findings) == {"bucket: public": State.WRONG}
    assert elsewhere in the("bucket: public", findings).text
    assert left_in(ceph, name) == []


def test_a_bucket_that_ignores_acls_is_public_by_the_documented_policy(ceph: CephServer, name: str) -> None:
    client = client_of(ceph)
    client.put_public_access_block(
        Bucket=name, PublicAccessBlockConfiguration={"IgnorePublicAcls": True, "BlockPublicPolicy": False}
    )
    assert beyond_ok(examined(bucket_on(ceph, name))) == {"bucket: public": State.WRONG}

    client.put_bucket_policy(Bucket=name, Policy=json.dumps(documented("public-read.json", name)))
    assert beyond_ok(examined(bucket_on(ceph, name))) == {}


def test_a_server_that_ignores_the_condition_on_a_copy_is_told_of(moto: S3Server) -> None:
    name = new_bucket(moto)
    client_of(moto).put_bucket_cors(Bucket=name, CORSConfiguration=documented("cors.json"))
    findings = examined(bucket_on(moto, name))

    assert beyond_ok(findings)["bucket: pinned copy"] is State.WARNING
    assert exit_code(findings) == 0
    assert left_in(moto, name) == []


@pytest.mark.parametrize("ignored", ["If-Match", "If-None-Match"])
def test_a_server_that_ignores_a_condition_on_a_write_is_told_of(
    ceph: CephServer, name: str, ignored: str
) -> None:
    """None of the servers in these tests does, so the condition is removed from the request."""
    bucket = bucket_on(ceph, name)

    def forget(request: Any, **_: Any) -> None:
        del request.headers[ignored]

    bucket._client.meta.events.register("before-sign.s3.PutObject", forget)
    findings = examined(bucket)

    assert beyond_ok(findings) == {"bucket: conditions": State.WARNING}
    assert f"the server ignores {ignored}:" in the("bucket: conditions", findings).text


def test_a_server_that_does_not_know_its_own_etag_is_named(ceph: CephServer, name: str) -> None:
    """Like Ceph before 18 if the ETag was in quotes."""
    bucket = bucket_on(ceph, name)

    def misread(request: Any, **_: Any) -> None:
        if "If-Match" in request.headers:
            request.headers.replace_header("If-Match", "another")

    bucket._client.meta.events.register("before-sign.s3.PutObject", misread)

    assert beyond_ok(examined(bucket)) == {"bucket: conditions": State.WRONG}


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_that_differ_are_a_warning(ceph: CephServer, name: str, hours: int) -> None:
    findings = examined(
        bucket_on(ceph, name), now=lambda: datetime.now(UTC) + timedelta(hours=hours, seconds=1)
    )

    assert beyond_ok(findings) == {"bucket: clock": State.WARNING}
    assert re.search(r"are 3,60\d s apart|are 3,59\d s apart", the("bucket: clock", findings).text)


def test_an_examination_that_is_stopped_leaves_nothing(
    ceph: CephServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_on(ceph, name)
    at_that_moment: list[str] = []

    def stop(_: str) -> None:
        at_that_moment.extend(left_in(ceph, name))
        raise KeyboardInterrupt

    monkeypatch.setattr(bucket, "answers_preflight", stop)
    with pytest.raises(KeyboardInterrupt):
        examined(bucket)

    assert len(at_that_moment) == 3
    assert left_in(ceph, name) == []


@pytest.fixture
def others(ceph: CephServer, name: str) -> Iterator[None]:
    """Objects of others, where the probes are written and next to it; all must stay."""
    store = store_in(ceph, name)
    kept = [f"{KEYS.prefix}doctors.json", f"{KEYS.staging_root}20260115T030000Z-3f9c2a7d41be/claim.json"]
    for key in kept:
        store.put_bytes(key, b"kept", TEXT)
    yield
    assert left_in(ceph, name) == kept


@pytest.mark.usefixtures("others")
def test_what_is_others_stays(ceph: CephServer, name: str) -> None:
    examined(bucket_on(ceph, name), now=lambda: datetime.now(UTC) + timedelta(hours=2))

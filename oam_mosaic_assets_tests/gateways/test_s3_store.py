"""What the store on S3 does beyond what every store promises: addresses, headers, pins, memory."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
import requests

from oam_mosaic_assets.gateways.object_store import Headers, PreconditionFailed, StoredObject
from oam_mosaic_assets.gateways.s3_parts import part_places
from oam_mosaic_assets.gateways.s3_store import S3Store
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.s3 import S3Server

ARCHIVE = Headers("application/vnd.pmtiles", "public, max-age=60, must-revalidate")
WITH_PASSWORD = "https://user:hunter2@s3.example.org"
MIB = 1 << 20


@pytest.mark.parametrize(
    ("bucket", "region", "endpoint", "address"),
    [
        ("b-1", "us-east-1", None, "https://b-1.s3.us-east-1.amazonaws.com/a%20b/c.json"),
        ("b-1", "eu-west-1", "s3.amazonaws.com", "https://b-1.s3.eu-west-1.amazonaws.com/a%20b/c.json"),
        (
            "b-1",
            "eu-west-1",
            "s3.eu-west-1.amazonaws.com",
            "https://b-1.s3.eu-west-1.amazonaws.com/a%20b/c.json",
        ),
        ("b.1", "us-east-1", "s3.amazonaws.com", "https://s3.us-east-1.amazonaws.com/b.1/a%20b/c.json"),
        ("b-1", "us-east-1", "s3.example.org", "https://s3.example.org/b-1/a%20b/c.json"),
        ("b-1", "us-east-1", "https://s3.example.org:9000/", "https://s3.example.org:9000/b-1/a%20b/c.json"),
        ("b-1", "us-east-1", "http://127.0.0.1:9000", "http://127.0.0.1:9000/b-1/a%20b/c.json"),
    ],
)
def test_the_public_reads_where_the_store_writes(
    bucket: str, region: str, endpoint: str | None, address: str
) -> None:
    store = S3Store(bucket, region=region, endpoint=endpoint, access_key="a", secret_key="s")

    assert store.public_address("a b/c.json") == address
    signed = store._client.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "a b/c.json"}
    )
    assert signed.partition("?")[0] == address


@pytest.mark.parametrize("base", ["https://tiles.example.org/oam", "tiles.example.org/oam/"])
def test_the_public_may_read_elsewhere(base: str) -> None:
    store = S3Store("b-1", region="us-east-1", public_base=base)

    assert store.public_address("a/é.json") == "https://tiles.example.org/oam/a/%C3%A9.json"
    assert store.origin == "s3://b-1"


@pytest.mark.parametrize(
    "open_store", [partial(S3Store, endpoint=WITH_PASSWORD), partial(S3Store, public_base=WITH_PASSWORD)]
)
def test_an_address_holds_no_credentials(open_store: Callable[..., S3Store]) -> None:
    with pytest.raises(ValueError, match=r"s3\.example\.org contains credentials") as raised:
        open_store("b-1", region="us-east-1")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("size", [3, 6 * MIB])
def test_a_reader_is_told_the_headers(s3_server: S3Server, bucket: str, tmp_path: Path, size: int) -> None:
    store = store_in(s3_server, bucket, part_size=5 * MIB, largest_copy=5 * MIB)
    (tmp_path / "source").write_bytes(bytes(size))

    first = store.put_file("a", tmp_path / "source", ARCHIVE, public=True)
    store.copy(first, "b", Headers("application/json", "no-cache"), public=True)

    for key, expected in {"a": ARCHIVE, "b": Headers("application/json", "no-cache")}.items():
        told = requests.head(store.public_address(key), timeout=10).headers
        assert Headers(told["Content-Type"], told["Cache-Control"]) == expected


def test_a_stranger_has_no_credentials(
    moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`requests` would take them from ~/.netrc; moto shows private objects to anyone who has any."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    store = store_in(moto, new_bucket(moto))
    store.put_bytes("a", b"private", ARCHIVE)

    assert requests.get(store.public_address("a"), timeout=10).content == b"private"
    assert store.read_publicly("a") is None


@pytest.mark.parametrize("size", [3, 6 * MIB])
def test_every_request_that_copies_is_pinned(s3_server: S3Server, bucket: str, size: int) -> None:
    """No server here honours every pin, as Amazon S3 does, so this inspects the requests."""
    store = store_in(s3_server, bucket, largest_copy=5 * MIB)
    source = store.put_bytes("a", bytes(size), ARCHIVE)
    pins = []

    def note(request: Any, **_: Any) -> None:
        pins.append(request.headers["x-amz-copy-source-if-match"])

    for operation in ("CopyObject", "UploadPartCopy"):
        store._client.meta.events.register(f"before-sign.s3.{operation}", note)
    store.copy(source, "b", ARCHIVE)

    assert pins == [source.etag] * (1 if size == 3 else 2)


def test_a_source_replaced_after_it_was_looked_at_is_not_copied(ceph: CephServer) -> None:
    """Only the pin prevents the copy here. Ceph honours it from 18 on, moto never."""
    bucket = new_bucket(ceph)
    store = store_in(ceph, bucket)
    source = store.put_bytes("a", b"audited", ARCHIVE)

    def replace_source(**_: Any) -> None:
        store_in(ceph, bucket).put_bytes("a", b"another", ARCHIVE)

    store._client.meta.events.register("before-call.s3.CopyObject", replace_source)
    with pytest.raises(PreconditionFailed):
        store.copy(source, "b", ARCHIVE)
    assert store.head("b") is None


def test_a_source_replaced_while_its_parts_are_copied_is_not_published(
    s3_server: S3Server, bucket: str
) -> None:
    store = store_in(s3_server, bucket, largest_copy=5 * MIB)
    source = store.put_bytes("a", bytes(11 * MIB), ARCHIVE)
    replaced: list[StoredObject] = []

    def replace_source(**_: Any) -> None:
        replaced.append(store_in(s3_server, bucket).put_bytes("a", b"1" * source.size, ARCHIVE))

    # By now the source has been checked, but no part of it copied.
    store._client.meta.events.register("before-call.s3.CreateMultipartUpload", replace_source)
    with pytest.raises(PreconditionFailed):
        store.copy(source, "b", ARCHIVE)

    assert list(store.keys("")) == replaced
    assert "Uploads" not in client_of(s3_server).list_multipart_uploads(Bucket=bucket)


def test_an_object_has_no_more_parts_than_s3_counts() -> None:
    size = 5 * MIB * 10_000 + 1
    places = list(part_places(size, 5 * MIB))

    assert len(places) <= 10_000
    assert [place.start for place in places] == [0, *(place.stop for place in places[:-1])]
    assert places[-1].stop == size
    assert list(part_places(11, 5)) == [range(5), range(5, 10), range(10, 11)]


def test_more_keys_than_one_answer_holds_are_listed_and_deleted(moto: S3Server) -> None:
    store = store_in(moto, new_bucket(moto))
    keys = [f"{number:04}" for number in range(1001)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda key: store.put_bytes(key, b"", ARCHIVE), keys))

    assert [stored.key for stored in store.keys("")] == keys
    store.delete(keys)
    assert list(store.keys("")) == []


def test_a_deletion_has_the_digest_that_many_servers_require(s3_server: S3Server, bucket: str) -> None:
    store = store_in(s3_server, bucket)
    store.put_bytes("a", b"1", ARCHIVE)
    sent = []

    def note(request: Any, **_: Any) -> None:
        digest = md5(request.data, usedforsecurity=False).digest()
        sent.append((request.headers["Content-MD5"], b64encode(digest).decode()))

    store._client.meta.events.register("before-sign.s3.DeleteObjects", note)
    store.delete(["a", "b"])

    ((told, right),) = sent
    assert told == right
    assert list(store.keys("")) == []


PUT_AND_GET = """
import sys
from pathlib import Path
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.s3_store import S3Store

def peak_mib():  # unlike getrusage's, this one is not inherited from the parent process
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

endpoint, bucket, source, target = sys.argv[1:]
store = S3Store(bucket, region="us-east-1", endpoint=endpoint, access_key="a", secret_key="s")
store.put_bytes("small", b"", Headers("text/plain"))
before = peak_mib()
store.put_file("large", Path(source), Headers("text/plain"))
store.get_file("large", Path(target))
print(peak_mib() - before)
"""


def test_memory_does_not_grow_with_the_file(moto: S3Server, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(128 * MIB)
    arguments = [moto.endpoint, new_bucket(moto), str(source), str(target)]

    child = subprocess.run(
        [sys.executable, "-c", PUT_AND_GET, *arguments], capture_output=True, text=True, check=True
    )

    assert int(child.stdout) < 64
    assert target.stat().st_size == 128 * MIB


def test_nothing_slow_is_imported_before_it_is_needed() -> None:
    """A command that works on a local folder does not wait for boto3, nor one on S3 for requests."""
    program = (
        "import sys, oam_mosaic_assets.gateways.s3_store, oam_mosaic_assets.gateways.folder_store\n"
        "assert not {'boto3', 'botocore.client', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

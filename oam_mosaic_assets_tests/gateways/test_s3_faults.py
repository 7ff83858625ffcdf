"""How a store on S3 reacts when the network, the server, the settings or the process itself fail."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest

from oam_mosaic_assets.errors import StoreRefused, StoreUnavailable
from oam_mosaic_assets.gateways.object_store import Headers, PreconditionFailed
from oam_mosaic_assets.gateways.s3_store import S3Store
from oam_mosaic_assets_tests.servers.buckets import client_of, new_bucket, store_in
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.proxy import PASS, Fault, Proxy, http_answer, running_proxy
from oam_mosaic_assets_tests.servers.s3 import S3Server

ARCHIVE = Headers("application/vnd.pmtiles")
MIB = 1 << 20
CONTENT = Random(2).randbytes(11 * MIB)

USES: dict[str, Callable[[S3Store, Path], object]] = {
    "put_file": lambda store, path: store.put_file("a", path / "source", ARCHIVE),
    "put_bytes": lambda store, _: store.put_bytes("a", b"1", ARCHIVE),
    "head": lambda store, _: store.head("a"),
    "get_bytes": lambda store, _: store.get_bytes("a"),
    "get_file": lambda store, path: store.get_file("a", path / "target"),
    "keys": lambda store, _: list(store.keys("")),
    "delete": lambda store, _: store.delete(["a", "b"]),
    "abandon_uploads": lambda store, _: store.abandon_uploads("", older_than_seconds=0),
}
every_use = pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in USES.items()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file `source` that is uploaded in three parts."""
    (tmp_path / "source").write_bytes(CONTENT)
    return tmp_path


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with running_proxy(s3_server.endpoint) as running:
        yield running


@pytest.fixture
def store(s3_server: S3Server, bucket: str, proxy: Proxy) -> S3Store:
    """A store that reaches its server through the proxy, and makes at most two attempts."""
    return store_in(s3_server, bucket, endpoint=proxy.endpoint, attempts=2, read_timeout=5, part_size=5 * MIB)


def unfinished_uploads(server: S3Server, bucket: str) -> int:
    return len(client_of(server).list_multipart_uploads(Bucket=bucket).get("Uploads", []))


def test_a_server_that_does_not_speak_tls_is_told_as_such(s3_server: S3Server, bucket: str) -> None:
    endpoint = s3_server.endpoint.replace("http:", "https:")
    with pytest.raises(StoreUnavailable) as fault:
        store_in(s3_server, bucket, endpoint=endpoint, attempts=1).head("a")
    assert "SSLError" in fault.value.message
    assert "without TLS begins with http://" in fault.value.hint


@every_use
def test_a_missing_bucket_is_refused(
    s3_server: S3Server, folder: Path, use: Callable[[S3Store, Path], object]
) -> None:
    store = store_in(s3_server, "no-such-bucket", part_size=5 * MIB)

    with pytest.raises(StoreRefused, match="s3://no-such-bucket") as raised:
        use(store, folder)
    assert raised.value.hint == "Create the bucket, or correct S3_BUCKET, S3_REGION and S3_ENDPOINT."


@every_use
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_server_that_is_not_there_is_unavailable(
    folder: Path, host: str, use: Callable[[S3Store, Path], object]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    store = S3Store(
        "bucket",
        region="us-east-1",
        endpoint=f"http://{host}:{port}",
        access_key="a",
        secret_key="s",
        attempts=1,
    )

    with pytest.raises(StoreUnavailable, match="s3://bucket") as raised:
        use(store, folder)
    assert "S3_ENDPOINT" in raised.value.hint
    with pytest.raises(StoreUnavailable, match="ConnectionError"):
        store.read_publicly("a")


@every_use
@pytest.mark.parametrize("endpoint", ["http://s3_server:9000", "http://s3..example.org"])
def test_an_address_that_is_none_is_refused(
    folder: Path, endpoint: str, use: Callable[[S3Store, Path], object]
) -> None:
    store = S3Store("bucket", region="us-east-1", endpoint=endpoint, access_key="a", secret_key="s")

    with pytest.raises(StoreRefused, match=endpoint) as raised:
        use(store, folder)
    assert "S3_ENDPOINT" in raised.value.hint


@pytest.mark.parametrize(
    ("bucket", "region", "hint"),
    [("My_Bucket!", "us-east-1", "Correct S3_BUCKET"), ("b-1", "eu west", "Correct S3_REGION")],
)
def test_a_name_that_is_none_is_refused_before_anything_is_asked(bucket: str, region: str, hint: str) -> None:
    store = S3Store(bucket, region=region, endpoint="http://127.0.0.1:9", access_key="a", secret_key="s")
    with pytest.raises(StoreRefused) as raised:
        store.head("a")
    assert hint in raised.value.hint


def test_a_wrong_secret_is_refused_and_not_told(ceph: CephServer) -> None:
    store = store_in(ceph, new_bucket(ceph), secret_key="hunter2")

    with pytest.raises(StoreRefused, match="SignatureDoesNotMatch") as raised:
        store.put_bytes("a", b"1", ARCHIVE)
    assert "S3_SECRET_KEY" in raised.value.hint
    assert "hunter2" not in str(raised.value)
    assert ceph.access_key not in str(raised.value)
    with pytest.raises(StoreRefused, match="HeadObject was answered with 403"):
        store.head("a")


def test_an_unknown_access_key_is_refused_and_not_told(ceph: CephServer) -> None:
    store = store_in(ceph, new_bucket(ceph), access_key="STRANGER")

    with pytest.raises(StoreRefused, match="InvalidAccessKeyId") as raised:
        store.get_bytes("a")
    assert "S3_ACCESS_KEY" in raised.value.hint
    assert "STRANGER" not in str(raised.value)


def test_a_user_without_rights_is_told_which_are_missing(ceph: CephServer) -> None:
    bucket = new_bucket(ceph)
    store = store_in(ceph.create_user("reader"), bucket)

    with pytest.raises(
        StoreRefused, match=f"cannot write s3://{bucket}/a: PutObject was answered with AccessDenied"
    ) as raised:
        store.put_bytes("a", b"1", ARCHIVE, public=True)
    assert "s3:PutObject and, since the object is made public, s3:PutObjectAcl" in raised.value.hint
    with pytest.raises(StoreRefused) as raised:
        store.put_bytes("a", b"1", ARCHIVE)
    assert "None" not in raised.value.message
    assert raised.value.hint == "Grant the user s3:PutObject here."


def test_without_credentials_nothing_is_asked(moto: S3Server) -> None:
    store = store_in(moto, new_bucket(moto), access_key=None, secret_key=None)

    with pytest.raises(StoreRefused, match="NoCredentialsError") as raised:
        store.head("a")
    assert "S3_ACCESS_KEY" in raised.value.hint


@pytest.mark.parametrize(
    ("status", "code", "error", "hint"),
    [
        ("400 Bad Request", "AccessControlListNotSupported", StoreRefused, "Object Ownership"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", StoreRefused, "S3_REGION"),
        ("301 Moved Permanently", "PermanentRedirect", StoreRefused, "S3_REGION"),
        ("400 Bad Request", "InvalidRegion", StoreRefused, "S3_REGION"),
        ("400 Bad Request", "IllegalLocationConstraint", StoreRefused, "S3_REGION"),
        ("400 Bad Request", "InvalidBucketName", StoreRefused, "a bucket name"),
        ("307 Temporary Redirect", "TemporaryRedirect", StoreRefused, "S3_ENDPOINT"),
        ("403 Forbidden", "RequestTimeTooSkewed", StoreRefused, "clock"),
        ("400 Bad Request", "ExpiredToken", StoreRefused, "Renew"),
        ("403 Forbidden", "QuotaExceeded", StoreRefused, "raise the quota"),
        ("400 Bad Request", "InvalidArgument", StoreRefused, "belong together"),
        ("501 Not Implemented", "NotImplemented", StoreRefused, "oam-mosaic doctor"),
        ("400 Bad Request", "RequestTimeout", StoreUnavailable, "run again"),
        ("500 Internal Server Error", "InternalError", StoreUnavailable, "run again"),
        ("503 Slow Down", "SlowDown", StoreUnavailable, "run again"),
        ("409 Conflict", "OperationAborted", StoreUnavailable, "run again"),
    ],
)
def test_an_answer_says_whether_a_rerun_helps(
    moto: S3Server, status: str, code: str, error: type[StoreRefused], hint: str
) -> None:
    with running_proxy(moto.endpoint) as proxy:
        proxy.set_fault(Fault(answer=http_answer(status, f"<Error><Code>{code}</Code></Error>")))
        store = store_in(moto, "bucket", endpoint=proxy.endpoint, attempts=2)

        with pytest.raises(error, match=code) as raised:
            store.put_bytes("a", b"1", ARCHIVE, public=True)
    assert hint in raised.value.hint


def test_what_a_server_does_not_support_is_named(store: S3Store, proxy: Proxy) -> None:
    why = "Header &apos;x-amz-acl&apos; with value &apos;public-read&apos; not implemented"
    lacking = f"<Error><Code>NotImplemented</Code><Message>{why}</Message></Error>"
    proxy.set_fault(Fault(answer=http_answer("501 Not Implemented", lacking)))

    with pytest.raises(StoreRefused, match="NotImplemented: Header 'x-amz-acl' with value 'public-read' not"):
        store.put_bytes("a", b"1", ARCHIVE, public=True)
    with pytest.raises(StoreRefused, match="with 501"):
        store.head("a")


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        ("403 Forbidden", "AccessDenied", "Check the role, its trust policy and its token"),
        ("400 Bad Request", "InvalidIdentityToken", "Check the role, its trust policy and its token"),
        ("400 Bad Request", "ExpiredTokenException", "Renew the temporary credentials"),
    ],
)
def test_a_role_that_gives_no_credentials_is_named_and_not_a_right_in_the_bucket(
    moto: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch, status: str, code: str, hint: str
) -> None:
    with running_proxy(moto.endpoint) as sts:
        error = f"<Error><Code>{code}</Code><Message>Not for you.</Message></Error>"
        sts.set_fault(Fault(answer=http_answer(status, f"<ErrorResponse>{error}</ErrorResponse>")))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.endpoint)
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/publisher")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "token"))
        (folder / "token").write_text("a token")
        store = store_in(moto, "bucket", access_key=None, secret_key=None)

        with pytest.raises(StoreRefused, match=f"AssumeRoleWithWebIdentity was answered with {code}") as told:
            store.put_bytes("a", b"1", ARCHIVE, public=True)
    assert hint in told.value.hint


@every_use
def test_a_server_that_is_no_s3_is_not_believed(
    moto: S3Server, folder: Path, use: Callable[[S3Store, Path], object]
) -> None:
    with running_proxy(moto.endpoint) as proxy:
        proxy.set_fault(Fault(answer=http_answer("200 OK", "<!doctype html><p>Welcome")))
        store = store_in(moto, "bucket", endpoint=proxy.endpoint, attempts=1)

        with pytest.raises(StoreUnavailable, match="s3://bucket"):
            use(store, folder)


def test_a_writer_at_work_at_the_same_time_is_a_failed_precondition(store: S3Store, proxy: Proxy) -> None:
    conflict = "<Error><Code>ConditionalRequestConflict</Code></Error>"
    proxy.set_fault(Fault(answer=http_answer("409 Conflict", conflict)))

    with pytest.raises(PreconditionFailed):
        store.put_bytes("a", b"1", ARCHIVE, if_absent=True)


def test_an_object_that_may_not_be_deleted_is_refused(store: S3Store, proxy: Proxy) -> None:
    refused = "<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    proxy.set_fault(Fault(answer=http_answer("200 OK", refused)))

    with pytest.raises(StoreRefused, match="AccessDenied") as raised:
        store.delete(["a", "b"])
    assert "s3:DeleteObject" in raised.value.hint


def test_a_silent_server_is_unavailable(s3_server: S3Server, bucket: str, proxy: Proxy) -> None:
    store = store_in(s3_server, bucket, endpoint=proxy.endpoint, attempts=1, read_timeout=0.2)
    proxy.set_fault(Fault(delay=1))

    with pytest.raises(StoreUnavailable, match="ReadTimeoutError"):
        store.head("a")


def test_an_upload_survives_a_cut(store: S3Store, proxy: Proxy, folder: Path) -> None:
    proxy.set_fault(Fault(cut_up=MIB, connections=2))

    written = store.put_file("a", folder / "source", ARCHIVE)

    assert store.get_bytes("a") == (CONTENT, written)


def test_an_upload_that_is_cut_leaves_nothing(
    store: S3Store, proxy: Proxy, s3_server: S3Server, bucket: str, folder: Path
) -> None:
    before = store.put_bytes("a", b"before", ARCHIVE)
    proxy.set_fault(Fault(cut_up=3 * MIB))  # the last part is smaller and gets through

    with pytest.raises(StoreUnavailable, match=f"cannot write s3://{bucket}/a"):
        store.put_file("a", folder / "source", ARCHIVE)

    proxy.set_fault(PASS)
    assert store.get_bytes("a") == (b"before", before)
    assert unfinished_uploads(s3_server, bucket) == 0


class Interrupted(BaseException):
    """What a cancelled run raises, wherever it is."""


def test_an_upload_that_is_interrupted_leaves_nothing(
    store: S3Store, proxy: Proxy, s3_server: S3Server, bucket: str, folder: Path
) -> None:
    def interrupt(_: int, __: FrameType | None) -> None:
        raise Interrupted

    def send_signal(request: Any, **_: Any) -> None:
        if "partNumber=3" in request.url:
            time.sleep(0.2)  # by now the main thread is waiting for the parts
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    proxy.set_fault(Fault(delay=0.01))
    store._client.meta.events.register("request-created.s3.UploadPart", send_signal)
    handler = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            store.put_file("a", folder / "source", ARCHIVE)
    finally:
        signal.signal(signal.SIGUSR1, handler)

    assert store.head("a") is None
    assert unfinished_uploads(s3_server, bucket) == 0


UPLOAD = """
import sys
from pathlib import Path
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.s3_store import S3Store

endpoint, bucket, access_key, secret_key, source = sys.argv[1:]
store = S3Store(bucket, region="us-east-1", endpoint=endpoint, access_key=access_key, secret_key=secret_key)
store.put_file("staging/a", Path(source), Headers("text/plain"))
"""


def test_what_a_killed_upload_leaves_can_be_abandoned(
    store: S3Store, proxy: Proxy, s3_server: S3Server, bucket: str, folder: Path
) -> None:
    proxy.set_fault(Fault(delay=0.1))
    arguments = [proxy.endpoint, bucket, s3_server.access_key, s3_server.secret_key, str(folder / "source")]
    with subprocess.Popen([sys.executable, "-c", UPLOAD, *arguments]) as child:
        deadline = time.monotonic() + 30
        while not unfinished_uploads(s3_server, bucket) and time.monotonic() < deadline:
            time.sleep(0.1)
        child.kill()
    proxy.set_fault(PASS)
    assert unfinished_uploads(s3_server, bucket) == 1

    if isinstance(s3_server, CephServer):  # moto reports that every upload began in 2010
        assert store.abandon_uploads("staging/", older_than_seconds=3600) == 0
    assert store.abandon_uploads("cache/", older_than_seconds=0) == 0
    assert store.abandon_uploads("staging/", older_than_seconds=0) == 1
    assert unfinished_uploads(s3_server, bucket) == 0


def test_a_conditional_write_whose_answer_is_lost_is_not_taken_for_anothers(
    store: S3Store, proxy: Proxy
) -> None:
    proxy.set_fault(Fault(cut_down=0, connections=1))
    mine = store.put_bytes("lock", b"mine", ARCHIVE, if_absent=True)
    assert store.get_bytes("lock") == (b"mine", mine)

    with pytest.raises(PreconditionFailed):
        store.put_bytes("lock", b"mine", ARCHIVE, if_absent=True)


def test_a_conditional_write_whose_answer_is_lost_finds_anothers(
    store: S3Store, proxy: Proxy, s3_server: S3Server, bucket: str
) -> None:
    def write_another() -> None:
        store_in(s3_server, bucket).put_bytes("lock", b"another's", ARCHIVE)

    proxy.set_fault(Fault(cut_down=0, connections=1, at_the_cut=write_another))
    with pytest.raises(PreconditionFailed):
        store.put_bytes("lock", b"mine", ARCHIVE, if_absent=True)


def test_a_download_survives_a_cut(store: S3Store, proxy: Proxy, folder: Path) -> None:
    written = store.put_file("a", folder / "source", ARCHIVE)
    proxy.set_fault(Fault(cut_down=6 * MIB, connections=1))

    assert store.get_file("a", folder / "target") == written
    assert (folder / "target").read_bytes() == CONTENT


def test_a_download_that_is_cut_leaves_nothing(store: S3Store, proxy: Proxy, folder: Path) -> None:
    store.put_file("a", folder / "source", ARCHIVE)
    proxy.set_fault(Fault(cut_down=MIB))

    with pytest.raises(StoreUnavailable, match="cannot read"):
        store.get_file("a", folder / "target")
    assert [path.name for path in folder.iterdir()] == ["source"]


def test_a_download_is_of_one_object_or_none(
    proxy: Proxy, s3_server: S3Server, bucket: str, folder: Path
) -> None:
    def replace_object() -> None:
        store_in(s3_server, bucket).put_bytes("a", CONTENT[::-1], ARCHIVE)

    # a long timeout, as a busy server may take a while to replace the object
    store = store_in(s3_server, bucket, endpoint=proxy.endpoint, attempts=2, read_timeout=120)
    store.put_file("a", folder / "source", ARCHIVE)
    (folder / "target").write_bytes(b"before")
    proxy.set_fault(Fault(cut_down=6 * MIB, connections=1, at_the_cut=replace_object))

    with pytest.raises(StoreUnavailable, match="was replaced while it was being read"):
        store.get_file("a", folder / "target")
    assert (folder / "target").read_bytes() == b"before"
    assert sorted(path.name for path in folder.iterdir()) == ["source", "target"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(cut_down=6 * MIB, connections=1), id="cut"),
        pytest.param(Fault(answer=http_answer("503 Slow Down"), connections=1), id="busy"),
    ],
)
def test_a_stranger_asks_again(store: S3Store, proxy: Proxy, folder: Path, fault: Fault) -> None:
    store.put_file("a", folder / "source", ARCHIVE, public=True)
    proxy.set_fault(fault)

    assert store.read_publicly("a", start=1) == CONTENT[1:]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (http_answer("503 Slow Down"), StoreUnavailable),
        (http_answer("520 A Number Of The Network's Own"), StoreUnavailable),
        (http_answer("429 Too Many Requests"), StoreUnavailable),
        (http_answer("301 Moved", headers="Location: https://elsewhere.example.org/a\r\n"), StoreRefused),
        (http_answer("400 Bad Request"), StoreRefused),
        (http_answer("200 OK", "the whole object"), StoreRefused),
    ],
)
def test_a_stranger_gets_the_range_or_an_error(
    store: S3Store, proxy: Proxy, answer: bytes, error: type[StoreRefused]
) -> None:
    proxy.set_fault(Fault(answer=answer))

    with pytest.raises(error, match=r"/a "):
        store.read_publicly("a", start=4, length=5)

"""Reading an image's bytes from hosts of all kinds: honest, slow, broken, hostile."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oam_mosaic_assets.core.imagery.outcome import Reason, Unreadable
from oam_mosaic_assets.core.imagery.state import Looked
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.imagery.hosts import Hosts
from oam_mosaic_assets.gateways.imagery.source import (
    FIRST,
    FURTHEST_AHEAD,
    GAP,
    LONGEST_FIRST,
    PAGE,
    PAGES,
    TRAILER,
    AsFile,
    Limits,
    Source,
)
from oam_mosaic_assets_tests.servers.image_hosts import (
    Nginx,
    Request,
    ScriptedHost,
    running_nginx,
)

CONTENT = b"II*\x00" + bytes(range(256)) * 4096
LARGE = CONTENT * 4
QUICK = Limits(wait=0.0, seconds=20.0)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    root = tmp_path_factory.mktemp("images")
    (root / "image.tif").write_bytes(CONTENT)
    (root / "page.tif").write_bytes(b"<!doctype html><title>Sign in</title>")
    (root / "empty.tif").write_bytes(b"")
    with running_nginx(tmp_path_factory.mktemp("nginx") / "run", root) as running:
        yield running


def source_of(
    host: ScriptedHost | Nginx, name: str = "image.tif", limits: Limits = QUICK, expected: int = 0
) -> Source:
    hosts = Hosts(Rules(private_hosts=frozenset({host.host})))
    return Source(host.address(name), hosts, limits, expected=expected, wait=lambda _: None)


def why(source: Source) -> Reason:
    with pytest.raises(Unreadable) as refused:
        source.opened()
    return refused.value.reason


def test_ranges_come_as_they_lie_there(nginx: Nginx) -> None:
    source = source_of(nginx)
    source.opened()
    assert source.size == len(CONTENT)
    assert source.read(5, 10) == CONTENT[5:15]
    assert source.read(PAGE - 3, 6) == CONTENT[PAGE - 3 : PAGE + 3]
    assert source.read(100_000, 500_000) == CONTENT[100_000:600_000]
    assert source.read(len(CONTENT) - 2, 10) == CONTENT[-2:]
    assert source.read(len(CONTENT), 10) == b""
    assert source.etag.startswith('"')


def test_ranges_near_each_other_are_asked_for_as_one(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(CONTENT)
    source = source_of(host)
    source.opened()
    offsets, sizes = [400_000, 100_000, 150_000], [50_000, 40_000, 50_000]
    found = source.read_ranges(offsets, sizes)
    assert found == [CONTENT[at : at + size] for at, size in zip(offsets, sizes, strict=True)]
    assert 150_000 - 140_000 < GAP < 400_000 - 200_000
    assert [each.range for each in host.asked] == [(0, FIRST), (100_000, 200_000), (400_000, 450_000)]


def test_all_requests_of_an_image_share_a_connection(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(CONTENT)
    source = source_of(host)
    source.opened()
    for at in range(10):
        source.read(at * 100_000, 90_000)
    assert (source.requests, host.connections) == (10, 1)  # the first read needs no request of its own
    assert source.bytes == FIRST + 9 * 90_000


def test_what_is_read_twice_is_asked_for_once(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(CONTENT)
    source = source_of(host)
    for _ in range(3):
        source.read(10, 100)
        source.read(PAGE + 10, 100)
        source.read(FIRST + 10, 100)
    assert source.requests == 2


def test_what_is_read_step_by_step_is_asked_for_in_ever_larger_steps(host: ScriptedHost) -> None:
    """GDAL reads the strips of a TIFF without tiles one by one."""
    host.script = lambda request: request.give(CONTENT * 8)
    source = source_of(host)
    for start in range(0, len(CONTENT * 8), 20_000):
        assert source.read(start, 20_000) == (CONTENT * 8)[start : start + 20_000]
    assert source.requests < 20
    assert source.bytes < len(CONTENT * 8) + PAGE
    other = source_of(host)
    for number in range(200, 0, -10):  # elsewhere, nothing is read in advance
        other.read(number * PAGE, 100)
    assert {end - start for start, end in (each.range for each in host.asked[-19:])} == {PAGE}


def test_what_was_checked_stays_as_it_was(host: ScriptedHost) -> None:
    """Neither what is read after it nor what comes along with that takes its place."""
    size = (2 * PAGES + 40) * PAGE
    host.script = lambda request: request.give(b"II*\0" + b"a" * size)
    source = source_of(host)
    source.opened()
    with source.pinning():
        checked = [source.read(at, length) for at, length in ((10 * PAGE, 5 * PAGE), (30 * PAGE, 9))]
    host.script = lambda request: request.give(b"II*\0" + b"b" * size)
    for number in range(2 * PAGES + 40):
        source.read(number * PAGE, 100)
    asked = len(host.asked)
    assert [source.read(10 * PAGE, 5 * PAGE), source.read(30 * PAGE, 9), source.read(0, 9)] == [
        *checked,
        b"II*\0aaaaa",
    ]
    assert len(host.asked) == asked
    assert source.read(PAGES * PAGE, 9) == b"b" * 9


def test_what_is_checked_has_its_limit(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(b"II*\0" + bytes(2 * PAGES * PAGE))
    source = source_of(host)
    with source.pinning():
        source.read(0, (PAGES - FURTHEST_AHEAD) * PAGE)
        with pytest.raises(Unreadable) as refused:
            source.read(0, (PAGES + 1) * PAGE)
    assert refused.value.reason is Reason.TOO_LARGE


def test_what_came_with_the_first_answer_is_not_asked_for_again(host: ScriptedHost) -> None:
    """In most COGs, the smallest overview follows the headers."""
    host.script = lambda request: request.give(CONTENT)
    source = source_of(host)
    source.opened()
    assert source.read_ranges([100, PAGE + 5], [50, PAGE]) == [CONTENT[100:150], CONTENT[PAGE + 5 :][:PAGE]]
    assert source.read_ranges([PAGE], [4 * PAGE]) == [CONTENT[PAGE:][: 4 * PAGE]]
    assert [each.range for each in host.asked] == [(0, FIRST), (FIRST, 5 * PAGE)]


def test_what_is_expected_comes_with_the_first_answer_within_limits(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(CONTENT * 2)
    for expected, asked in ((0, FIRST), (5 * PAGE + 1, FIRST + 5 * PAGE), (2**40, LONGEST_FIRST)):
        source = source_of(host, expected=expected)
        source.opened()
        assert source.read_ranges([PAGE, 7], [FIRST - PAGE, 9]) == [CONTENT[PAGE:FIRST], CONTENT[7:16]]
        assert source.read(0, asked) == (CONTENT * 2)[:asked]
        assert source.requests == 1
        assert host.asked[-1].range == (0, asked)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing.tif", Reason.MISSING),
        ("secret/image.tif", Reason.FORBIDDEN),
        ("page.tif", Reason.NOT_TIFF),
    ],
)
def test_what_a_host_does_not_give_is_told_apart(nginx: Nginx, name: str, reason: Reason) -> None:
    assert why(source_of(nginx, name)) is reason


def test_an_empty_object_is_no_image(nginx: Nginx) -> None:
    assert why(source_of(nginx, "empty.tif")) in {Reason.NOT_TIFF, Reason.TRUNCATED}


def test_a_redirect_is_followed_and_remembered(nginx: Nginx, host: ScriptedHost) -> None:
    host.script = lambda request: request.answer("302 Found", b"", f"Location: {nginx.address('image.tif')}")
    source = Source(host.address(), Hosts(Rules(private_hosts=frozenset({host.host, nginx.host}))), QUICK)
    source.opened()
    assert source.read(200_000, 100_000) == CONTENT[200_000:300_000]
    assert len(host.asked) == 1


@pytest.mark.parametrize(
    ("encoding", "asked"),
    [("utf-8", "/%C3%A9t%C3%A9.tif?a=%C3%A9%20%C3%A9"), ("latin-1", "/%E9t%E9.tif?a=%E9%20%E9")],
)
def test_a_redirect_beyond_ascii_is_followed_byte_by_byte(
    host: ScriptedHost, encoding: str, asked: str
) -> None:
    """As browsers do, whatever its encoding."""
    moved = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /été.tif?a=é é\r\n\r\n"

    def script(request: Request) -> None:
        if request.path == "/image.tif":
            request.connection.sendall(moved.encode(encoding))
        else:
            request.give(CONTENT)

    host.script = script
    source_of(host).opened()
    assert [each.path for each in host.asked] == ["/image.tif", asked]


def test_a_host_without_ranges_gives_a_small_image_whole_and_once(nginx: Nginx) -> None:
    source = source_of(nginx, "whole/image.tif")
    source.opened()
    assert source.read(500_000, 100_000) == CONTENT[500_000:600_000]
    assert (source.requests, source.bytes) == (1, len(CONTENT))


def test_a_host_without_ranges_is_not_asked_for_a_large_image(nginx: Nginx) -> None:
    source = source_of(nginx, "whole/image.tif", Limits(whole=len(CONTENT) - 1))
    assert why(source) is Reason.NO_RANGES


def test_a_fault_of_the_server_is_over_a_moment_later(host: ScriptedHost) -> None:
    def script(request: Request) -> None:
        if len(host.asked) < 3:
            request.answer("503 Service Unavailable")
        else:
            request.give(CONTENT)

    host.script = script
    source = source_of(host)
    source.opened()
    assert source.requests == 3


def test_a_server_that_stays_at_fault_is_not_asked_for_ever(host: ScriptedHost) -> None:
    host.script = lambda request: request.answer("500 Internal Server Error")
    assert why(source_of(host)) is Reason.SERVER_FAULT
    assert len(host.asked) == QUICK.attempts


def test_what_is_missing_is_asked_for_once(host: ScriptedHost) -> None:
    assert why(source_of(host)) is Reason.MISSING
    assert len(host.asked) == 1


def test_waits_grow_from_attempt_to_attempt(host: ScriptedHost) -> None:
    host.script = lambda request: request.answer("500 Internal Server Error")
    waits: list[float] = []
    hosts = Hosts(Rules(private_hosts=frozenset({host.host})))
    source = Source(host.address(), hosts, Limits(wait=1.0, attempts=4), wait=waits.append)
    assert why(source) is Reason.SERVER_FAULT
    assert [int(wait) >= least for wait, least in zip(waits, (1, 2, 4), strict=True)] == [True] * 3


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1:1/a.tif",
        "http://localhost/a.tif",
        "http://１２７.0.0.1:1/a.tif",
        "http://169.254.169.254/latest/meta-data/",
        "//127.0.0.1:1/a.tif",
        "file:///etc/passwd",
        "s3://bucket/private.tif",
        "ftp://example.org/a.tif",
    ],
)
def test_a_redirect_leads_nowhere_the_catalogue_may_not_lead(host: ScriptedHost, place: str) -> None:
    host.script = lambda request: request.answer("302 Found", b"", f"Location: {place}")
    assert why(source_of(host)) is Reason.REFUSED_ADDRESS
    assert len(host.asked) == 1


def test_redirects_in_a_circle_end(host: ScriptedHost) -> None:
    host.script = lambda request: request.answer("302 Found", b"", "Location: /again.tif")
    assert why(source_of(host)) is Reason.SERVER_FAULT


@pytest.mark.parametrize("headers", [[], ["Location:"]], ids=["no header", "an empty one"])
def test_a_redirect_to_nowhere_is_asked_for_once(host: ScriptedHost, headers: list[str]) -> None:
    host.script = lambda request: request.answer("302 Found", b"", *headers)
    assert why(source_of(host)) is Reason.MISSING
    assert len(host.asked) == 1


def test_a_name_that_changes_its_address_after_it_was_looked_at_leads_nowhere_else(
    host: ScriptedHost,
) -> None:
    """The connection goes to the address that was checked; the name is not resolved a second time."""
    host.script = lambda request: request.give(CONTENT)
    port = int(host.host.rpartition(":")[2])
    answers = iter([["127.0.0.1"], ["10.255.255.1"]])
    hosts = Hosts(
        Rules(private_hosts=frozenset({f"rebinding.example:{port}"})), resolve=lambda *_: next(answers)
    )
    source = Source(f"http://rebinding.example:{port}/a.tif", hosts, QUICK)
    source.opened()
    source.read(300_000, 100_000)
    assert host.asked[0].headers["host"] == f"rebinding.example:{port}"


def test_the_next_address_of_a_host_is_asked_if_one_accepts_no_connection(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(CONTENT)
    name = f"two.example:{host.host.rpartition(':')[2]}"
    hosts = Hosts(Rules(private_hosts=frozenset({name})), resolve=lambda *_: ["127.0.0.9", "127.0.0.1"])
    source = Source(f"http://{name}/a.tif", hosts, QUICK)
    source.opened()
    assert source.requests == 1
    source.read(300_000, 100_000)
    assert len(host.asked) == source.requests == 2


def test_a_host_that_refuses_connections_is_tried_again_and_said_to_be_down() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{unused.getsockname()[1]}"
        source = Source(f"http://{name}/a.tif", Hosts(Rules(private_hosts=frozenset({name}))), QUICK)
        assert why(source) is Reason.UNREACHABLE
    assert source.requests == QUICK.attempts


def test_a_public_name_with_a_private_address_is_not_connected_to(host: ScriptedHost) -> None:
    port = int(host.host.rpartition(":")[2])
    source = Source(f"http://example.org:{port}/", Hosts(resolve=lambda *_: ["127.0.0.1"]), QUICK)
    assert why(source) is Reason.REFUSED_ADDRESS
    assert host.connections == 0


def test_a_host_that_hangs_up_early_is_asked_again(host: ScriptedHost) -> None:
    def script(request: Request) -> None:
        if len(host.asked) == 1:
            request.answer(
                "206 Partial Content",
                b"II*",
                f"Content-Range: bytes 0-{FIRST - 1}/{len(CONTENT)}",
                length=FIRST,
            )
            request.connection.shutdown(socket.SHUT_RDWR)
        else:
            request.give(CONTENT)

    host.script = script
    source = source_of(host)
    source.opened()
    assert source.read(0, 10) == CONTENT[:10]


def test_a_host_that_always_hangs_up_early_gives_a_truncated_image(host: ScriptedHost) -> None:
    def script(request: Request) -> None:
        request.answer(
            "206 Partial Content",
            b"II*\x00",
            f"Content-Range: bytes 0-{FIRST - 1}/{len(CONTENT)}",
            length=FIRST,
        )
        request.connection.shutdown(socket.SHUT_RDWR)

    host.script = script
    assert why(source_of(host)) is Reason.TRUNCATED


def hangs_up(request: Request) -> None:
    """Give the header; of whatever else is asked for, a megabyte less than announced."""
    start, end = request.range
    if start == 0:
        request.give(LARGE)
        return
    stated = f"Content-Range: bytes {start}-{end - 1}/{len(LARGE)}"
    request.answer("206 Partial Content", LARGE[start : end - 2**20], stated, 'ETag: "1"', length=end - start)
    request.connection.shutdown(socket.SHUT_RDWR)


def test_bytes_count_even_if_the_host_hangs_up_then(host: ScriptedHost) -> None:
    host.script = hangs_up
    source = source_of(host, limits=Limits(wait=0.0, attempts=3))
    source.opened()
    with pytest.raises(Unreadable) as refused:
        source.read_ranges([2**20], [2**21])
    assert refused.value.reason is Reason.TRUNCATED
    assert source.requests == 4
    assert FIRST + 2 * 2**20 < source.bytes <= FIRST + 3 * 2**20


def test_what_was_received_in_vain_counts_towards_the_limit(host: ScriptedHost) -> None:
    host.script = hangs_up
    source = source_of(host, limits=Limits(wait=0.0, attempts=9, bytes=2**22))
    source.opened()
    with pytest.raises(Unreadable) as refused:
        source.read_ranges([2**20], [2**21])
    assert refused.value.reason is Reason.TOO_LARGE
    assert source.bytes <= 2**22


def test_a_redirect_to_what_is_no_address_is_the_hosts_fault(host: ScriptedHost) -> None:
    host.script = lambda request: request.answer("302 Found", b"", "Location: http://[::1")
    assert why(source_of(host)) is Reason.SERVER_FAULT


@pytest.mark.parametrize(
    "stated",
    [
        f"bytes 0-3/{'9' * 5000}",
        "bytes 5-9/100",
        "bytes 0-9/*",
        "bytes */100",
        "rubbish",
        "bytes 0-99999999999999/x",
    ],
)
def test_another_range_than_was_asked_for_is_not_believed(host: ScriptedHost, stated: str) -> None:
    host.script = lambda request: request.answer(
        "206 Partial Content", b"II*\x00", f"Content-Range: {stated}"
    )
    assert why(source_of(host)) is Reason.SERVER_FAULT


def test_an_absurd_size_fills_no_memory(host: ScriptedHost) -> None:
    host.script = lambda request: request.answer("200 OK", b"II*\x00", length=10**15)
    assert why(source_of(host)) is Reason.NO_RANGES


def test_a_body_without_an_end_is_left(host: ScriptedHost) -> None:
    def script(request: Request) -> None:
        request.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            request.connection.sendall(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")

    host.script = script
    assert why(source_of(host, limits=Limits(whole=2**20, wait=0.0))) is Reason.NO_RANGES


def test_bytes_that_drip_end_when_the_time_is_up(host: ScriptedHost) -> None:
    def script(request: Request) -> None:
        request.answer(
            "206 Partial Content",
            b"II*\x00",
            f"Content-Range: bytes 0-{FIRST - 1}/{len(CONTENT)}",
            length=FIRST,
        )
        while True:
            time.sleep(0.05)
            request.connection.sendall(b"a")

    host.script = script
    begun = time.monotonic()
    source = source_of(host, limits=Limits(seconds=1.0))
    assert why(source) is Reason.SLOW
    assert 4 < source.bytes < 100
    assert time.monotonic() - begun < 15.0  # a whole page, byte by byte, would take half an hour


def test_a_host_that_says_nothing_is_left(host: ScriptedHost) -> None:
    host.script = lambda _: time.sleep(60)
    begun = time.monotonic()
    assert why(source_of(host, limits=Limits(seconds=1.0))) is Reason.SLOW
    assert time.monotonic() - begun < 15.0


def test_an_image_may_not_ask_for_more_bytes_than_one_may_have(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(CONTENT)
    source = source_of(host, limits=Limits(bytes=200_000))
    source.opened()
    with pytest.raises(Unreadable) as refused:
        source.read(0, 300_000)
    assert refused.value.reason is Reason.TOO_LARGE
    with pytest.raises(Unreadable) as refused:
        source.read_ranges([0, 0, 0], [100_000] * 3)
    assert refused.value.reason is Reason.TOO_LARGE


def test_an_image_that_is_replaced_while_it_is_read_is_not_mixed(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(CONTENT, etag=f'"{len(host.asked)}"')
    source = source_of(host)
    source.opened()
    with pytest.raises(Unreadable) as refused:
        source.read(500_000, 100_000)
    assert refused.value.reason is Reason.CHANGED


def test_ranges_beyond_the_end_are_told_and_not_asked_for(host: ScriptedHost) -> None:
    host.script = lambda request: request.give(CONTENT)
    source = source_of(host)
    for offset in (2**40, len(CONTENT) - 10 + TRAILER + 1):
        with pytest.raises(Unreadable) as refused:
            source.read_ranges([offset], [10])
        assert refused.value.reason is Reason.TRUNCATED
    at = len(CONTENT) - 6
    assert source.read_ranges([at, at + 6], [10, 4]) == [CONTENT[at:] + bytes(4), bytes(4)]


def test_a_signed_place_that_has_lapsed_is_found_again_by_the_first_address(host: ScriptedHost) -> None:
    def script(request: Request) -> None:
        if request.path == "/image.tif":
            request.answer("307 Temporary Redirect", b"", f"Location: /signed-{len(host.asked)}")
        elif request.path == "/signed-1" and len(host.asked) > 2:
            request.answer("403 Forbidden")
        else:
            request.give(CONTENT)

    host.script = script
    source = source_of(host)
    source.opened()
    assert source.read(500_000, 100_000) == CONTENT[500_000:600_000]


def test_gdal_is_shown_one_file_and_its_failures_wait_outside(host: ScriptedHost, tmp_path: Path) -> None:
    host.script = lambda request: request.give(CONTENT)
    source = source_of(host)
    shown = AsFile(source)
    assert shown.isfile(f"/vsiriopener_x/{AsFile.NAME}")
    assert not shown.isfile(str(tmp_path / "image.tif.aux.xml"))
    with pytest.raises(FileNotFoundError):
        shown.open("/vsiriopener_x/image.tif.ovr")
    opened = shown.open(AsFile.NAME)
    assert opened.read(4) == CONTENT[:4]
    host.script = lambda request: request.answer("404 Not Found")
    opened.seek(600_000)
    assert opened.read(100_000) == b""
    assert source.failure is not None
    assert source.failure.reason is Reason.MISSING


def test_what_fails_for_lack_of_memory_is_not_said_to_be_damaged(host: ScriptedHost) -> None:
    class Starved(Source):
        def read(self, start: int, length: int) -> bytes:
            raise MemoryError(start, length)

    source = Starved(host.address(), Hosts(Rules(private_hosts=frozenset({host.host}))))
    assert AsFile(source).open(AsFile.NAME).read(4) == b""
    assert source.failure is not None
    assert not Looked(reason=source.failure.reason, detail=source.failure.detail).lies_in_file

"""Which addresses in the catalogue may be requested: http, https and s3, on public hosts."""

from __future__ import annotations

import pytest

from oam_mosaic_assets.core.imagery.outcome import Reason, Unreadable
from oam_mosaic_assets.gateways.imagery.addresses import Rules, checked_addresses, is_public, target_of

PUBLIC = Rules()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/etc/passwd",
        "file:///etc/passwd",
        "/vsicurl/http://example.org/a.tif",
        "vsizip:///a.zip",
        "zip+https://example.org/a.zip!a.tif",
        "GTIFF_DIR:1:https://example.org/a.tif",
        "ftp://example.org/a.tif",
        "gs://bucket/a.tif",
        "https:///a.tif",
        "https://user:secret@example.org/a.tif",
        "https://user@example.org/a.tif",
        "https://example.org:99999/a.tif",
        "https://example.org:port/a.tif",
        "https://exa mple.org/a.tif",
        "https://example.org%00/a.tif",
        "https://[fe80::1%25eth0]/a.tif",
        "https://[not-an-address]/a.tif",
        "https://-example.org/a.tif",
        "https://./a.tif",
        "https://example.org:0/a.tif",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key.tif",
        "s3://Bucket.With@Credentials/key.tif",
        "s3://../key.tif",
        "<VRTDataset></VRTDataset>",
        "https://example.org/" + "a" * 2048,
    ],
)
def test_an_address_that_is_none_of_the_three_is_refused_before_anybody_is_asked(address: str) -> None:
    with pytest.raises(Unreadable) as refused:
        target_of(address, PUBLIC)
    assert refused.value.reason is Reason.BAD_ADDRESS


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("https://example.org/a.tif", "https://example.org/a.tif"),
        ("HTTP://example.org:80/a.tif", "http://example.org/a.tif"),
        ("https://example.org./a.tif", "https://example.org/a.tif"),
        ("https://example.org:8443/a.tif?v=1&w=a%20b#part", "https://example.org:8443/a.tif?v=1&w=a%20b"),
        ("https://example.org/ein Bild/für.tif", "https://example.org/ein%20Bild/f%C3%BCr.tif"),
        ("https://bücher.example/a.tif", "https://xn--bcher-kva.example/a.tif"),
        ("https://[2001:db8::1]/a.tif", "https://[2001:db8::1]/a.tif"),
        ("s3://images/2026/a b.tif", "https://images.s3.amazonaws.com/2026/a%20b.tif"),
        ("s3://images/a?b#c.tif", "https://images.s3.amazonaws.com/a%3Fb%23c.tif"),
        ("s3://dotted.name/a.tif", "https://s3.amazonaws.com/dotted.name/a.tif"),
    ],
)
def test_an_address_is_asked_as_it_was_meant(address: str, asked: str) -> None:
    assert target_of(address, PUBLIC).address == asked


def test_a_line_break_does_not_smuggle_a_header_into_the_request() -> None:
    target = target_of("https://example.org/a.tif\r\nX-Evil: 1", PUBLIC)
    assert not set(target.path) & set("\r\n ")


def test_an_s3_address_is_read_at_the_endpoint_that_is_configured() -> None:
    rules = Rules(s3_endpoint="http://127.0.0.1:9000")
    assert target_of("s3://images/a.tif", rules).address == "http://127.0.0.1:9000/images/a.tif"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",  # noqa: S104
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # where clouds keep their credentials
        "100.64.0.1",
        "192.0.0.192",  # as do older ones of Oracle's
        "168.63.129.16",  # Azure's, though the address is a public one
        "64:ff9b::a83f:8110",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "fec0::a",
        "2002:7f00:1::1",
        "no address",
    ],
)
def test_what_is_not_of_the_public_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "2130706433", "0x7f.1", "017700000001", "127.1"]
)
def test_this_machine_is_refused_however_its_name_is_written(host: str) -> None:
    with pytest.raises(Unreadable) as refused:
        checked_addresses(target_of(f"http://{host}/a.tif", PUBLIC), PUBLIC)
    assert refused.value.reason is Reason.REFUSED_ADDRESS


def test_one_private_answer_among_public_ones_refuses_the_host() -> None:
    target = target_of("https://example.org/a.tif", PUBLIC)
    with pytest.raises(Unreadable) as refused:
        checked_addresses(target, PUBLIC, lambda *_: ["8.8.8.8", "10.0.0.1"])
    assert refused.value.reason is Reason.REFUSED_ADDRESS


def test_a_name_that_nobody_knows_is_said_to_be_unknown() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(Unreadable) as refused:
        checked_addresses(target_of("https://example.org/a.tif", PUBLIC), PUBLIC, unknown)
    assert refused.value.reason is Reason.UNKNOWN_HOST


@pytest.mark.parametrize(
    ("configured", "address", "allowed"),
    [
        ("cogs.internal", "http://cogs.internal/a.tif", True),
        ("cogs.internal", "https://COGS.internal/a.tif", True),
        ("cogs.internal", "http://cogs.internal:6379/a.tif", False),
        ("cogs.internal:9000", "http://cogs.internal:9000/a.tif", True),
        ("cogs.internal:9000", "http://cogs.internal/a.tif", False),
        ("cogs.internal:9000", "http://other.internal:9000/a.tif", False),
    ],
)
def test_a_host_that_is_configured_may_be_private_at_its_port_alone(
    configured: str, address: str, *, allowed: bool
) -> None:
    rules = Rules(private_hosts=frozenset({configured}))
    target = target_of(address, rules)
    if allowed:
        assert checked_addresses(target, rules, lambda *_: ["10.0.0.1"]) == ["10.0.0.1"]
    else:
        with pytest.raises(Unreadable):
            checked_addresses(target, rules, lambda *_: ["10.0.0.1"])

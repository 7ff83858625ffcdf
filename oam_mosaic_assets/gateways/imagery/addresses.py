"""Which image addresses may be requested. They come from the catalogue, where anyone may have written them.

Only http, https and s3 are allowed. An s3 address is read anonymously, without credentials, since its author
may not have the access that we have. A host is contacted at the IP address that was checked after its name
was resolved, so that no second DNS answer can lead elsewhere.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from oam_mosaic_assets.core.imagery.outcome import Reason, Unreadable
from oam_mosaic_assets.gateways.s3_client import bucket_address

LONGEST: Final = 2048
"""How many characters an address may have."""

AMAZON: Final = "https://s3.amazonaws.com"

_PORTS: Final = {"http": 80, "https": 443}
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC: Final = tuple(
    map(ip_network, ("64:ff9b:1::/48", "::ffff:0:0:0/96", "fec0::/10", "192.0.0.0/24", "168.63.129.16"))
)
"""Local-use NAT64 (RFC 8215), translated IPv4 (RFC 2765), site-local, protocol assignments (RFC 6890): all
global to some versions of Python; and where Azure's machines get their configuration from."""
_IPV4_COMPATIBLE: Final = IPv6Network("::/96")
_LAST_32_BITS: Final = 0xFFFF_FFFF

Resolve = Callable[[str, int], list[str]]
"""Returns all IP addresses of a host and port, as text. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an address leads.

    Attributes:
        scheme: `http` or `https`.
        host: its name, or an IP address without brackets.
        port: of the host.
        path: includes the query; ASCII, starts with a slash.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of a `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def address(self) -> str:
        """The whole URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be requested.

    Attributes:
        private_hosts: hosts whose addresses need not be public: `host` for the default ports, `host:port`
            for another. Lower case.
        s3_endpoint: where the buckets of s3 addresses are.
    """

    private_hosts: frozenset[str] = frozenset()
    s3_endpoint: str = AMAZON

    def allow_private(self, target: Target) -> bool:
        """Whether the host was configured as one that need not be public."""
        host = target.host.lower()
        return (
            f"{host}:{target.port}" in self.private_hosts
            or (host in self.private_hosts and target.port == _PORTS[target.scheme])
        )  # fmt: skip


def target_of(address: str, rules: Rules) -> Target:
    """Where an address from the catalogue leads; no request is made yet.

    Raises:
        Unreadable: `BAD_ADDRESS`.
    """
    if len(address) > LONGEST:
        raise Unreadable(Reason.BAD_ADDRESS, f"{len(address)} characters")
    try:
        parts = urlsplit(address)
        if parts.scheme == "s3":
            address = _of_s3(parts, rules)
            parts = urlsplit(address)
        port = parts.port  # raises if it is not one
    except ValueError as error:
        raise Unreadable(Reason.BAD_ADDRESS, str(error)) from None
    host = (parts.hostname or "").rstrip(".")  # with a dot, it is another name for the same host
    if parts.scheme not in _PORTS:
        raise Unreadable(Reason.BAD_ADDRESS, f"scheme {parts.scheme[:20]!r}")
    if parts.username is not None or parts.password is not None:
        raise Unreadable(Reason.BAD_ADDRESS, "it contains credentials")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise Unreadable(Reason.BAD_ADDRESS, "its host name cannot be written in ASCII") from None
    if not (_HOST.fullmatch(host) or _is_ipv6(host)) or port == 0:
        raise Unreadable(Reason.BAD_ADDRESS, "its host or port is not valid")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe=_IN_QUERY)}" if parts.query else ""
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], path + query)


_IN_QUERY: Final = "/%:@!$&'()*+,;=~-._?[]"


def _of_s3(parts: SplitResult, rules: Rules) -> str:
    # a question mark or a hash may be part of an object's name
    rest = [f"{mark}{part}" for mark, part in (("?", parts.query), ("#", parts.fragment)) if part]
    name = "".join([parts.path.removeprefix("/"), *rest])
    if not _BUCKET.fullmatch(parts.netloc) or not parts.path.startswith("/") or not name:
        raise Unreadable(Reason.BAD_ADDRESS, "it does not name a valid bucket and object")
    return f"{bucket_address(rules.s3_endpoint, parts.netloc)}/{quote(name, safe='/%~-._')}"


def _is_ipv6(host: str) -> bool:
    try:
        return ip_address(host).version == 6 and "%" not in host  # noqa: PLR2004  # a zone is local to this machine
    except ValueError:
        return False


def resolved(host: str, port: int) -> list[str]:
    """All IP addresses of a host. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def checked_addresses(target: Target, rules: Rules, resolve: Resolve = resolved) -> list[str]:
    """The IP addresses at which the target may be contacted: all that its name resolves to.

    Raises:
        Unreadable: `UNKNOWN_HOST`; `REFUSED_ADDRESS` where any of them is not public.
    """
    try:
        found = resolve(target.host, target.port)
    except (OSError, UnicodeError) as error:
        raise Unreadable(Reason.UNKNOWN_HOST, f"{target.host}: {error}") from None
    if not found:
        raise Unreadable(Reason.UNKNOWN_HOST, target.host)
    if not rules.allow_private(target):
        for each in found:
            if not is_public(each):
                # operators can look up the IP address; it does not belong in a public report
                raise Unreadable(Reason.REFUSED_ADDRESS, target.authority)
    return found


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, and so are all IPv4 addresses embedded in it."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return all(
        each.is_global and not each.is_multicast and not any(each in network for network in _NEVER_PUBLIC)
        for each in (ip, *_inside(ip))
    )


def _inside(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses embedded in an IPv6 address, to which it may lead."""
    if isinstance(ip, IPv4Address):
        return []
    found = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _NAT64 or ip in _IPV4_COMPATIBLE:
        found.append(IPv4Address(int(ip) & _LAST_32_BITS))
    return [each for each in found if each is not None]

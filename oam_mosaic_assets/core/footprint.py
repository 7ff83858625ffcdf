"""From a STAC item to a footprint: what is known about one image, or the reason why it cannot be drawn.

A value that cannot be read is unknown (None) and recorded by its name and the reason; it never keeps the
image off the map. Geometry is read in `core.geometry`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oam_mosaic_assets.core.geometry import Area, Undrawable, drawable
from oam_mosaic_assets.core.rendering import render_query
from oam_mosaic_assets.core.shortened import shortened

FINEST_GSD: Final = 0.001
"""Metres. Smaller values are degrees per pixel (1.9e-07) that were mistaken for metres."""

COARSEST_GSD: Final = 1000.0
"""Metres. No image in this catalogue has pixels larger than a kilometre."""

FIRST_PHOTOGRAPH: Final = datetime(1858, 1, 1, tzinfo=UTC)
"""Nadar's balloon over Paris; there is no older aerial photograph."""

LONGEST_TEXT: Final = 1000
"""Characters of a title, a name or an id. All texts are in every tile that their image touches."""

LONGEST_ADDRESS: Final = 4000
"""Characters of an address; signed ones have up to 2,000."""

CLOCK_TOLERANCE: Final = timedelta(days=1)
"""A date without a time zone may lie up to a day in the future and still be right."""

IN_THE_FUTURE: Final = "in the future"
"""The reason recorded for a date that is not believed until it has come."""

LICENSES: Final[Mapping[str, str]] = {
    "ccby40": "CC-BY-4.0",
    "ccby": "CC-BY-4.0",
    "creativecommonsorglicensesby40": "CC-BY-4.0",
    "ccbync40": "CC-BY-NC-4.0",
    "ccbync": "CC-BY-NC-4.0",
    "creativecommonsorglicensesbync40": "CC-BY-NC-4.0",
    "ccbysa40": "CC-BY-SA-4.0",
    "ccbysa": "CC-BY-SA-4.0",
    "ccbyncsa40": "CC-BY-NC-SA-4.0",
    "ccbyncsa": "CC-BY-NC-SA-4.0",
    "creativecommonsorglicensesbyncsa40": "CC-BY-NC-SA-4.0",
    "creativecommonsorglicensesbysa40": "CC-BY-SA-4.0",
    "cc010": "CC0-1.0",
    "cc0": "CC0-1.0",
    "creativecommonsorgpublicdomainzero10": "CC0-1.0",
}
"""From what catalogues write, in lower case without scheme, spaces and punctuation, to SPDX identifiers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Where one image lies, and what is known about it. None means unknown.

    Attributes:
        id: the STAC item's id, an opaque string.
        geometry: EPSG:4326, valid, split at the antimeridian, within Web Mercator's latitudes.
        acquired_from: first acquisition, UTC.
        acquired_to: last acquisition, UTC; it decides which image lies on top.
        updated: when the catalogue's entry was last changed, UTC.
        gsd: ground sample distance, metres.
        license: SPDX identifier.
        asset: address of the visual asset, or of `data` in older items.
        asset_name: `visual` or `data`.
        file_size: of that asset, bytes.
        tms: address of the image's own tiles, with `{z}`, `{x}` and `{y}`.
        render_params: how a tile service should render it, as a TiTiler query.
        unknown: which values the item has that could not be read, and why, such as `gsd: not a number`.
    """

    id: str
    geometry: Area
    acquired_from: datetime | None = None
    acquired_to: datetime | None = None
    updated: datetime | None = None
    title: str | None = None
    provider: str | None = None
    platform: str | None = None
    sensor: str | None = None
    gsd: float | None = None
    license: str | None = None
    asset: str | None = None
    asset_name: str | None = None
    thumbnail: str | None = None
    file_size: int | None = None
    tms: str | None = None
    render_params: str | None = None
    unknown: tuple[str, ...] = field(default=())


NAMELESS: Final = frozenset({"not_an_item", "no_id"})
"""Reasons for which a row without an id is set aside; it goes by its position in the source."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """An image that cannot be drawn.

    Attributes:
        id: the item's id, or `row N` if it has none or one that cannot be written down; empty if the image
            was taken down.
        reason: one of the keys of `core.geometry.REASONS`.
        value: what is wrong, shortened.
    """

    id: str
    reason: str
    value: str


def read_item(
    item: Mapping[str, Any], *, row: int, now: datetime, area: Area | None = None
) -> Footprint | SetAside:
    """Read one STAC item.

    Args:
        item: the whole item. Anything may be wrong with it.
        row: its position in the source, from 1; identifies an item without an id.
        now: the moment of the snapshot, UTC; dates later than `CLOCK_TOLERANCE` after it are not believed.
        area: its geometry as `drawable` reads it, if that is known by now.
    """
    name = as_id(item.get("id"))
    if name is None:
        return SetAside(f"row {row}", "no_id", shortened(item.get("id")))
    try:
        geometry = drawable(item.get("geometry")) if area is None else area
    except Undrawable as flaw:
        return SetAside(name, flaw.reason, flaw.value)
    properties, assets = _mapping(item.get("properties")), _mapping(item.get("assets"))
    unknown: list[str] = []
    acquired_from, acquired_to = _acquired(properties, now, unknown)
    asset_name = next((each for each in ("visual", "data") if _href(assets.get(each))), None)
    asset = _mapping(assets.get(asset_name)) if asset_name else {}
    return Footprint(
        id=name,
        geometry=geometry,
        acquired_from=acquired_from,
        acquired_to=acquired_to,
        updated=_moment(properties, ("updated", "created"), now, unknown),
        title=_text(properties.get("title")),
        provider=_provider(properties),
        platform=_text(properties.get("oam:platform_type")),
        sensor=_sensor(properties),
        gsd=_gsd(properties, unknown),
        license=_license(properties, unknown),
        asset=_href(asset),
        asset_name=asset_name,
        thumbnail=_href(assets.get("thumbnail")),
        file_size=_file_size(asset, unknown),
        tms=_tms(item),
        render_params=render_query(item, asset_name, unknown),
        unknown=tuple(unknown),
    )


def as_id(value: object) -> str | None:
    """A value as an item's id; None if it is not one, cannot be written down, or is too long."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT:
        return None
    return None if _UNWRITABLE.search(value) else value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    """Text on one line, cut short if it is very long."""
    text = _on_one_line(value) if isinstance(value, str) else ""
    return (text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…") or None


def _on_one_line(text: str) -> str:
    """The text without control characters and the lone surrogates that UTF-8 cannot encode."""
    return " ".join(_UNWRITABLE.sub(" ", text).split())


_UNWRITABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _acquired(
    properties: Mapping[str, Any], now: datetime, unknown: list[str]
) -> tuple[datetime | None, datetime | None]:
    first = _moment(properties, ("start_datetime", "datetime", "end_datetime"), now, unknown)
    last = _moment(properties, ("end_datetime", "datetime", "start_datetime"), now, unknown)
    return (last, first) if first and last and first > last else (first, last)


def _moment(
    properties: Mapping[str, Any], names: tuple[str, ...], now: datetime, unknown: list[str]
) -> datetime | None:
    """The first of these dates that is plausible, in UTC; one without a time zone is taken as UTC."""
    for name in names:
        value = properties.get(name)
        if value is None:
            continue
        moment = _utc(value)
        if moment is None:
            flaw = f"{name}: unreadable"
        elif moment > now + CLOCK_TOLERANCE:
            flaw = f"{name}: {IN_THE_FUTURE}"
        elif moment < FIRST_PHOTOGRAPH:
            flaw = f"{name}: before photography"
        else:
            return moment
        if flaw not in unknown:
            unknown.append(flaw)
    return None


def _utc(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    text, after = value.upper(), timedelta(0)  # RFC 3339 allows "z" and "t"
    if text[16:19] == ":60":  # as does a leap second, which no datetime can hold
        text, after = f"{text[:16]}:59{text[19:]}", timedelta(seconds=1)
    try:
        moment = datetime.fromisoformat(text) + after
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _provider(properties: Mapping[str, Any]) -> str | None:
    named = _text(properties.get("oam:producer_name"))
    providers = properties.get("providers")
    if named or not isinstance(providers, list):
        return named
    return next((name for each in providers if (name := _text(_mapping(each).get("name")))), None)


def _sensor(properties: Mapping[str, Any]) -> str | None:
    instruments = properties.get("instruments")
    if isinstance(instruments, list):
        return _text(", ".join(filter(None, map(_text, instruments))))
    return _text(instruments) or _text(properties.get("platform"))


def _gsd(properties: Mapping[str, Any], unknown: list[str]) -> float | None:
    value = properties.get("gsd")
    if value is None:
        return None
    try:
        metres = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        metres = math.nan
    except OverflowError:
        metres = math.inf
    if FINEST_GSD <= metres <= COARSEST_GSD:
        return metres
    unknown.append("gsd: not a number" if math.isnan(metres) else "gsd: no plausible metre value")
    return None


def _license(properties: Mapping[str, Any], unknown: list[str]) -> str | None:
    value = properties.get("license")
    if value is None:
        return None
    text = _text(value)
    bare = re.sub(r"^https?://(www\.)?|[^a-z0-9]", "", text.lower()) if text else ""
    known = LICENSES.get(bare)
    if known is None:
        unknown.append("license: unknown")
    return known


def _href(asset: object) -> str | None:
    return _address(_mapping(asset).get("href"))


def _address(value: object) -> str | None:
    """None also if it is very long: half an address leads nowhere."""
    text = _on_one_line(value) if isinstance(value, str) and len(value) <= LONGEST_ADDRESS else ""
    return text or None


def _tms(item: Mapping[str, Any]) -> str | None:
    """The address of the image's tiles, from a link of the web map links extension or else a property."""
    links = item.get("links")
    found = [
        _href(each)
        for rel in ("xyz", "tms")
        for each in (links if isinstance(links, list) else ())
        if _mapping(each).get("rel") == rel
    ]
    found.append(_address(_mapping(item.get("properties")).get("tms")))
    return next((each for each in found if each and is_web_address(each)), None)


def is_web_address(address: str) -> bool:
    """Whether a browser may follow it, unlike `javascript:`, and can, unlike `s3:` or what is relative."""
    return address.lower().startswith(("https://", "http://"))


def _file_size(asset: Mapping[str, Any], unknown: list[str]) -> int | None:
    value = asset.get("file:size")
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    unknown.append("file_size: no number of bytes")
    return None

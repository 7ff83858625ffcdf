"""What is wrong with a known handful of the sample's items: every kind of fault that real catalogues hold.

The number of each kind does not depend on the size of the sample, and the outcome required of it is given
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, Literal

from oam_mosaic_assets.gateways.catalogue.sample_frames import Ring

MARK: Final = "sample:dirt"
"""The property that names an item's kind of dirt. Clean items have none."""

UNREADABLE: Final = "row_unreadable"
UPLOADED_TWICE: Final = "uploaded_twice"
ID_REPEATED: Final = "id_repeated"

Spoil = Callable[[dict[str, Any], int], None]
"""Spoils a clean item in place; the number counts the items of its kind from 0."""


@dataclass(frozen=True, slots=True)
class Dirt:
    """One kind of dirt, and the outcome required of items that have it.

    Attributes:
        outcome: `drawn` as it is, `repaired` and drawn, drawn with an `unknown` value, or `set_aside`.
        count: how many rows of every sample are of this kind.
        concerns: for an unknown value, its property and the reason; for items set aside, the reason.
        spoil: makes it; None if a whole row is repeated or broken, which `sample` does.
    """

    outcome: Literal["drawn", "repaired", "unknown", "set_aside"]
    count: int
    concerns: str = ""
    spoil: Spoil | None = None


def _sets(name: str, *values: object) -> Spoil:
    """Gives a property one of these values in turn."""

    def spoil(item: dict[str, Any], nth: int) -> None:
        item["properties"][name] = values[nth % len(values)]

    return spoil


def _dates(*values: str) -> Spoil:
    """Gives the item a single date."""

    def spoil(item: dict[str, Any], nth: int) -> None:
        for name in ("start_datetime", "end_datetime"):
            item["properties"].pop(name, None)
        item["properties"]["datetime"] = values[nth % len(values)]

    return spoil


def _without_license(item: dict[str, Any], _nth: int) -> None:
    del item["properties"]["license"]


def _without_id(item: dict[str, Any], nth: int) -> None:
    if nth % 2:
        item["id"] = None
    else:
        del item["id"]


def _redraws(redraw: Callable[[Ring], object]) -> Spoil:
    """Redraws the item's ring."""

    def spoil(item: dict[str, Any], _nth: int) -> None:
        item["geometry"] = {"type": "Polygon", "coordinates": [redraw(item["geometry"]["coordinates"][0])]}

    return spoil


def _lies(*geometries: Mapping[str, Any] | None, title: str = "", by_satellite: bool = False) -> Spoil:
    """Gives the item one of these geometries in turn, and properties to match."""

    def spoil(item: dict[str, Any], nth: int) -> None:
        del item["bbox"]  # it belongs to the old geometry
        item["geometry"] = deepcopy(geometries[nth % len(geometries)])
        if title:
            item["properties"]["title"] = f"{title} {nth + 1}"
        if by_satellite:
            item["properties"].update({"oam:platform_type": "satellite", "gsd": 10.0, "instruments": ["MSI"]})

    return spoil


def _bow_tie(ring: Ring) -> Ring:
    west, east = min(lon for lon, _ in ring), max(lon for lon, _ in ring)
    south, north = min(lat for _, lat in ring), max(lat for _, lat in ring)
    return [[west, south], [east, north], [east, south], [west, north], [west, south]]


def _box(west: float, south: float, east: float, north: float) -> Ring:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _polygon(ring: object) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring]}


def _split(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """A box across the antimeridian in two parts; `west` is in the eastern hemisphere."""
    parts = [[_box(west, south, 180.0, north)], [_box(-180.0, south, east, north)]]
    return {"type": "MultiPolygon", "coordinates": parts}


_ROUND_THE_SOUTH_POLE: Final = [[lon, -83.5] for lon in (150, 110, 70, 30, -10, -50, -90, -130, -170)]
"""Westwards, so that the pole is to its left; the closing edge crosses the antimeridian."""

DIRT: Final[Mapping[str, Dirt]] = {
    # values
    "gsd_as_text": Dirt("unknown", 3, "gsd: not a number", _sets("gsd", "unknown", "n/a", "5 cm")),
    "gsd_in_degrees": Dirt(
        "unknown", 3, "gsd: no plausible metre value", _sets("gsd", 1.9e-07, 3.3787e-07, 2.9902379e-07)
    ),
    "license_spelled_freely": Dirt(
        "repaired", 3, spoil=_sets("license", "CC-BY 4.0", "CC BY-NC 4.0", "CC BY-SA 4.0")
    ),
    "license_missing": Dirt("drawn", 3, spoil=_without_license),
    "license_unheard_of": Dirt(
        "unknown", 2, "license: unknown", _sets("license", "All rights reserved", "free")
    ),
    "date_without_zone": Dirt(
        "repaired", 3, spoil=_dates("2016-05-01T07:00:00", "2019-03-20T10:30:00.5", "2023-02-09 08:15:00")
    ),
    "date_in_the_future": Dirt("unknown", 3, "datetime: in the future", _dates("2099-05-01T00:00:00Z")),
    "date_a_century_ahead": Dirt("unknown", 2, "datetime: in the future", _dates("2116-04-27T05:00:00Z")),
    "date_before_photography": Dirt(
        "unknown", 1, "datetime: before photography", _dates("0216-04-27T05:00:00Z")
    ),
    "date_impossible": Dirt(
        "unknown", 3, "datetime: unreadable", _dates("2017-02-30T00:00:00Z", "2018-13-01T00:00:00Z")
    ),
    "title_with_quotes": Dirt(
        "drawn", 2, spoil=_sets("title", 'The "Old" Harbour\\North', "L'Aquila «centro»")
    ),
    "title_with_emoji": Dirt(
        "drawn", 2, spoil=_sets("title", "Flood 🌊 response 🚁", "Family 👩‍👩‍👧 and 🇳🇵")
    ),
    "title_with_control_characters": Dirt(
        "repaired", 2, spoil=_sets("title", "Tab\there", "Bell \u0007 and line\r\nbreak")
    ),
    # rings
    "third_coordinate": Dirt("repaired", 3, spoil=_redraws(lambda ring: [[*point, 12.5] for point in ring])),
    "ring_unclosed": Dirt("repaired", 3, spoil=_redraws(lambda ring: ring[:-1])),
    "ring_clockwise": Dirt("repaired", 3, spoil=_redraws(lambda ring: ring[::-1])),
    "ring_crosses_itself": Dirt("repaired", 3, spoil=_redraws(_bow_tie)),
    "points_repeated": Dirt(
        "repaired", 3, spoil=_redraws(lambda ring: [point for point in ring for _ in range(2)])
    ),
    # where in the world
    "antimeridian_the_long_way_round": Dirt(
        "repaired",
        8,
        spoil=_lies(
            _polygon(_box(-179.9712, -16.8861, 179.9744, -16.8402)),
            _polygon(_box(-179.9935, -16.9402, 179.9618, -16.9083)),
            _polygon(_box(-179.9381, -16.8243, 179.9962, -16.7925)),
            _polygon(_box(-179.8620, -16.9310, 179.9150, -16.7180)),
            _polygon(_box(-179.9884, 71.2035, 179.9527, 71.2391)),
            _polygon(_box(-179.9978, -16.7684, 179.9901, -16.7613)),
            _polygon(_box(-179.7133, -18.3127, 179.8408, -18.0240)),
            _polygon(_box(-179.9655, -16.8720, 179.9867, -16.8511)),
            title="Over the antimeridian",
        ),
    ),
    "antimeridian_already_split": Dirt(
        "drawn",
        4,
        spoil=_lies(
            _split(179.9752, -16.8710, -179.9804, -16.8466),
            _split(179.9901, -16.9288, -179.9577, -16.9021),
            _split(179.9120, -16.8033, -179.8951, -16.6808),
            _split(179.9640, 65.1022, -179.9413, 65.1187),
            title="Either side of the antimeridian",
        ),
    ),
    "partly_beyond_mercator": Dirt(
        "repaired",
        3,
        spoil=_lies(
            _polygon(_box(-31.2, 84.98, -30.7, 85.12)),
            _polygon(_box(56.1, 85.0, 56.4, 85.09)),
            _polygon(_box(-92.5, -85.08, -92.1, -84.99)),
            title="Polar scene",
            by_satellite=True,
        ),
    ),
    "round_the_pole": Dirt(
        "set_aside",
        1,
        "too_large",
        _lies(
            _polygon([*_ROUND_THE_SOUTH_POLE, _ROUND_THE_SOUTH_POLE[0]]),
            title="Round the South Pole",
            by_satellite=True,
        ),
    ),
    "wholly_beyond_mercator": Dirt(
        "set_aside",
        2,
        "no_area",
        _lies(
            _polygon(_box(12.0, 88.1, 19.0, 88.4)),
            _polygon(_box(-45.0, -89.2, -30.0, -88.9)),
            title="Near the pole",
            by_satellite=True,
        ),
    ),
    # no outline
    "geometry_empty": Dirt(
        "set_aside",
        2,
        "no_geometry",
        _lies({"type": "Polygon", "coordinates": []}, {"type": "MultiPolygon", "coordinates": []}),
    ),
    "geometry_null": Dirt("set_aside", 2, "no_geometry", _lies(None)),
    "not_a_polygon": Dirt(
        "set_aside",
        2,
        "not_a_polygon",
        _lies(
            {"type": "Point", "coordinates": [85.3206, 27.7083]},
            {"type": "LineString", "coordinates": [[39.21, -6.81], [39.24, -6.79], [39.27, -6.80]]},
        ),
    ),
    "coordinates_swapped": Dirt(
        "set_aside",
        2,
        "outside_the_world",
        _lies(_polygon(_box(11.19, 124.95, 11.21, 124.98)), _polygon(_box(-8.57, 116.24, -8.55, 116.26))),
    ),
    "coordinates_no_numbers": Dirt(
        "set_aside",
        2,
        "not_a_number",
        _lies(
            _polygon([["NaN", "NaN"], ["NaN", "NaN"], ["NaN", "NaN"], ["NaN", "NaN"]]),
            _polygon([[85.31, 27.70], [85.32, None], [85.32, 27.71], [85.31, 27.70]]),
        ),
    ),
    "area_zero": Dirt(
        "set_aside",
        2,
        "no_area",
        _lies(
            _polygon([[-72.30, 18.54], [-72.29, 18.54], [-72.28, 18.54], [-72.30, 18.54]]),
            _polygon([[36.16, 36.20]] * 5),
        ),
    ),
    # rows
    "id_missing": Dirt("set_aside", 2, "no_id", _without_id),
    ID_REPEATED: Dirt("set_aside", 2, "duplicate_id"),
    UPLOADED_TWICE: Dirt("drawn", 3),
    UNREADABLE: Dirt("set_aside", 2, "not_an_item"),
}
"""Every kind by its name, in no particular order."""

UNREADABLE_ROWS: Final = (
    '{"type": "Feature", "stac_version": "1.0.0", "id": "59e62b863d6412ef72209ae1", "geome',
    "<html><head><title>502 Bad Gateway</title></head>",
)

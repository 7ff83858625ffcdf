"""From a geometry as catalogues really hold it to one that can be drawn in Web Mercator, or why it cannot.

All coordinates here are longitude, latitude in degrees (EPSG:4326). A geometry with one sensible reading is
repaired; one with none is refused with the offending value. Nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, cast

import antimeridian
import numpy as np
import shapely
import shapely.affinity
from shapely import MultiPolygon, Polygon
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from oam_mosaic_assets.core.grid import project
from oam_mosaic_assets.core.jaggedness import could_cross, sides_of
from oam_mosaic_assets.core.shortened import shortened

MERCATOR_LATITUDE: Final = 85.0511287798065
"""Where Web Mercator ends, degrees north and south: atan(sinh(pi)), which makes its world a square; rounded
down, or what lies beyond the world would be drawn as a sliver at its edge."""

MAX_LATITUDE: Final = 90.0

MAX_LONGITUDE: Final = 360.0
"""A ring drawn continuously across the antimeridian leaves +-180, but stays within +-360."""

ANTIMERIDIAN: Final = 180.0

LARGEST_AREA: Final = 1 / 1000
"""Share of the Web Mercator map: 1,270 km square at the equator, 220 km square at 80 degrees. Without a
limit, one outline could cost more tiles than all images of the catalogue together. Half of each outline's
length counts as a strip of `_NARROWEST`."""

LARGEST_FRAME: Final = 1 / 50
"""Share of the map that a bounding box may take up, so that long diagonal strips pass."""

_NARROWEST: Final = 2.0**-15
"""Share of the map's side, a tile's edge at z15: narrower strips cost as many tiles as one of this width."""

MOST_CROSSINGS: Final = 50_000
"""How often an outline may cross itself, or parts and holes each other. Repairing one that does takes a
second and 100 MB, and four times as much of both for twice as many corners of a tangle."""

_OWN_NEIGHBOURS: Final = 3
"""The sides that each side of an outline meets without crossing any: itself, and one at each end."""

_NEIGHBOURS: Final = 30
"""The same for sides of parts that share corners and sides: more than in any regular mesh."""

MOST_WITH_ITS_LIKE: Final = 5_000
"""How often an outline could cross another that is as jagged (`core.jaggedness`), as combs of 35 teeth do. Of
22,792 real images, the most jagged could 270 times."""

MOST_HOPS: Final = 100
"""How often an outline round a pole may pass the antimeridian; a coast may do so some ten times. Finding the
way takes quadratic time, and nests as many calls."""

_PAIRS_TOGETHER: Final = 2**20
"""The most pairs of sides of an outline that are examined together."""

HARDLY_AN_AREA: Final = 1e-9
"""Square degrees, about ten square metres. Only smaller parts can vanish when drawn on the map."""

_THINNEST: Final = 2.0**-45
"""Share of the map's side, about a micrometre: four of the steps to which `reach.polygons_of` rounds, as the
width of a strip is twice its area over its perimeter. What is thinner may or may not touch a tile or a pixel
beside it, as one or another way of finding out rounds it."""

ROUND_THE_WORLD: Final = 360.0

HALF_THE_WORLD: Final = 180.0
"""Degrees of longitude; no image is wider, so a wider outline crosses the antimeridian."""

_POLYGONS: Final = ("Polygon", "MultiPolygon")
"""GeoJSON types that enclose an area. Not a set, because an item's `type` need not be hashable."""

_RING_CORNERS: Final = 3
"""The fewest distinct points that can enclose an area."""

Area = Polygon | MultiPolygon
"""Valid, not empty, within +-180 and +-MERCATOR_LATITUDE, exteriors counterclockwise (RFC 7946)."""


class Undrawable(Exception):
    """A geometry without a sensible reading.

    Attributes:
        reason: one of the keys of `REASONS`.
        value: what is wrong, short enough for a list.
    """

    def __init__(self, reason: str, value: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = shortened(value)


TAKEN_DOWN: Final = "taken_down"

REASONS: Final[Mapping[str, str]] = {
    "not_an_item": "the row is not a STAC item",
    "unreadable": "the catalogue has the image's id, but its item cannot be read",
    "no_id": "the item has no id",
    "duplicate_id": "an item with this id was already read",
    "no_geometry": "there is no geometry, or an empty one",
    "not_a_polygon": "the geometry is of a type that encloses no area",
    "not_a_number": "a coordinate is not a finite number",
    "outside_the_world": "a coordinate is outside the world; latitude and longitude may be swapped",
    "no_way_round": "the outline goes round the world, and which side is inside cannot be determined",
    "too_large": "it would cover more of the map than any image does",
    "too_jagged": "the outline goes to and fro like that of a comb, as no image does",
    "beyond_repair": "the outline touches or crosses itself in a way that cannot be resolved",
    TAKEN_DOWN: "the image was taken down: `oam-mosaic takedown`",
    "no_area": "no area is left after repair, or within Web Mercator's latitudes",
}
"""The reasons why an image can be set aside, and what each means."""


def drawable(geometry: object) -> Area:
    """Read and repair a GeoJSON geometry.

    Third coordinates are dropped, rings are closed, self-crossings resolved, areas that cross the
    antimeridian split at it, latitudes clipped to Web Mercator's, and rings oriented as in RFC 7946.

    Args:
        geometry: what the item has as its geometry: a GeoJSON object if all is well.

    Raises:
        Undrawable: there is no sensible reading.
    """
    polygons = list(_polygons(geometry))
    if not polygons:
        raise Undrawable("no_geometry", geometry)
    rings_of = [[_ring(ring) for ring in polygon] for polygon in polygons]
    try:
        parts = [part for rings in rings_of if rings[0] for part in _unwrapped(rings)]
        return _within_mercator(parts, geometry)
    except GEOSException as error:  # points too close together for floats to tell apart
        raise Undrawable("beyond_repair", str(error)) from None


def _within_mercator(parts: Sequence[BaseGeometry], source: object) -> Area:
    whole: BaseGeometry = _united(parts) if len(parts) != 1 else parts[0]
    bounds = shapely.bounds(whole)  # NaN if it is empty
    if bounds[1] < -MERCATOR_LATITUDE or bounds[3] > MERCATOR_LATITUDE:
        whole = _areas_only(
            shapely.intersection(whole, shapely.box(-180.0, -MERCATOR_LATITUDE, 180.0, MERCATOR_LATITUDE))
        )
    whole = _without_what_vanishes(whole)
    if shapely.area(whole) == 0.0:
        raise Undrawable("no_area", source)
    _refuse_too_large(whole)
    if could_cross(whole, enough=MOST_WITH_ITS_LIKE) > MOST_WITH_ITS_LIKE:
        raise Undrawable("too_jagged", f"two like it could cross more than {MOST_WITH_ITS_LIKE:,} times")
    return cast("Area", shapely.orient_polygons(whole))


def _without_what_vanishes(whole: BaseGeometry) -> BaseGeometry:
    """Drop parts so thin that rounding decides where they lie once they are projected to the map's square."""
    parts = shapely.get_parts(whole)
    if (shapely.area(parts) > HARDLY_AN_AREA).all():
        return whole
    projected = project(parts, 0)
    return shapely.union_all(parts[shapely.area(projected) > shapely.length(projected) * _THINNEST])


def _refuse_too_large(whole: BaseGeometry) -> None:
    west, south, east, north = shapely.bounds(whole).tolist()
    stretch = math.cos(math.radians(max(abs(south), abs(north))))  # the map is enlarged by at most 1 / this
    if (east - west) * (north - south) <= LARGEST_AREA * ROUND_THE_WORLD**2 * stretch and (
        east - west < ROUND_THE_WORLD
    ):
        return  # as nearly all do; the frame of those at the antimeridian is that of their parts together
    parts = project(shapely.get_parts(whole), 0)  # the map is the unit square
    west, north, east, south = shapely.bounds(parts).T
    frame = float(((east - west) * (south - north)).sum())
    if frame <= LARGEST_AREA and (east - west).max() < 1.0:
        return
    # the length of a strip is half its perimeter
    drawn = float(shapely.area(parts).sum() + shapely.length(parts).sum() / 2 * _NARROWEST)
    if drawn > LARGEST_AREA or frame > LARGEST_FRAME or (east - west).max() >= 1.0:
        raise Undrawable("too_large", f"{drawn:.2%} of the world map within {whole.bounds}")


def _polygons(geometry: object) -> Iterator[Sequence[Any]]:
    """The polygons of a GeoJSON geometry, each a list of rings, unchecked."""
    if not isinstance(geometry, Mapping) or not geometry:
        raise Undrawable("no_geometry", geometry)
    kind = geometry.get("type")
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        members = [m for m in geometry["geometries"] if _type_of(m) in _POLYGONS]
        if not members and geometry["geometries"]:
            raise Undrawable("not_a_polygon", geometry)
        for member in members:
            yield from _polygons(member)
        return
    if kind not in _POLYGONS:
        raise Undrawable("not_a_polygon", geometry)
    coordinates = geometry.get("coordinates")
    if coordinates and not isinstance(coordinates, list):
        raise Undrawable("not_a_number", coordinates)
    for polygon in [coordinates] if kind == "Polygon" else coordinates or []:
        if polygon and not isinstance(polygon, list):
            raise Undrawable("not_a_number", polygon)
        if polygon:
            yield polygon


def _type_of(member: object) -> object:
    return member.get("type") if isinstance(member, Mapping) else None


def _ring(points: object) -> list[tuple[float, float]]:
    """A ring in two dimensions, closed, no point twice in a row; empty if fewer than three points differ."""
    if not isinstance(points, list):
        raise Undrawable("not_a_number", points)
    ring = [point for point, _ in groupby(map(_position, points))]
    if len(set(ring)) < _RING_CORNERS:
        return []
    if ring[0] != ring[-1]:
        ring.append(ring[0])
    return ring


def _position(point: object) -> tuple[float, float]:
    try:
        lon, lat = point[0], point[1]  # type: ignore[index]  # anything that is not a sequence raises
    except (TypeError, IndexError, KeyError):
        raise Undrawable("not_a_number", point) from None
    if type(lon) is type(lat) is float and abs(lat) <= MAX_LATITUDE and abs(lon) <= MAX_LONGITUDE:
        return lon, lat  # as nearly all are
    for value in (lon, lat):
        # to Python, a bool is an int; to anyone else, it is not a coordinate
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Undrawable("not_a_number", point)
        if isinstance(value, float) and not math.isfinite(value):  # an int may be too large for isfinite
            raise Undrawable("not_a_number", point)
    if abs(lat) > MAX_LATITUDE or abs(lon) > MAX_LONGITUDE:
        raise Undrawable("outside_the_world", point)
    return float(lon), float(lat)


def _unwrapped(rings: Sequence[list[tuple[float, float]]]) -> Iterator[BaseGeometry]:
    """The polygon as valid parts within +-180, none of which crosses the antimeridian."""
    west, east = _reach(rings[0])
    if west >= -ANTIMERIDIAN and east <= ANTIMERIDIAN and east - west <= HALF_THE_WORLD:
        yield from shapely.get_parts(_enclosed(rings))
        return
    # An outline wider than half the world crosses the antimeridian and is drawn the long way round. Counted
    # from 0 to 360 it is narrow, as is one that leaves +-180, so it is repaired and cut there.
    span = east - west
    turned = [[(lon % ROUND_THE_WORLD, lat) for lon, lat in ring] for ring in rings]
    west, east = _reach(turned[0])
    if 0.0 < east - west < HALF_THE_WORLD:
        whole = _enclosed(turned)
        eastern = shapely.intersection(whole, shapely.box(0.0, -MAX_LATITUDE, ANTIMERIDIAN, MAX_LATITUDE))
        western = shapely.intersection(whole, shapely.box(ANTIMERIDIAN, -MAX_LATITUDE, 360.0, MAX_LATITUDE))
        yield from shapely.get_parts(_areas_only(eastern))
        yield from shapely.get_parts(_areas_only(shapely.affinity.translate(western, xoff=-360.0)))
        return
    # An outline given in longitudes from 0 to 360 may be just as wide, because it crosses Greenwich.
    turned = [[((lon + 180.0) % ROUND_THE_WORLD - 180.0, lat) for lon, lat in ring] for ring in rings]
    west, east = _reach(turned[0])
    if 0.0 < east - west < HALF_THE_WORLD:
        yield from shapely.get_parts(_enclosed(turned))
        return
    if span >= ROUND_THE_WORLD:
        raise Undrawable("too_large", f"it spans {span:g} degrees of longitude")
    # an outline that is wide either way encloses a pole
    whole, polygon = _round_a_pole(rings[:1]), _round_a_pole(rings)
    west, _, east, _ = shapely.bounds(polygon)
    # holes of an outline without an area come back as areas, and holes beyond the antimeridian stay there
    if shapely.area(polygon) > shapely.area(whole) or west < -ANTIMERIDIAN or east > ANTIMERIDIAN:
        raise Undrawable("no_way_round", "its rings cannot be joined")
    yield from shapely.get_parts(polygon)


def _round_a_pole(rings: Sequence[list[tuple[float, float]]]) -> BaseGeometry:
    if sum(map(_hops, rings)) > MOST_HOPS:
        raise Undrawable("no_way_round", f"its rings pass the antimeridian more than {MOST_HOPS} times")
    try:
        polygon = antimeridian.fix_polygon(_polygon(rings), fix_winding=True, great_circle=False)
    except (ValueError, AssertionError) as error:  # it asserts that every hole has an outline
        raise Undrawable("no_way_round", str(error) or "its rings cannot be joined") from None
    return _areas_only(polygon)


def _hops(ring: Sequence[tuple[float, float]]) -> int:
    """How often a ring passes the antimeridian, if each side takes the shorter way."""
    longitudes = (np.array([lon for lon, _ in ring]) + ANTIMERIDIAN) % ROUND_THE_WORLD
    return int((np.abs(np.diff(longitudes)) > HALF_THE_WORLD).sum())


def _reach(ring: Sequence[tuple[float, float]]) -> tuple[float, float]:
    longitudes = [lon for lon, _ in ring]
    return min(longitudes), max(longitudes)


def _polygon(rings: Sequence[list[tuple[float, float]]]) -> Polygon:
    outline, *holes = [shapely.linearrings(ring) for ring in rings if ring]
    polygon: Polygon = shapely.polygons(outline, holes or None)
    return polygon


def _enclosed(rings: Sequence[list[tuple[float, float]]]) -> BaseGeometry:
    """The area enclosed by the first ring minus those enclosed by the others, made valid."""
    polygon = _polygon(rings)
    if polygon.is_valid:
        return polygon
    # ring by ring, because make_valid takes a hole outside its outline for an outline of its own
    outline, *holes = [_areas_only(Polygon(ring)) for ring in rings if ring]
    _refuse_tangled([outline, *holes], _NEIGHBOURS)
    return _areas_only(shapely.difference(outline, shapely.union_all(holes)))


def _united(parts: Sequence[BaseGeometry]) -> BaseGeometry:
    _refuse_tangled(parts, _NEIGHBOURS)
    whole: BaseGeometry = shapely.union_all(parts)
    return whole


def _areas_only(geometry: BaseGeometry) -> BaseGeometry:
    """The geometry made valid, without any points and lines left over."""
    if not geometry.is_valid:
        _refuse_tangled([geometry], _OWN_NEIGHBOURS)
        # "structure" keeps what an outline encloses; "linework" would turn overlapping rings inside out
        geometry = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    if isinstance(geometry, Polygon | MultiPolygon):
        return geometry
    return shapely.union_all([part for part in shapely.get_parts(geometry) if part.area > 0.0])


def _refuse_tangled(areas: Sequence[BaseGeometry], neighbours: int) -> None:
    ends = sides_of(areas)
    if len(ends) ** 2 < 2 * MOST_CROSSINGS:
        return
    sides = np.asarray(shapely.linestrings(ends), dtype=object)
    tree, step, met = shapely.STRtree(sides), max(1, _PAIRS_TOGETHER // len(sides)), 0
    for start in range(0, len(sides), step):
        some = sides[start : start + step]
        met += tree.query(some, predicate="intersects").shape[1] - neighbours * len(some)
        if met > 2 * MOST_CROSSINGS:  # each is met from both sides
            raise Undrawable("beyond_repair", f"it crosses itself more than {MOST_CROSSINGS:,} times")

"""Well-known binary to GeoJSON, with every number as stored, for databases and GeoParquet alike.

Shapely refuses invalid geometries (such as an unclosed ring), and PostGIS's own GeoJSON rounds. Whether a
footprint can be drawn is decided in `core`, which must see it as it is; so nothing here judges or repairs.

Reads ISO WKB (GeoParquet) and EWKB (PostGIS), with two to four ordinates per position.
"""

from __future__ import annotations

import struct
from typing import Any

_TYPES = {
    1: "Point",
    2: "LineString",
    3: "Polygon",
    4: "MultiPoint",
    5: "MultiLineString",
    6: "MultiPolygon",
    7: "GeometryCollection",
}
_EWKB_Z, _EWKB_M, _EWKB_SRID = 0x80000000, 0x40000000, 0x20000000
_EWKB_FLAGS = _EWKB_Z | _EWKB_M | _EWKB_SRID


def geojson_from_wkb(wkb: bytes) -> dict[str, Any]:
    """Decode a geometry; positions are lists as in RFC 7946, `[x, y]` or `[x, y, z]`, with m last if stored.

    What GeoJSON cannot express (a curve, truncated bytes) becomes an object of a type that is never drawn,
    `{"type": "unreadable WKB", "wkb": <first bytes, hexadecimal>}`: one bad row must not end a run.
    """
    try:
        return _Reader(wkb).geometry()
    except (struct.error, KeyError, IndexError, RecursionError):
        return {"type": "unreadable WKB", "wkb": wkb[:64].hex()}


class _Reader:
    """Reads one value after another."""

    def __init__(self, wkb: bytes) -> None:
        self._wkb = wkb
        self._at = 0

    def geometry(self) -> dict[str, Any]:
        order = "<" if self._wkb[self._at] else ">"
        self._at += 1
        (code,) = self._read(f"{order}I")
        if code & _EWKB_SRID:
            self._at += 4
        ordinates = 2 + bool(code & _EWKB_Z) + bool(code & _EWKB_M)
        iso_dimension, kind = divmod(code & ~_EWKB_FLAGS, 1000)
        ordinates += {0: 0, 1: 1, 2: 1, 3: 2}[iso_dimension]
        name = _TYPES[kind]
        if name == "Point":
            (position,) = self._positions(order, ordinates, count=1)
            empty = position[0] != position[0]  # an empty point is stored as NaN
            return {"type": name, "coordinates": [] if empty else position}
        (count,) = self._read(f"{order}I")
        if name == "LineString":
            return {"type": name, "coordinates": self._positions(order, ordinates, count=count)}
        if name == "Polygon":
            rings = [self._positions(order, ordinates, *self._read(f"{order}I")) for _ in range(count)]
            return {"type": name, "coordinates": rings}
        parts = [self.geometry() for _ in range(count)]
        if name == "GeometryCollection":
            return {"type": name, "geometries": parts}
        return {"type": name, "coordinates": [part["coordinates"] for part in parts]}

    def _positions(self, order: str, ordinates: int, count: int) -> list[list[float]]:
        flat = self._read(f"{order}{count * ordinates}d")
        return [list(flat[start : start + ordinates]) for start in range(0, len(flat), ordinates)]

    def _read(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._wkb, self._at)
        self._at += struct.calcsize(layout)
        return values

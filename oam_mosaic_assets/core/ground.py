"""How much ground images cover: square kilometres, overlaps counted once, and the covered share of each cell.

Areas are measured on the WGS84 ellipsoid; sides are straight in longitude and latitude, as in RFC 7946. A Web
Mercator tile is a rectangle in degrees as well, so all cutting is done in degrees. The area under a side is
the integral of the sine of the authalic latitude along it. Source: Snyder, Map Projections: A
Working Manual, 1987, equations 3-11 and 3-12.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.cutting import cut_to_square
from oam_mosaic_assets.core.grid import (
    Geometries,
    first_tile_id,
    mended,
    tile_ids,
    tile_positions,
    tiles_between,
    to_tiles,
)

Numbers = NDArray[np.int64]
Shares = NDArray[np.float64]

SHEET_ZOOM: Final = 6
"""Zoom of the tiles that are dissolved one by one: the sheets."""

SHEETS: Final = 1 << 2 * SHEET_ZOOM
"""How many sheets there are."""

_ECCENTRICITY: Final = 0.0818191908426215
"""The eccentricity of the WGS84 ellipsoid."""

_WORLD_KM2: Final = 510_065_621.724
"""The area of the WGS84 ellipsoid, whose authalic radius is 6,371.0072 km."""

_LONGEST_SIDE: Final = 1.0
"""Degrees; along such a side Simpson's rule is wrong by some square metres at most."""

TOGETHER: Final = 16_384
"""Pieces dissolved at a time, at most; and after how many pieces the sheets so far are yielded."""

_FULL: Final = 1.0 - 1e-9
"""A cell with this share or more counts as fully covered."""

_CELL: Final = shapely.box(0.0, 0.0, 1.0, 1.0)
_NOTHING: Final = shapely.Polygon()


class Sheet(NamedTuple):
    """The ground that images cover in a tile of `SHEET_ZOOM`.

    Attributes:
        cell: position along the Hilbert curve of its zoom.
        ground: in the tile's own coordinates: 0 to 1 to the east and to the south, linear in degrees.
    """

    cell: int
    ground: shapely.Geometry


def areas_km2(areas: Geometries) -> NDArray[np.float64]:
    """The area of each geometry (EPSG:4326) in square kilometres."""
    split = shapely.segmentize(areas, _LONGEST_SIDE)
    # 360 degrees, times 2 for the sine from pole to pole, is the whole world
    square_degrees = _integrals(split, np.zeros(len(areas)), np.ones(len(areas)))
    world: NDArray[np.float64] = square_degrees / 360.0 / 2.0 * _WORLD_KM2
    return world


class Ground:
    """The ground that images cover: added in any order, dissolved sheet by sheet."""

    def __init__(self, path: Path) -> None:
        """Start empty.

        Args:
            path: of the database file for pieces that are not dissolved yet; must not exist.
        """
        self._database = sqlite3.connect(path, isolation_level=None)
        for statement in (
            # nothing here outlives the process
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE pieces (cell INTEGER, area BLOB)",
            "CREATE INDEX by_cell ON pieces (cell)",
            "BEGIN",
        ):
            self._database.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, areas: Geometries, wanted: NDArray[np.bool_]) -> None:
        """Cut areas into pieces by sheet, and add them.

        Args:
            areas: EPSG:4326, valid, within Web Mercator's latitudes, split at the antimeridian.
            wanted: for each sheet, whether what lies in it is wanted.
        """
        cell, pieces = _pieces(areas, wanted)
        rows = zip(cell.tolist(), shapely.to_wkb(pieces).tolist(), strict=True)
        self._database.executemany("INSERT INTO pieces VALUES (?, ?)", rows)

    def sheets(self, first: int = 0, last: int = SHEETS) -> Iterator[list[Sheet]]:
        """The sheets in which something is covered, in order, some at a time.

        Args:
            first: the first sheet wanted.
            last: the sheet after the last.
        """
        found = self._database.execute(
            "SELECT cell, area FROM pieces WHERE cell >= ? AND cell < ? ORDER BY cell, rowid", (first, last)
        )
        sheets: list[Sheet] = []
        held = 0
        for cell, rows in groupby(found, key=itemgetter(0)):
            ground: shapely.Geometry = _NOTHING
            while areas := [area for _, area in islice(rows, TOGETHER)]:
                ground = shapely.union_all([ground, *shapely.from_wkb(areas)])
                held += len(areas)
            sheets.append(Sheet(cell, ground))
            if held >= TOGETHER:
                yield sheets
                sheets, held = [], 0
        if sheets:
            yield sheets


def covered_km2(sheets: list[Sheet]) -> dict[int, float]:
    """The covered area of each sheet in square kilometres, by its cell."""
    cells = np.array([each.cell for each in sheets], np.int64)
    longest = _LONGEST_SIDE / 360.0 * (1 << SHEET_ZOOM)  # no sheet is higher than wide, in degrees
    ground = shapely.segmentize(np.array([each.ground for each in sheets], dtype=object), longest)
    covered = _shares(ground, cells, SHEET_ZOOM) * cells_km2(cells, SHEET_ZOOM)
    return dict(zip(cells.tolist(), covered.tolist(), strict=True))


def cells_km2(cells: Numbers, zoom: int) -> NDArray[np.float64]:
    """The area of tiles in square kilometres.

    Args:
        cells: positions along the Hilbert curve of the zoom.
    """
    _, row = tile_positions(cells + first_tile_id(zoom), zoom)
    heights: NDArray[np.float64] = _authalic(northern_edges(row, zoom)) - _authalic(
        northern_edges(row + 1, zoom)
    )
    return heights * (_WORLD_KM2 / 2.0 / (1 << zoom))


def shares_below(
    sheets: list[Sheet], wanted: Callable[[int, int, int], Numbers], deepest: int
) -> Iterator[tuple[int, Numbers, Shares]]:
    """The covered share of cells, zoom by zoom, starting with the zoom of the sheets.

    Args:
        sheets: in order.
        wanted: takes a zoom and a range of cells (first, and the one after the last), and returns the cells
            wanted in it, ascending. The parent of a wanted cell must be wanted as well.
        deepest: the last zoom.

    Returns:
        Zoom, cells and shares (0 to 1).
    """
    first, last = sheets[0].cell, sheets[-1].cell + 1
    grounds = {each.cell: each.ground for each in sheets}
    above = wanted(SHEET_ZOOM, first, last)
    ground = np.array([grounds.get(each, _NOTHING) for each in above.tolist()], dtype=object)
    share = _shares(ground, above, SHEET_ZOOM)
    yield SHEET_ZOOM, above, share
    for zoom in range(SHEET_ZOOM + 1, deepest + 1):
        first, last = 4 * first, 4 * last
        cells = wanted(zoom, first, last)
        parent = np.searchsorted(above, cells // 4)
        ground, share = _within(ground[parent], share[parent], cells, zoom)
        above = cells
        yield zoom, cells, share


def _within(parents: Geometries, of_parent: Shares, cells: Numbers, zoom: int) -> tuple[Geometries, Shares]:
    """The covered ground of cells, in their own coordinates, and their share, from those of their parents."""
    ground, share = parents.copy(), of_parent.copy()
    partly = (share > 0.0) & (share < _FULL)
    ground[share >= _FULL], share[share >= _FULL] = _CELL, 1.0
    column, row = tile_positions(cells[partly] + first_tile_id(zoom), zoom)
    top, bottom = northern_edges(row // 2, zoom - 1), northern_edges(row // 2 + 1, zoom - 1)
    middle = northern_edges(row // 2 * 2 + 1, zoom)
    here, is_south = (top - middle) / (top - bottom), row % 2
    corner = np.column_stack([column % 2 / 2.0, here * is_south])
    side = np.column_stack([np.full(len(row), 0.5), np.where(is_south == 1, 1.0 - here, here)])
    # A square as large as the parent, with a corner in its middle. Along the parent's own edges its ground is
    # cut already, and has corners, where cutting again is slow.
    square = np.where(corner > 0.0, corner, side - 1.0)
    beside = mended(cut_to_square(_moved(parents[partly], -square, np.ones_like(side)), 0.0, 1.0))
    ground[partly] = _moved(beside, square - corner, side)
    share[partly] = np.minimum(_shares(ground[partly], cells[partly], zoom), 1.0)
    return ground, share


def _moved(areas: Geometries, by: Shares, unit: Shares) -> Geometries:
    """Areas moved, then scaled.

    Args:
        areas: in any unit.
        by: to the east and to the south, for each area; shape (n, 2).
        unit: the new units of x and y, for each area, measured in the old one; shape (n, 2).
    """
    points, of = shapely.get_coordinates(areas, return_index=True)
    moved: Geometries = shapely.set_coordinates(areas.copy(), (points + by[of]) / unit[of])
    return moved


def _shares(ground: Geometries, cells: Numbers, zoom: int) -> Shares:
    """The covered share of cells, from their covered ground in their own coordinates."""
    _, row = tile_positions(cells + first_tile_id(zoom), zoom)
    top, bottom = northern_edges(row, zoom), northern_edges(row + 1, zoom)
    shares: Shares = _integrals(ground, top, bottom - top) / (_authalic(top) - _authalic(bottom))
    return np.abs(shares)


def _integrals(
    areas: Geometries, origin: NDArray[np.float64], unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The integral over each area of dx d(sine of the authalic latitude).

    Args:
        areas: polygons and collections of them; latitude is `origin + unit * y`.
        origin: degrees, one per area.
        unit: degrees, one per area.
    """
    parts, part_of = shapely.get_parts(areas, return_index=True)
    parts, again = shapely.get_parts(parts, return_index=True)  # collections may hold multipolygons
    rings, part = shapely.get_rings(shapely.orient_polygons(parts), return_index=True)
    of = part_of[again][part]
    points, ring = shapely.get_coordinates(rings, return_index=True)
    is_side = ring[1:] == ring[:-1]
    area = of[ring[1:][is_side]]
    latitude = (
        origin[area, None] + unit[area, None] * np.column_stack([points[:-1, 1], points[1:, 1]])[is_side]
    )
    first, last = latitude.T
    # Simpson's rule
    mean = (_authalic(first) + 4.0 * _authalic((first + last) / 2.0) + _authalic(last)) / 6.0
    steps = np.diff(points[:, 0])[is_side]
    return np.abs(np.bincount(area, steps * mean, minlength=len(areas)))


def sheets_near(areas: Geometries) -> Numbers:
    """The sheets that the bounding boxes of the parts of areas (EPSG:4326) reach, ascending."""
    _, column, row = tiles_between(*tile_frames(shapely.get_parts(areas)))
    return np.unique(tile_ids(SHEET_ZOOM, column, row)) - first_tile_id(SHEET_ZOOM)


def are_near(areas: Geometries, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which areas (EPSG:4326) have a bounding box that reaches one of the wanted sheets.

    The bounding box of an area that crosses the antimeridian reaches around the world.

    Args:
        wanted: for each sheet, whether it is one of them.
    """
    column, row = tile_positions(np.flatnonzero(wanted) + first_tile_id(SHEET_ZOOM), SHEET_ZOOM)
    side = (1 << SHEET_ZOOM) + 1
    before = np.zeros((side, side), np.int64)  # number of wanted tiles north-west of each corner
    before[row + 1, column + 1] = 1
    before = before.cumsum(axis=0).cumsum(axis=1)
    west, north, east, south = tile_frames(areas)
    inside = before[south, east] - before[south, west] - before[north, east] + before[north, west]
    near: NDArray[np.bool_] = inside > 0
    return near


def tile_frames(areas: Geometries, zoom: int = SHEET_ZOOM) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """The tiles that bounding boxes reach: first column and row, and the column and row after the last."""
    west, south, east, north = shapely.bounds(areas).T
    corners = np.column_stack([np.concatenate([west, east]), np.concatenate([north, south])])
    reached = np.floor(to_tiles(corners, zoom)).astype(np.int64)
    columns, rows = np.clip(reached, 0, (1 << zoom) - 1).T.reshape(2, 2, -1)
    return columns[0], rows[0], columns[1] + 1, rows[1] + 1


def _pieces(areas: Geometries, wanted: NDArray[np.bool_]) -> tuple[Numbers, Geometries]:
    """Areas cut at the edges of sheets: the cell of each piece's sheet, and the piece in its coordinates."""
    parts = shapely.get_parts(areas)
    tiles = 1 << SHEET_ZOOM
    which, column, row = tiles_between(*tile_frames(parts))
    is_wanted = wanted[tile_ids(SHEET_ZOOM, column, row) - first_tile_id(SHEET_ZOOM)]
    which, column, row = which[is_wanted], column[is_wanted], row[is_wanted]
    top, bottom = northern_edges(row, SHEET_ZOOM), northern_edges(row + 1, SHEET_ZOOM)
    points, of = shapely.get_coordinates(parts[which], return_index=True)
    u = (points[:, 0] / 360.0 + 0.5) * tiles - column[of]
    v = (top[of] - points[:, 1]) / (top - bottom)[of]
    local = shapely.set_coordinates(parts[which], np.column_stack([u, v]))
    cut = mended(cut_to_square(local, 0.0, 1.0))
    solid = shapely.area(cut) > 0.0
    return (tile_ids(SHEET_ZOOM, column, row) - first_tile_id(SHEET_ZOOM))[solid], cut[solid]


def sides_of(cells: Numbers, zoom: int) -> NDArray[np.float64]:
    """West, south, east, north of cells, degrees, shape (4, n).

    Args:
        cells: positions along the Hilbert curve of the zoom.
    """
    column, row = tile_positions(cells + first_tile_id(zoom), zoom)
    west, east = np.stack([column, column + 1]) / (1 << zoom) * 360.0 - 180.0
    return np.stack([west, northern_edges(row + 1, zoom), east, northern_edges(row, zoom)])


def bounds_of(cells: Numbers, zoom: int) -> tuple[float, float, float, float]:
    """West, south, east, north of all cells together; see `sides_of`."""
    west, south, east, north = sides_of(cells, zoom)
    return float(west.min()), float(south.min()), float(east.max()), float(north.max())


def _authalic(latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sine of the authalic latitude, from the geodetic latitude in degrees."""

    def q(sine: NDArray[np.float64] | float) -> NDArray[np.float64]:
        e = _ECCENTRICITY
        q: NDArray[np.float64] = (1.0 - e * e) * (sine / (1.0 - (e * sine) ** 2) + np.arctanh(e * sine) / e)
        return q

    sine: NDArray[np.float64] = q(np.sin(np.radians(latitude))) / q(1.0)
    return sine


def northern_edges(row: Numbers, zoom: int) -> NDArray[np.float64]:
    """The latitude of the northern edge of a row of tiles, in degrees."""
    latitude: NDArray[np.float64] = np.degrees(np.arctan(np.sinh(np.pi * (1.0 - 2.0 * row / (1 << zoom)))))
    return latitude

"""The density grid as vector tiles: each cell as a polygon and as the point at its centre.

A tile holds the cells within it, at most 256, each counting all its images; tiles have no buffer, because no
cell crosses a tile's edge. Source: the Vector Tile Specification 2.1.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import shapely

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.density import FINER, NAMED, SIDES, ZOOM_MAX, kind_name
from oam_mosaic_assets.core.density_rows import OrderedTable, changed_tiles, tile_spans
from oam_mosaic_assets.core.density_tables import DensityTables
from oam_mosaic_assets.core.fragment import spooled
from oam_mosaic_assets.core.grid import first_tile_id, tile_positions
from oam_mosaic_assets.core.ground import bounds_of
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tile_writing import (
    VARINT,
    Tile,
    Value,
    count_of_layer,
    feature_of_layer,
    head_of_layer,
    packed,
    shape_of_point,
    shapes_of_rings,
    tile_of_layer,
    value_of_layer,
)
from oam_mosaic_assets.core.tiling import ATTRIBUTION, EXTENT

Properties = Sequence[tuple[str, Value]]

LAYER: Final = "density"

EXTENT_SIDES: Final = ("bboxW", "bboxS", "bboxE", "bboxN")
"""The polygon properties that state the extent, in the order of `SIDES`."""

_STEPS: Final = 1e6
"""Steps of an extent in a degree: a tenth of a metre each."""

MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"
"""UTC, whole seconds."""

_ACROSS: Final = 1 << FINER
"""Cells along a tile's edge."""

_SIDE: Final = EXTENT // _ACROSS
"""Tile units along a cell's edge."""

_CELLS: Final = 1 << 2 * FINER
"""Cells in a tile."""

_RECIPE: Final = 6
"""Increment whenever the same snapshot gives different tables or tiles."""


@dataclass(frozen=True, slots=True)
class DensityBefore:
    """An earlier grid, made by the same recipe.

    Attributes:
        archive: its audited archive.
        tables: the tables it was drawn from.
    """

    archive: Path
    tables: DensityTables


def density_recipe() -> str:
    """A digest of what, besides the snapshot, determines the bytes of its tables and tiles: 16 hex digits."""
    programs = [shapely.geos_version_string, zlib.ZLIB_RUNTIME_VERSION]
    return hashlib.sha256(json.dumps([_RECIPE, *programs]).encode()).hexdigest()[:16]


def write_density_archive(
    tables: DensityTables,
    archive: Path,
    *,
    metadata: Mapping[str, Any],
    scratch: Path,
    before: DensityBefore | None = None,
) -> tuple[int, int]:
    """Write the archive. The same tables and metadata give the same bytes, whatever is taken over.

    Args:
        tables: of the snapshot, with at least one cell.
        archive: where it goes; must not exist.
        metadata: the archive's metadata.
        scratch: a folder for the drawn tiles until they are in the archive.
        before: only tiles that differ from this grid are drawn; the others are taken over from it.

    Returns:
        How many tiles were drawn, and how many taken over.
    """
    place = Place(zoom_min=0, zoom_max=ZOOM_MAX, bounds=_bounds(tables.cells))
    spool = scratch / "density.spool"
    with ExitStack() as held:
        opened = held.enter_context(spool.open("x+b"))
        spool.unlink()  # open but nameless, so nobody else finds it
        kept: list[Source] = []
        changed = None
        if before is not None:
            changed = changed_tiles(before.tables, tables)
            was = held.enter_context(open_archive(before.archive))
            kept = [Source.of_archive(was, scratch, besides=changed)]
        drawn = spooled(density_tiles(tables, changed), opened)
        write_archive(archive, [drawn, *kept], place, metadata)
        made, *reused = (int(each.entries.run_length.sum()) for each in (drawn, *kept))
    return made, sum(reused)


def density_metadata(
    *, snapshot: str, taken_at: str, images: int, excluded: Mapping[str, int], years: Sequence[int]
) -> dict[str, Any]:
    """The metadata of the archive.

    Args:
        snapshot: the digest of the snapshot.
        taken_at: its moment, ISO 8601; "last 7 days" and the like are relative to it.
        images: how many are counted.
        excluded: how many images of the catalogue are not counted, by reason.
        years: the years in which images were acquired.
    """
    counts = ["count", *NAMED, *(kind_name(year) for year in years)]
    fields = dict.fromkeys((*counts, *EXTENT_SIDES, "covered"), "Number") | {"newest": "String"}
    return {
        "name": "OpenAerialMap density",
        "description": "How many images OpenAerialMap holds where, and of which kinds.",
        "attribution": ATTRIBUTION,
        "type": "overlay",
        "format": "pbf",
        "version": "2",
        "snapshot": snapshot,
        "snapshot_taken_at": taken_at,
        "images": images,
        "excluded": dict(excluded),
        "vector_layers": [
            {
                "id": LAYER,
                "description": "Cells of a grid, each as a polygon and as the point in its middle",
                "minzoom": 0,
                "maxzoom": ZOOM_MAX,
                "fields": fields,
            }
        ],
    }


def density_tiles(tables: DensityTables, only: Stretches | None = None) -> Iterator[Tile]:
    """Draw the cells.

    Args:
        tables: the cells and their kinds.
        only: the tiles wanted; None means all.

    Returns:
        The tiles in the order of their PMTiles ids.
    """
    cells, kinds = OrderedTable(tables.cells), OrderedTable(tables.kinds)
    for zoom in range(ZOOM_MAX + 1):
        of_zoom, by_kind = cells.of_zoom(zoom), kinds.of_zoom(zoom)
        tiles = np.unique(of_zoom.tiles)
        wanted = tiles if only is None else tiles[only.hold(tiles + first_tile_id(zoom))]
        for first, last in tile_spans(tiles, len(of_zoom.tiles)):
            here = wanted[(wanted >= first) & (wanted <= last)]
            if not len(here):
                continue
            is_wanted = (pl.col("cell") // _CELLS).is_in(pl.Series(here).implode())
            rows, counts = (each.rows(first, last).filter(is_wanted) for each in (of_zoom, by_kind))
            yield from _drawn(zoom, rows, counts)


def outward(cells: pl.DataFrame) -> list[pl.Series]:
    """The sides of cells' extents, rounded to steps away from their middles, so that they hold all images."""
    found = []
    for side in SIDES:
        true = cells[side].to_numpy()
        near = np.rint(true * _STEPS)
        # not by polars, which multiplies by a reciprocal unless there is just one row
        if side in ("west", "south"):
            near -= near / _STEPS > true
        else:
            near += near / _STEPS < true
        found.append(pl.Series(side, near / _STEPS))
    return found


def _drawn(zoom: int, cells: pl.DataFrame, kinds: pl.DataFrame) -> Iterator[Tile]:
    code = cells["cell"].to_numpy()
    tile = code >> 2 * FINER
    column, row = tile_positions(code + first_tile_id(zoom + FINER), zoom + FINER)
    place = (row % _ACROSS * _ACROSS + column % _ACROSS).tolist()
    of_kind = np.append(np.searchsorted(kinds["cell"].to_numpy(), code), len(kinds)).tolist()
    counted = list(zip(map(kind_name, kinds["kind"].to_list()), kinds["count"].to_list(), strict=True))
    counts = [
        [("count", count), *counted[start:stop]]
        for count, (start, stop) in zip(cells["count"].to_list(), pairwise(of_kind), strict=True)
    ]
    more = cells.select(
        *(each.alias(name) for name, each in zip(EXTENT_SIDES, outward(cells), strict=True)),
        "covered",
        pl.col("newest").dt.strftime(MOMENT),
    )
    shown = [
        [(name, each) for name, each in values.items() if each is not None]
        for values in more.iter_rows(named=True)
    ]
    bounds = [*np.flatnonzero(np.diff(tile, prepend=-1)).tolist(), len(code)]
    for start, stop in pairwise(bounds):
        sheet = _Sheet()
        for each in range(start, stop):
            sheet.add(place[each], counts[each], shown[each])
        x, y = int(column[start]) // _ACROSS, int(row[start]) // _ACROSS
        yield Tile(zoom, x, y, packed(sheet.written()))


class _Sheet:
    """A tile in the making: polygons are written first, so that points lie on top."""

    def __init__(self) -> None:
        self._polygons, self._points = bytearray(), bytearray()
        self._keys: dict[str, int] = {}
        self._values: dict[tuple[type, Value], int] = {}

    def add(self, place: int, counts: Properties, more: Properties) -> None:
        """Add a cell.

        Args:
            place: the index of the cell in the tile, row by row.
            counts: properties of both its features.
            more: further properties of the polygon.
        """
        tags = self._tags(counts)
        self._points += feature_of_layer(tags, POINTS[place])
        self._polygons += feature_of_layer(tags + self._tags(more), POLYGONS[place])

    def _tags(self, properties: Properties) -> bytes:
        keys, values, tags = self._keys, self._values, b""
        for name, value in properties:
            key = keys.setdefault(name, len(keys))
            # an int and a float that equals it are encoded as different types
            tags += VARINT[key] + VARINT[values.setdefault((type(value), value), len(values))]
        return tags

    def written(self) -> bytes:
        """The tile, uncompressed."""
        values = [
            count_of_layer(value) if isinstance(value, int) else value_of_layer(value)
            for _, value in self._values
        ]
        return tile_of_layer([head_of_layer(LAYER, self._keys), self._polygons, self._points, *values])


def _squares() -> list[bytes]:
    """The outline of each cell of a tile, row by row, clockwise on the screen."""
    row, column = np.divmod(np.arange(_ACROSS**2), _ACROSS)
    corner = np.column_stack([column, row])[:, None, :] + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    return shapes_of_rings(corner.reshape(-1, 2) * _SIDE, np.full(len(row), 4), np.arange(len(row)))


POLYGONS: Final = _squares()

POINTS: Final = [
    shape_of_point(column * _SIDE + _SIDE // 2, row * _SIDE + _SIDE // 2)
    for row in range(_ACROSS)
    for column in range(_ACROSS)
]
"""The centre of each cell of a tile, row by row."""


def _bounds(cells: Path) -> tuple[float, float, float, float]:
    """West, south, east, north of all cells in degrees, from those of zoom 0, which contain all others."""
    code = pl.scan_parquet(cells, glob=False).filter(zoom=0).select("cell").collect()["cell"].to_numpy()
    return bounds_of(code, FINER)

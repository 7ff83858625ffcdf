"""Reading a density archive as a map does: the properties of each cell, and what readers would not expect."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from pmtiles.tile import tileid_to_zxy

from oam_mosaic_assets.core.archive import Archive, BrokenArchive
from oam_mosaic_assets.core.density import FINER, SIDES, ZOOM_MAX
from oam_mosaic_assets.core.density_tiles import EXTENT_SIDES, LAYER, POINTS, POLYGONS
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids, tile_name, zoom_of
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import EXTENT
from oam_mosaic_assets.core.vector_tile import MESSAGES, POLYGON, BrokenTile, Layer, read_layers


def _drawn(shape: bytes) -> tuple[int, ...]:
    """The geometry type and the drawing commands of an encoded shape."""
    feature = MESSAGES["Feature"].FromString(shape)
    return (feature.type, *feature.geometry)


_PLACES: Final = {_drawn(shape): place for shapes in (POLYGONS, POINTS) for place, shape in enumerate(shapes)}

TOGETHER: Final = 32_768
"""Once a span holds this many cells, another begins; it may exceed this by those of one run of tiles."""

_ACROSS: Final = 1 << FINER
_COUNT: Final = "count"
"""Prefix of the properties that the polygon and the point of a cell share."""

_TYPES: Final = {
    **dict.fromkeys((*EXTENT_SIDES, "covered"), "double_value"),
    "newest": "string_value",
}
"""The value types of the properties that are not counts."""


@dataclass(slots=True)
class Found:
    """The contents of some tiles of a zoom.

    Attributes:
        x: the column of each cell; the attributes up to `newest` are parallel to it, `sides` with four each.
        newest: ISO 8601; None if unknown.
        owner: for each kind in each cell, the index of the cell; the attributes after it are parallel to it.
    """

    x: array[int] = field(default_factory=lambda: array("q"))
    y: array[int] = field(default_factory=lambda: array("q"))
    count: array[int] = field(default_factory=lambda: array("q"))
    sides: array[float] = field(default_factory=lambda: array("d"))
    covered: array[float] = field(default_factory=lambda: array("d"))
    newest: list[str | None] = field(default_factory=list)
    owner: array[int] = field(default_factory=lambda: array("q"))
    kind: list[str] = field(default_factory=list)
    kind_count: array[int] = field(default_factory=lambda: array("q"))

    def add(self, x: int, y: int, counts: Mapping[str, int], others: Mapping[str, Any]) -> None:
        """Add a cell. Raises `BrokenTile` if a property is missing."""
        try:  # before anything is added, or the columns would not have equally many values
            sides, covered = [others[name] for name in EXTENT_SIDES], others["covered"]
        except KeyError as error:
            raise BrokenTile(f"a polygon lacks {error.args[0]}") from None
        kinds = [*counts]
        kinds.remove(_COUNT)
        self.owner.extend([len(self.x)] * len(kinds))
        self.kind.extend(kinds)
        self.kind_count.extend([counts[name] for name in kinds])
        self.x.append(x)
        self.y.append(y)
        self.count.append(counts[_COUNT])
        self.sides.extend(sides)
        self.covered.append(covered)
        self.newest.append(others.get("newest"))

    def tables(self, zoom: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The cells, and the number of images of each kind in them; both in cell order."""
        x, y, count, owner, by_kind = (
            np.frombuffer(each, np.int64)
            for each in (self.x, self.y, self.count, self.owner, self.kind_count)
        )
        cell = tile_ids(zoom + FINER, x, y) - first_tile_id(zoom + FINER)
        sides = np.frombuffer(self.sides, np.float64).reshape(-1, len(SIDES))
        cells = pl.DataFrame(
            {
                "cell": cell,
                "count": count,
                **{name: sides[:, index] for index, name in enumerate(SIDES)},
                "newest": pl.Series(self.newest, dtype=pl.String()),
                "covered": np.frombuffer(self.covered, np.float64),
            }
        )
        kind = pl.Series(self.kind, dtype=pl.String())
        kinds = pl.DataFrame({"cell": cell[owner], "kind": kind, "count": by_kind})
        return cells.sort("cell"), kinds.sort("cell", "kind")


@dataclass(frozen=True, slots=True)
class Read:
    """What an archive holds, read without its footprints.

    Attributes:
        tiles: number of tiles by zoom.
        images: sum of the cells' counts by zoom.
        faults: tiles that are not as readers expect, and why.
    """

    tiles: Mapping[int, int]
    images: Mapping[int, int]
    faults: Sequence[str]


def is_density(archive: Archive) -> bool:
    """Whether the metadata of an archive lists the density layer."""
    layers = archive.metadata.get("vector_layers")
    return isinstance(layers, list) and LAYER in [each.get("id") for each in layers if isinstance(each, dict)]


def read_density(archive: Archive) -> Read:
    """Read every tile. Raises `BrokenArchive` if a directory is broken."""
    faults: list[str] = []
    tiles, images = Counter[int](), Counter[int]()
    for span in read_spans(archive, faults):
        tiles[span.zoom] += span.tiles
        images[span.zoom] += sum(span.found.count)
    return Read(
        tiles={zoom: each for zoom, each in tiles.items() if each},
        images={zoom: images[zoom] for zoom, each in tiles.items() if each},
        faults=faults,
    )


@dataclass(frozen=True, slots=True)
class Span:
    """The contents of a range of tile ids within a zoom. Consecutive spans cover all zooms without gaps.

    Attributes:
        zoom: of the tiles.
        first: the first id of the range.
        end: the id after its last.
        found: what the tiles in it hold.
        tiles: how many there are.
    """

    zoom: int
    first: int
    end: int
    found: Found
    tiles: int


def read_spans(archive: Archive, faults: list[str], only: Stretches | None = None) -> Iterator[Span]:
    """Read the tiles, a span at a time.

    Args:
        archive: the archive.
        faults: receives what is not as readers expect.
        only: the tiles to read; None means all.

    Raises:
        BrokenArchive: a directory is broken.
    """
    zoom, first, found, tiles = 0, first_tile_id(0), Found(), 0
    for tile_id, run_length, offset, length in _entries(archive, only):
        if zoom_of(tile_id) > ZOOM_MAX:
            faults.append(f"{tile_name(tile_id)}: the grid ends at z{ZOOM_MAX}")
            break
        while zoom_of(tile_id) > zoom:
            end = first_tile_id(zoom + 1)
            yield Span(zoom, first, end, found, tiles)
            zoom, first, found, tiles = zoom + 1, end, Found(), 0
        if len(found.x) >= TOGETHER:
            yield Span(zoom, first, tile_id, found, tiles)
            first, found, tiles = tile_id, Found(), 0
        tiles += run_length
        try:
            (layer,) = _layers(archive.tile(tile_id, offset, length))
            for each in range(tile_id, tile_id + run_length):
                _read(layer, each, found)
        except (BrokenArchive, BrokenTile) as error:
            faults.append(f"{tile_name(tile_id)}: {error}")
    for rest in range(zoom, ZOOM_MAX + 1):
        yield Span(rest, first, first_tile_id(rest + 1), found, tiles)
        first, found, tiles = first_tile_id(rest + 1), Found(), 0


def _entries(archive: Archive, only: Stretches | None) -> Iterator[tuple[int, int, int, int]]:
    for directory in archive.directories():
        some = directory if only is None else only.cut(directory)[0]
        columns = (some.tile_id, some.run_length, some.offset, some.length)
        yield from zip(*(column.tolist() for column in columns), strict=True)


def _layers(tile: bytes) -> list[Layer]:
    layers = read_layers(tile)
    if [(each.name, each.version, each.extent) for each in layers] != [(LAYER, 2, EXTENT)]:
        raise BrokenTile(f"it does not hold exactly one valid layer {LAYER!r}")
    return layers


def _read(layer: Layer, tile_id: int, found: Found) -> None:
    _, column, row = tileid_to_zxy(tile_id)
    said = _Said(layer)
    polygons: dict[int, list[int]] = {}
    points: dict[int, list[int]] = {}
    for feature in layer.features:
        place = _PLACES.get((feature.type, *feature.geometry))
        seen = polygons if feature.type == POLYGON else points
        if place is None or place in seen:
            raise BrokenTile("a feature is not a cell of the grid, or is there twice")
        seen[place] = list(feature.tags)
    if polygons.keys() != points.keys():
        raise BrokenTile("not every cell is drawn as polygon and point")
    for place, tags in polygons.items():
        counts, others = said.by(tags)
        if said.by(points[place]) != (counts, {}):
            raise BrokenTile("a point does not have exactly the counts of its polygon")
        found.add(column * _ACROSS + place % _ACROSS, row * _ACROSS + place // _ACROSS, counts, others)


class _Said:
    """The properties of a layer's features; each pair of key and value is looked up once."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._pairs: dict[tuple[int, int], tuple[str, Any]] = {}

    def by(self, tags: Sequence[int]) -> tuple[dict[str, int], dict[str, Any]]:
        """The counts and the other properties of a feature. Raises `BrokenTile` if they are malformed."""
        counts: dict[str, int] = {}
        others: dict[str, Any] = {}
        for pair in zip(tags[::2], tags[1::2], strict=False):
            name, value = self._pairs.get(pair) or self._looked_up(pair)
            (counts if name.startswith(_COUNT) else others)[name] = value
        if _COUNT not in counts or len(tags) != 2 * (len(counts) + len(others)):
            raise BrokenTile("a feature has no count, or a property twice")
        return counts, others

    def _looked_up(self, pair: tuple[int, int]) -> tuple[str, Any]:
        try:
            name, stated = self._layer.keys[pair[0]], self._layer.stated[pair[1]]
        except IndexError:
            raise BrokenTile("a feature refers to a property that its layer does not have") from None
        if not name.startswith(_COUNT) and name not in _TYPES:
            raise BrokenTile(f"cells have no property {name!r}")
        kind = stated.WhichOneof("kind")
        value = getattr(stated, kind) if kind else None
        if kind != _TYPES.get(name, "uint_value") or (value == 0 and name.startswith(_COUNT)):
            raise BrokenTile(f"{name} must not be {value!r}, a {kind}")
        self._pairs[pair] = name, value
        return name, value

"""The audit of a density archive: every tile read as a map reads it, and held against a count anew.

The count anew goes from each image to its cell at each zoom, and adds nothing up from zoom to zoom.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import shapely
from pmtiles.tile import tileid_to_zxy

from oam_mosaic_assets.core.archive import Archive, BrokenArchive, is_vector, open_archive
from oam_mosaic_assets.core.audit import NAMED, Verdict
from oam_mosaic_assets.core.density import (
    COLUMNS,
    FINER,
    KIND_COLUMNS,
    SIDES,
    ZOOM_MAX,
    kind_name,
    no_images,
    placed,
)
from oam_mosaic_assets.core.density_tables import DECIMALS
from oam_mosaic_assets.core.density_tiles import (
    DEGREE_DECIMALS,
    EXTENT_SIDES,
    LAYER,
    MOMENT,
    POINTS,
    POLYGONS,
    density_metadata,
)
from oam_mosaic_assets.core.grid import first_tile_id, tile_ids, zoom_of
from oam_mosaic_assets.core.ground import cells_km2
from oam_mosaic_assets.core.snapshot import read_batches
from oam_mosaic_assets.core.tiling import EXTENT
from oam_mosaic_assets.core.vector_tile import POINT, POLYGON, BrokenTile, Layer, read_layers

DENSITY_CHECKS: Final[Mapping[str, str]] = {
    "archive_is_whole": "Every tile parses, and holds cells of the grid as polygon and point.",
    "archive_is_as_asked": "Header and metadata say what the contract says, of this snapshot.",
    "every_image_is_counted": "Counts add up to the footprints at each zoom, and with the excluded to all.",
    "cells_hold_what_lies_there": "Each cell says what a count anew of the footprints says.",
}
"""Names of the judgements, in the order they are made, and what each says."""

_PLACES: Final = {
    **{(POLYGON, *commands): place for place, commands in enumerate(POLYGONS)},
    **{(POINT, *commands): place for place, commands in enumerate(POINTS)},
}
_ACROSS: Final = 1 << FINER
_COUNT: Final = "count"
"""Begins the names of what polygon and point both say."""

_TYPES: Final = {
    **dict.fromkeys((*EXTENT_SIDES, "covered"), "double_value"),
    "newest": "string_value",
}
"""Of the properties that are no counts."""


@dataclass(slots=True)
class _Found:
    """What the tiles of a zoom say.

    Attributes:
        x: the column of each cell; the attributes up to `newest` go with it.
        newest: ISO 8601; None of unknown.
        owner: which cell it is that holds images of a kind; the attributes after it go with it.
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
        """Add a cell. Raises `BrokenTile`: something is missing."""
        try:
            self.sides.extend([others[name] for name in EXTENT_SIDES])
            self.covered.append(others["covered"])
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
        self.newest.append(others.get("newest"))

    def tables(self, zoom: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Cells, and images of each kind in them; in the order of cells."""
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


def examine_density(
    archive: Path,
    footprints: Path,
    *,
    snapshot: str,
    taken_at: str,
    excluded: Mapping[str, int],
    catalogued: int,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Judge an archive against the footprints that it counts.

    Args:
        snapshot: the digest of the snapshot.
        taken_at: its moment, ISO 8601.
        excluded: how many of the catalogue are counted nowhere, by reason.
        catalogued: images of the catalogue, all of them.
        on_progress: told now and then which share is done, 0 to 1.
    """
    images = _images(footprints, datetime.fromisoformat(taken_at))
    faults: list[str] = []
    sums: dict[int, int] = {}
    wrong: list[str] = []
    tiles = 0
    try:
        with open_archive(archive) as opened:
            whole_above = None
            for zoom, found, read in _zooms(opened, faults):
                tiles += read
                cells, kinds = found.tables(zoom)
                sums[zoom] = int(cells["count"].sum())
                expected_cells, expected_kinds = _recount(images, zoom)
                wrong += _differing(zoom, cells.drop("covered"), expected_cells)
                wrong += _differing(zoom, kinds, expected_kinds)
                wrong += _uncovered(zoom, cells, whole_above)
                whole_above = cells
                on_progress((zoom + 1) / (ZOOM_MAX + 1))
            metadata = density_metadata(
                snapshot=snapshot,
                taken_at=taken_at,
                images=len(images),
                excluded=excluded,
                years=sorted(images["year"].drop_nulls().unique().to_list()),
            )
            return [
                _wholeness(faults, tiles),
                _as_asked(opened, metadata, tiles),
                _counted(sums, len(images), sum(excluded.values()), catalogued),
                _truth(wrong, sums),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _images(footprints: Path, taken_at: datetime) -> pl.DataFrame:
    found = [no_images()]
    for batch in read_batches(footprints, COLUMNS):
        areas = shapely.from_wkb(batch["geometry"].to_numpy())
        found.append(placed(batch, areas, taken_at=taken_at))
    return pl.concat(found, rechunk=True)


def _zooms(archive: Archive, faults: list[str]) -> Iterator[tuple[int, _Found, int]]:
    """Each zoom, what its tiles say, and how many there are."""
    zoom, found, tiles = 0, _Found(), 0
    for tile_id, run_length, offset, length in _entries(archive):
        while zoom_of(tile_id) > zoom:
            yield zoom, found, tiles
            zoom, found, tiles = zoom + 1, _Found(), 0
        tiles += run_length
        try:
            (layer,) = _layers(archive.tile(tile_id, offset, length))
            for each in range(tile_id, tile_id + run_length):
                _read(layer, each, found)
        except (BrokenArchive, BrokenTile) as error:
            faults.append(f"{'/'.join(map(str, tileid_to_zxy(tile_id)))}: {error}")
    yield zoom, found, tiles


def _entries(archive: Archive) -> Iterator[tuple[int, int, int, int]]:
    for directory in archive.directories():
        columns = (directory.tile_id, directory.run_length, directory.offset, directory.length)
        yield from zip(*(column.tolist() for column in columns), strict=True)


def _layers(tile: bytes) -> list[Layer]:
    layers = read_layers(tile)
    if [(each.name, each.version, each.extent) for each in layers] != [(LAYER, 2, EXTENT)]:
        raise BrokenTile(f"it holds not the one layer {LAYER!r}")
    return layers


def _read(layer: Layer, tile_id: int, found: _Found) -> None:
    _, column, row = tileid_to_zxy(tile_id)
    said = _Said(layer)
    polygons: dict[int, list[int]] = {}
    points: dict[int, list[int]] = {}
    for feature in layer.features:
        place = _PLACES.get((feature.type, *feature.geometry))
        seen = polygons if feature.type == POLYGON else points
        if place is None or place in seen:
            raise BrokenTile("a feature is no cell of the grid, or comes twice")
        seen[place] = list(feature.tags)
    if polygons.keys() != points.keys():
        raise BrokenTile("cells are not all drawn as polygon and point")
    for place, tags in polygons.items():
        counts, others = said.by(tags)
        if said.by(points[place]) != (counts, {}):
            raise BrokenTile("polygons and points do not say the same")
        found.add(column * _ACROSS + place % _ACROSS, row * _ACROSS + place // _ACROSS, counts, others)


class _Said:
    """What a layer's features say, by the pairs of key and value that they are tagged with."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._pairs: dict[tuple[int, int], tuple[str, Any]] = {}

    def by(self, tags: Sequence[int]) -> tuple[dict[str, int], dict[str, Any]]:
        """Counts, and all else. Raises `BrokenTile`: it is not as it should be."""
        counts: dict[str, int] = {}
        others: dict[str, Any] = {}
        for pair in zip(tags[::2], tags[1::2], strict=False):
            name, value = self._pairs.get(pair) or self._looked_up(pair)
            (counts if name.startswith(_COUNT) else others)[name] = value
        if _COUNT not in counts or len(tags) != 2 * (len(counts) + len(others)):
            raise BrokenTile("a feature has no count, or says something twice")
        return counts, others

    def _looked_up(self, pair: tuple[int, int]) -> tuple[str, Any]:
        try:
            name, stated = self._layer.keys[pair[0]], self._layer.stated[pair[1]]
        except IndexError:
            raise BrokenTile("a feature names a property that is not there") from None
        kind = stated.WhichOneof("kind")
        value = getattr(stated, kind) if kind else None
        if kind != _TYPES.get(name, "uint_value") or (value == 0 and name.startswith(_COUNT)):
            raise BrokenTile(f"{name} is {value!r}, a {kind}")
        self._pairs[pair] = name, value
        return name, value


def _recount(images: pl.DataFrame, zoom: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the cells of a zoom should say, straight from the images."""
    here = images.with_columns(pl.col("cell") // 4 ** (ZOOM_MAX - zoom))
    cells = here.group_by("cell").agg(
        pl.len().cast(pl.Int64).alias("count"),
        *(pl.min(side).round(DEGREE_DECIMALS) for side in SIDES[:2]),
        *(pl.max(side).round(DEGREE_DECIMALS) for side in SIDES[2:]),
        pl.max("newest").dt.strftime(MOMENT),
    )
    by_kind = [
        here.filter(pl.col(kind).is_not_null())
        .group_by("cell", pl.col(kind).alias("kind"))
        .agg(pl.len().cast(pl.Int64).alias("count"))
        for kind in KIND_COLUMNS
    ]
    kinds = pl.concat(by_kind)
    named = {kind: kind_name(kind) for kind in kinds["kind"].unique().to_list()}
    kinds = kinds.with_columns(pl.col("kind").replace_strict(named, return_dtype=pl.String()))
    return cells.sort("cell"), kinds.sort("cell", "kind")


def _differing(zoom: int, found: pl.DataFrame, expected: pl.DataFrame) -> Iterator[str]:
    if found.equals(expected.select(found.columns)):
        return
    wrong = [
        one.join(other, on=found.columns, how="anti", nulls_equal=True)
        for one, other in ((found, expected), (expected, found))
    ]
    said, instead = (next(each.iter_rows(named=True), None) for each in wrong)
    yield f"z{zoom}: {max(map(len, wrong))} cells are not as counted anew, first {said}, not {instead}"


def _uncovered(zoom: int, cells: pl.DataFrame, above: pl.DataFrame | None) -> Iterator[str]:
    """Shares that cannot be: no share at all, or more of four cells than of the one that they make up."""
    if not cells["covered"].is_between(0.0, 1.0).all():
        yield f"z{zoom}: a covered share is not between 0 and 1"
    if above is None:
        return
    half = 0.5 * 10.0**-DECIMALS  # rounded away
    areas = [
        cells_km2(each["cell"].to_numpy(), at)
        for each, at in ((cells, zoom + FINER), (above, zoom + FINER - 1))
    ]
    least = cells.select(pl.col("cell") // 4, km2=(pl.col("covered") - half) * areas[0])
    most = above.select("cell", most=(pl.col("covered") + half) * areas[1])
    both = least.group_by("cell").agg(pl.sum("km2")).join(most, on="cell")
    if (both["km2"] > both["most"] * (1.0 + 1e-9)).any():
        yield f"z{zoom}: cells are covered where the one that holds them is not"


def _wholeness(faults: Sequence[str], tiles: int) -> Verdict:
    name = "archive_is_whole"
    if faults:
        return Verdict.failing(name, f"{len(faults)} tiles are broken, first {'; '.join(faults[:NAMED])}")
    return Verdict.passing(name, f"all {tiles:,} tiles hold cells of the grid", tiles=tiles)


def _as_asked(archive: Archive, metadata: Mapping[str, Any], tiles: int) -> Verdict:
    name, header = "archive_is_as_asked", archive.header
    expected = {
        "tile type": (is_vector(archive), True),
        "tile compression": (header["tile_compression"].name, "GZIP"),
        "zooms": ((header["min_zoom"], header["max_zoom"]), (0, ZOOM_MAX)),
        "addressed tiles": (header["addressed_tiles_count"], tiles),
        **{what: (archive.metadata.get(what), asked) for what, asked in metadata.items()},
    }
    wrong = [
        f"{what}: {found!r}, not {asked!r}" for what, (found, asked) in expected.items() if found != asked
    ]
    if wrong:
        return Verdict.failing(name, "; ".join(wrong))
    return Verdict.passing(name, f"z0-{ZOOM_MAX}, {tiles:,} tiles, layer {LAYER!r}")


def _counted(sums: Mapping[int, int], images: int, excluded: int, catalogued: int) -> Verdict:
    name, numbers = "every_image_is_counted", {"images": images, "excluded": excluded}
    wrong = [f"{count} at z{zoom}" for zoom in range(ZOOM_MAX + 1) if (count := sums.get(zoom, 0)) != images]
    if wrong:
        return Verdict.failing(name, f"of {images} images are counted: {', '.join(wrong)}", **numbers)
    if images + excluded != catalogued:
        text = f"{images} images are counted and {excluded} excluded, but the catalogue holds {catalogued}"
        return Verdict.failing(name, text, **numbers)
    text = f"all {images:,} images are counted once at each zoom; {excluded:,} are excluded"
    return Verdict.passing(name, text, **numbers)


def _truth(wrong: Sequence[str], sums: Mapping[int, int]) -> Verdict:
    name = "cells_hold_what_lies_there"
    if wrong:
        return Verdict.failing(name, "; ".join(wrong[:NAMED]))
    return Verdict.passing(name, f"the cells of {len(sums)} zooms say what a count anew says")

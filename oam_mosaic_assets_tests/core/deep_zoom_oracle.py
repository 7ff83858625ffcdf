"""What the deep zooms should show: tippecanoe's tiles, and the outlines themselves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from oam_mosaic_assets.core.deep_zooms import deep_zoom_tiles
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.grid import project_mended
from oam_mosaic_assets.core.mbtiles import read_tiles
from oam_mosaic_assets.core.pieces import MARGIN
from oam_mosaic_assets.core.snapshot import write_geojson
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tiling import EXTENT, MITRE, TilingPlan
from oam_mosaic_assets.core.vector_tile import (
    POLYGON,
    area,
    read_feature,
    read_layers,
    value_of,
)
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe
from oam_mosaic_assets_tests.core.scene import snapshot_of

PLAN = TilingPlan(zoom_max=11, exact=10)

CELL = 360.0 / 2**PLAN.exact
"""Width of a tile at the first deep zoom, in degrees."""

WHOLE = shapely.box(-MARGIN, -MARGIN, EXTENT + MARGIN, EXTENT + MARGIN)

Place = tuple[int, int, int]
"""Zoom, column and row of a tile."""

Tiles = dict[Place, bytes]


class Drawn(NamedTuple):
    """A decoded feature."""

    properties: dict[str, Any]
    area: BaseGeometry


def geojson_of(images: Iterable[Footprint], folder: Path, plan: TilingPlan = PLAN) -> Path:
    snapshot_of(images, folder)
    lines = folder / "footprints.geojsonl"
    write_geojson(folder / "footprints.parquet", lines, plan=plan)
    return lines


def line_of(name: str, shape: BaseGeometry, zooms: tuple[int, int] | None = None) -> str:
    """A line as `write_geojson` writes it."""
    limits = f'"tippecanoe":{{"minzoom":{zooms[0]},"maxzoom":{zooms[1]}}},' if zooms else ""
    stated, written = f'"properties":{{"id":"{name}"}}', shapely.to_geojson(shape)
    return f'{{"type":"Feature",{limits}{stated},"geometry":{written}}}\n'


def everything(plan: TilingPlan) -> Stretches:
    return Stretches.of_zooms(plan.whole_from, plan.zoom_max)


def cut(
    lines: Path, plan: TilingPlan = PLAN, wanted: Stretches | None = None, share: int = 0, of: int = 1
) -> Tiles:
    """The tiles that are cut; none may come twice."""
    found = [
        *deep_zoom_tiles(lines, plan, everything(plan) if wanted is None else wanted, share=share, of=of)
    ]
    tiles = {(each.zoom, each.x, each.y): each.content for each in found}
    assert len(tiles) == len(found)
    return tiles


def tippecanoes(lines: Path, plan: TilingPlan, folder: Path) -> Tiles:
    target, alone = folder / "tippecanoe.mbtiles", replace(plan, exact=plan.zoom_max + 1)
    call = alone.arguments(source=str(lines), target=str(target), temporary=str(folder))
    Tippecanoe().run([call])
    every = {(zoom, x, y): content for zoom, x, y, content in read_tiles(target)}
    return {place: content for place, content in every.items() if place[0] in plan.deep_zooms}


def features(content: bytes, plan: TilingPlan = PLAN) -> list[Drawn]:
    (layer,) = read_layers(gzip.decompress(content))
    assert (layer.name, layer.version, layer.extent) == (plan.layer, 2, EXTENT)
    found = []
    for message in layer.features:
        tags = message.tags
        stated = {
            layer.keys[key]: value_of(layer.stated[value])
            for key, value in zip(tags[::2], tags[1::2], strict=True)
        }
        feature = read_feature(layer, message)
        assert feature.kind == POLYGON
        found.append(Drawn(stated, area(feature)))
    return found


@dataclass(frozen=True, slots=True)
class Truth:
    """What a line of GeoJSON says."""

    name: str
    zooms: range
    area: BaseGeometry
    """In tile coordinates of zoom 0."""

    def in_tile(self, place: Place) -> BaseGeometry:
        """What the tile should draw, in tile coordinates."""
        zoom, *corner = place
        offset = np.multiply(corner, EXTENT)
        scale, whole = EXTENT * 2**zoom, shapely.get_coordinates(self.area)
        sides = [
            shapely.set_coordinates(
                shapely.from_wkb(self.area.wkb), whole * scale + [turn * scale, 0] - offset
            )
            for turn in (0, 1, -1)
        ]
        return shapely.union_all(shapely.intersection(sides, WHOLE))


def truths(lines: Path, plan: TilingPlan = PLAN) -> list[Truth]:
    found = []
    for line in lines.read_text().strip().split("\n"):
        stated = json.loads(line)
        limits = stated.get("tippecanoe", {})
        zooms = range(limits.get("minzoom", plan.whole_from), limits.get("maxzoom", plan.zoom_max) + 1)
        (projected,) = project_mended(shapely.from_geojson([line]), 0)
        found.append(Truth(next(iter(stated["properties"].values())), zooms, projected))
    return found


def apart(one: BaseGeometry, other: BaseGeometry, width: float) -> bool:
    """Whether the two differ by more than a strip of this width."""
    return not shapely.symmetric_difference(one, other).buffer(-width / 2).is_empty


def within(one: BaseGeometry, other: BaseGeometry) -> bool:
    return bool(shapely.is_empty(shapely.difference(one, other)))


def differences(ours: Tiles, theirs: Tiles, lines: Path, plan: TilingPlan = PLAN) -> list[tuple[Any, ...]]:
    """Where our tiles differ from tippecanoe's by more than rounding can explain."""
    found: list[tuple[Any, ...]] = []
    stated, name = truths(lines, plan), next(iter(plan.properties))
    for place in sorted(ours.keys() | theirs.keys()):
        width = 2.0 if place[0] == plan.zoom_max else 4.0
        here, there = (
            {each.properties[name]: each for each in features(tiles[place], plan)} if place in tiles else {}
            for tiles in (ours, theirs)
        )
        if [each for each in here if each in there] != [each for each in there if each in here]:
            found.append((place, "order", list(here), list(there)))
        for each in here.keys() | there.keys():
            one, other = here.get(each), there.get(each)
            if one and other and one.properties != other.properties:
                found.append((place, one.properties, other.properties))
            if one and other and not apart(one.area, other.area, width):
                continue
            (truth,) = (
                line.in_tile(place) for line in stated if line.name == each and place[0] in line.zooms
            )
            if is_thin(truth) or (one and other and folds(truth) and as_wide_as_may_be(one.area, truth)):
                continue
            found.append((place, each, one, other, truth))
    return found


def is_thin(truth: BaseGeometry) -> bool:
    """Whether it is nowhere two units wide."""
    return truth.buffer(-1).is_empty


def folds(truth: BaseGeometry) -> bool:
    """Whether rounding its coordinates makes it invalid."""
    return not shapely.transform(truth, np.rint).is_valid


def as_wide_as_may_be(found: BaseGeometry, truth: BaseGeometry) -> bool:
    """Whether it is the truth, with parts widened by up to two units and tips by up to `MITRE` times that."""
    solid = shapely.union_all([each for each in shapely.get_parts(truth) if each.area > 0])
    return (
        within(solid.difference(found), solid.boundary.buffer(1.5))
        and within(found, truth.buffer(2 * MITRE + 1))
        and not apart(found, truth, 6.0)
    )

"""How much of a few tiles images cover, worked out again for audits: each by itself, from the footprints."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.ground import Numbers, areas_km2, sides_of
from oam_mosaic_assets.core.snapshot import read_batches

HELD: Final = 2**20
"""Bytes of pieces dissolved, some half a second; if they become more, the tile with the most is given up."""

FEW: Final = 256
"""The most images that count in a tile to choose: dissolving more takes longer than the rest of an audit."""

_POLYGON: Final = 3
"""The number that GEOS gives this type of geometry."""


def covered_again(footprints: Path, zooms: Numbers, cells: Numbers) -> NDArray[np.float64]:
    """The share that images cover of each of these tiles, 0 to 1; NaN where there are too many of them.

    Args:
        footprints: the GeoParquet.
        zooms: of the tiles.
        cells: their positions along the Hilbert curves of those zooms.
    """
    boxes = _boxes(zooms, cells)
    tree = shapely.STRtree(boxes)
    pieces: list[list[bytes]] = [[] for _ in boxes]
    held = np.zeros(len(boxes), np.int64)
    given_up = np.zeros(len(boxes), np.bool_)
    for batch in read_batches(footprints, ("geometry",)):
        areas = shapely.from_wkb(batch["geometry"].to_numpy())
        of, tile = tree.query(areas, predicate="intersects")
        of, tile = of[~given_up[tile]], tile[~given_up[tile]]
        found = shapely.to_wkb(shapely.intersection(areas[of], boxes[tile]))
        for each, piece in zip(tile.tolist(), found.tolist(), strict=True):
            pieces[each].append(piece)
            held[each] += len(piece)
        while held.sum() > HELD:
            most = int(held.argmax())
            pieces[most], held[most], given_up[most] = [], 0, True
    dissolved = np.array([_dissolved(each) for each in pieces], dtype=object)
    shares: NDArray[np.float64] = areas_km2(dissolved) / areas_km2(boxes)
    shares[given_up] = np.nan
    return shares


def _boxes(zooms: Numbers, cells: Numbers) -> Geometries:
    """Tiles in degrees."""
    sides = np.zeros((4, len(cells)))
    for zoom in np.unique(zooms).tolist():
        here = zooms == zoom
        sides[:, here] = sides_of(cells[here], zoom)
    return np.asarray(shapely.box(*sides), dtype=object)


def _dissolved(pieces: list[bytes]) -> shapely.Geometry:
    parts = shapely.get_parts(shapely.get_parts(shapely.from_wkb(np.array(pieces, dtype=object))))
    return shapely.union_all(parts[shapely.get_type_id(parts) == _POLYGON])

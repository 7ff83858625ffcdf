"""What an archive of footprints really draws: every tile read, every image found.

The audit holds this against the footprints.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pmtiles.tile import Entry, tileid_to_zxy

from oam_mosaic_assets.core.archive import DEEPEST_ZOOM, Archive, BrokenArchive
from oam_mosaic_assets.core.grid import tile_positions, zoom_of
from oam_mosaic_assets.core.tiling import EXTENT
from oam_mosaic_assets.core.vector_tile import BrokenTile, read_layers

MVT_VERSION: Final = 2

REMEMBERED_TILES: Final = 4096
"""Equal tiles are stored once and lie near each other on the curve; this many are not decoded again."""

NAMED_FAULTS: Final = 10
"""A list of faults names this many and counts the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was found in an archive.

    Attributes:
        tiles: addressed tiles by zoom.
        contents: tiles decoded (equal tiles count once where they lie near each other).
        images: how many distinct images, by zoom.
        image: at the deepest zoom, the index of the image of each pair of image and tile; ascending pairs.
        x: the tile's column of each pair.
        y: the tile's row of each pair.
        strangers: drawn ids that are no footprint's.
        faults: tiles that could not be read or are not as asked, the first ones.
        fault_count: how many such tiles there are.
    """

    tiles: Mapping[int, int]
    contents: int
    images: Mapping[int, int]
    image: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    strangers: frozenset[str]
    faults: tuple[str, ...]
    fault_count: int


def read_drawn(archive: Archive, ids: Mapping[str, int] | None, *, layer: str) -> Drawn:
    """Read every tile of an archive.

    Args:
        archive: gzipped vector tiles of one layer with the text property `id` on each feature.
        ids: the index of each image that may be drawn; None takes any for an image.
        layer: the layer's name.

    Raises:
        BrokenArchive: a directory is broken. Single broken tiles are `faults`.
    """
    return _Reading(archive, ids, layer).of(archive.entries())


class _Reading:
    """The state of one pass over an archive."""

    def __init__(self, archive: Archive, ids: Mapping[str, int] | None, layer: str) -> None:
        self.archive = archive
        self.ids = {} if ids is None else ids
        self.any_id: dict[str, int] | None = {} if ids is None else None
        self.layer = layer
        self.deepest = archive.header["max_zoom"]
        self.remembered: OrderedDict[tuple[int, int], list[int]] = OrderedDict()
        self.contents = 0
        self.strangers: set[str] = set()
        self.faults: list[str] = []
        self.fault_count = 0

    def of(self, entries: Iterable[Entry]) -> Drawn:
        tiles: Counter[int] = Counter()
        images: dict[int, int] = {}
        seen: set[int] = set()
        image, tile_id, drawn_in_tile = array("q"), array("Q"), array("q")
        for entry in entries:
            first, last = entry.tile_id, entry.tile_id + entry.run_length - 1
            zoom = zoom_of(first)
            if zoom_of(last) != zoom or zoom > DEEPEST_ZOOM:
                raise BrokenArchive(f"the run of equal tiles from {first} leaves its zoom")
            drawn = self._images(entry)
            tiles[zoom] += entry.run_length
            if zoom not in images:  # tiles stand in the order of zooms
                seen.clear()
            seen.update(drawn)
            images[zoom] = len(seen)
            if zoom == self.deepest:
                for tile in range(first, last + 1):
                    image.extend(drawn)
                    tile_id.append(tile)
                    drawn_in_tile.append(len(drawn))
        x, y = tile_positions(np.frombuffer(tile_id, np.uint64), self.deepest)
        return Drawn(
            tiles=dict(sorted(tiles.items())),
            contents=self.contents,
            images=images,
            image=np.frombuffer(image, np.int64),
            x=np.repeat(x, drawn_in_tile),
            y=np.repeat(y, drawn_in_tile),
            strangers=frozenset(self.strangers),
            faults=tuple(self.faults),
            fault_count=self.fault_count,
        )

    def _images(self, entry: Entry) -> list[int]:
        """Indices of the images that a tile draws."""
        drawn = self.remembered.get((entry.offset, entry.length))
        if drawn is not None:
            return drawn
        try:
            drawn = self._decoded(self.archive.tile(entry))
        except (BrokenArchive, BrokenTile) as error:
            self.fault_count += entry.run_length
            if len(self.faults) < NAMED_FAULTS:
                zoom, x, y = tileid_to_zxy(entry.tile_id)
                self.faults.append(f"{zoom}/{x}/{y}: {error}")
            drawn = []
        self.remembered[entry.offset, entry.length] = drawn
        if len(self.remembered) > REMEMBERED_TILES:
            self.remembered.popitem(last=False)
        return drawn

    def _decoded(self, tile: bytes) -> list[int]:
        self.contents += 1
        layers = read_layers(tile)
        if len(layers) != 1 or layers[0].name != self.layer:
            raise BrokenTile(f"its layers are {[each.name for each in layers]}, not [{self.layer!r}]")
        layer = layers[0]
        if layer.version != MVT_VERSION or layer.extent != EXTENT or layer.keys != ["id"]:
            raise BrokenTile(
                f"version {layer.version}, extent {layer.extent}, properties {layer.keys}, "
                f"not {MVT_VERSION}, {EXTENT}, ['id']"
            )
        if not 0 < len(layer.values) <= len(layer.features):
            raise BrokenTile(f"{len(layer.features)} features share {len(layer.values)} ids")
        drawn = []
        for name in layer.values:
            if name is None:
                index = None
            elif self.any_id is None:
                index = self.ids.get(name)
            else:
                index = self.any_id.setdefault(name, len(self.any_id))
            if index is None:
                self.strangers.add(repr(name))
            else:
                drawn.append(index)
        return drawn

"""What an archive of footprints really draws: every tile read, every image found.

The audit compares it with the footprints.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pmtiles.tile import tileid_to_zxy
from shapely.geometry.base import BaseGeometry

from oam_mosaic_assets.core.archive import Archive, BrokenArchive
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.grid import first_tile_id, pairs_of, tile_name, tile_positions, zoom_of
from oam_mosaic_assets.core.said import Said, names_in
from oam_mosaic_assets.core.tiling import EXTENT, WHOLE_FROM, TilingPlan
from oam_mosaic_assets.core.vector_tile import BrokenTile, Layer, area, read_feature, read_layers

MVT_VERSION: Final = 2

ID_ALONE: Final[Mapping[str, str]] = {"id": "String"}

NOTHING: Final[Said] = {}

REMEMBERED_TILES: Final = 4096
"""How many decoded tiles are cached: equal tiles are stored once and lie near each other on the curve."""

NAMED_FAULTS: Final = 10
"""A list of faults names this many and counts the rest."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one tile draws of one image.

    Attributes:
        x: the tile's column.
        y: the tile's row.
        area: in tile units, x to the east and y to the south, origin at the tile's north-west; with buffer.
    """

    x: int
    y: int
    area: BaseGeometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was found in an archive.

    Attributes:
        tiles: number of addressed tiles by zoom.
        images: number of distinct images by zoom.
        pairs: of image and tile at the zoom asked for, encoded by `grid.pairs_of`; ascending.
        pieces: of the images whose outlines were asked for, at the same zoom, by index.
        strangers: drawn ids that belong to no footprint.
        faults: the first of the tiles that could not be read or are not as asked.
        fault_count: how many such tiles there are.
    """

    tiles: Mapping[int, int]
    images: Mapping[int, int]
    pairs: NDArray[np.int64]
    pieces: Mapping[int, Sequence[Piece]]
    strangers: frozenset[str]
    faults: tuple[str, ...]
    fault_count: int

    def then(self, later: Drawn) -> Drawn:
        """This combined with what was found at later zooms; `pairs` and `pieces` are those of the latter."""
        return replace(
            later,
            tiles={**self.tiles, **later.tiles},
            images={**self.images, **later.images},
            strangers=self.strangers | later.strangers,
            faults=(self.faults + later.faults)[:NAMED_FAULTS],
            fault_count=self.fault_count + later.fault_count,
        )


NOTHING_DRAWN: Final = Drawn(
    tiles={},
    images={},
    pairs=np.zeros(0, np.int64),
    pieces={},
    strangers=frozenset(),
    faults=(),
    fault_count=0,
)


def read_drawn(
    archive: Archive,
    ids: Mapping[str, int] | None,
    *,
    layer: str,
    fields: Mapping[str, str] = ID_ALONE,
    whole: int = WHOLE_FROM,
    said: Said = NOTHING,
    outlined: Collection[int] = (),
    entries: Iterable[Directory] | None = None,
    zoom: int | None = None,
    in_order: bool = False,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Drawn:
    """Read every tile of an archive, or some of them.

    Args:
        archive: gzipped vector tiles of one layer; each feature that is an image has its id as a property.
        ids: the index of each image that may be drawn; None accepts any id as an image's.
        layer: the layer's name.
        fields: the properties that an image may have, each a `String` or `Number`; the first is its id, which
            every image has.
        whole: the zoom from which all images are drawn as themselves; before it, features may be a `count`.
        said: the properties of some images; a tile that states others for one of them is a fault.
        outlined: indices of the images whose `pieces` are wanted.
        entries: of the tiles to read, in the order of tile ids; None reads all.
        zoom: the zoom whose `pairs` and `pieces` are wanted; None means the last.
        in_order: whether a tile from zoom `whole` on that draws images in another order than that of `ids` is
            a fault; reading takes a fifth longer then.
        on_progress: called now and then with the share of tiles read so far, 0 to 1.

    Raises:
        BrokenArchive: a directory is broken. Single broken tiles are `faults`.
    """
    reading = _Reading(archive, ids, layer, fields, whole, said, frozenset(outlined), zoom, in_order=in_order)
    return reading.drawn(archive.directories() if entries is None else entries, on_progress)


class _Reading:
    """The state of one pass over an archive."""

    def __init__(
        self,
        archive: Archive,
        ids: Mapping[str, int] | None,
        layer: str,
        fields: Mapping[str, str],
        whole: int,
        said: Said,
        outlined: frozenset[int],
        zoom: int | None,
        *,
        in_order: bool,
    ) -> None:
        self.archive = archive
        self.ids = {} if ids is None else ids
        self.any_id: dict[str, int] | None = {} if ids is None else None
        self.layer = layer
        self.fields = fields
        self.name, *_ = fields
        self.said = said
        self.outlined = outlined
        self.in_order = in_order
        self.deepest: int = archive.header["max_zoom"] if zoom is None else zoom
        header = archive.header
        plan = TilingPlan(zoom_min=header["min_zoom"], zoom_max=header["max_zoom"], whole=whole)
        self.first_whole = first_tile_id(plan.whole_from)
        self.remembered: OrderedDict[tuple[int, int], list[int]] = OrderedDict()
        self.pieces: defaultdict[int, list[Piece]] = defaultdict(list)
        self.strangers: set[str] = set()
        self.faults: list[str] = []
        self.fault_count = 0

    def drawn(self, entries: Iterable[Directory], on_progress: Callable[[float], None]) -> Drawn:
        addressed = self.archive.header["addressed_tiles_count"]
        tiles: Counter[int] = Counter()
        images: dict[int, int] = {}
        seen: set[int] = set()
        pairs = array("q")
        for directory in entries:
            image, tile_id, drawn_in_tile = array("i"), array("q"), array("i")
            columns = (directory.tile_id, directory.run_length, directory.offset, directory.length)
            for first, run_length, offset, length in zip(*(c.tolist() for c in columns), strict=True):
                drawn = self._images(first, run_length, offset, length)
                zoom = zoom_of(first)
                tiles[zoom] += run_length
                if zoom not in images:  # tiles are ordered by zoom
                    seen.clear()
                seen.update(drawn)
                images[zoom] = len(seen)
                if zoom == self.deepest:
                    for tile in range(first, first + run_length):
                        image.extend(drawn)
                        tile_id.append(tile)
                        drawn_in_tile.append(len(drawn))
                    if not self.outlined.isdisjoint(drawn):
                        self._outline(first, run_length, offset, length)
            # made per directory, because there are fifty times as many pairs as images
            pairs.frombytes(self._pairs(image, tile_id, drawn_in_tile).tobytes())
            if addressed:
                on_progress(tiles.total() / addressed)
        in_order = np.frombuffer(pairs, np.int64)
        in_order.sort()
        return Drawn(
            tiles=dict(sorted(tiles.items())),
            images=images,
            pairs=in_order,
            pieces=dict(self.pieces),
            strangers=frozenset(self.strangers),
            faults=tuple(self.faults),
            fault_count=self.fault_count,
        )

    def _pairs(self, image: array[int], tile_id: array[int], drawn_in_tile: array[int]) -> NDArray[np.int64]:
        """Pairs of each tile and the images that it draws, encoded by `grid.pairs_of`."""
        x, y = tile_positions(np.frombuffer(tile_id, np.int64), self.deepest)
        x, y = (np.repeat(each, np.frombuffer(drawn_in_tile, np.int32)) for each in (x, y))
        return pairs_of(np.frombuffer(image, np.int32), x, y, self.deepest)

    def _images(self, tile_id: int, run_length: int, offset: int, length: int) -> list[int]:
        """Indices of the images that a tile draws."""
        drawn = self.remembered.get((offset, length))
        if drawn is not None:
            return drawn
        try:
            drawn = self._decoded(tile_id, self.archive.tile(tile_id, offset, length))
        except (BrokenArchive, BrokenTile) as error:
            self._blame(tile_id, run_length, error)
            drawn = []
        self.remembered[offset, length] = drawn
        if len(self.remembered) > REMEMBERED_TILES:
            self.remembered.popitem(last=False)
        return drawn

    def _decoded(self, tile_id: int, tile: bytes) -> list[int]:
        layer = self._the_layer(tile_id, tile)
        names = layer.values if len(self.fields) == 1 else names_in(layer, self.fields, self.said)
        if not 0 < len(names) <= len(layer.features):
            raise BrokenTile(f"{len(layer.features)} features cannot have {len(names)} names")
        drawn = []
        for name in names:
            if isinstance(name, int) and "count" in layer.keys:
                continue
            if not isinstance(name, str):
                index = None
            elif self.any_id is None:
                index = self.ids.get(name)
            else:
                index = self.any_id.setdefault(name, len(self.any_id))
            if index is None:
                self.strangers.add(repr(name))
            else:
                drawn.append(index)
        if self.in_order and tile_id >= self.first_whole:
            self._check_order(layer)
        return drawn

    def _check_order(self, layer: Layer) -> None:
        order = self._images_of(layer)
        if order != sorted(order):
            raise BrokenTile("an older image is drawn over a newer one")

    def _images_of(self, layer: Layer) -> list[int]:
        """The index of the image that each feature of a layer shows; -1 if it shows none."""
        key = list(layer.keys).index(self.name) if self.name in layer.keys else -1
        of_value = [*(self.ids.get(str(name), -1) for name in layer.values), -1]
        try:
            return [of_value[_value_in(feature.tags, key)] for feature in layer.features]
        except IndexError as error:
            raise BrokenTile(f"not a feature: {error}") from None

    def _the_layer(self, tile_id: int, tile: bytes) -> Layer:
        layers = read_layers(tile)
        if len(layers) != 1 or layers[0].name != self.layer:
            raise BrokenTile(f"its layers are {[each.name for each in layers]}, not [{self.layer!r}]")
        layer = layers[0]
        if layer.version != MVT_VERSION or layer.extent != EXTENT or not self._may_have(tile_id, layer.keys):
            raise BrokenTile(
                f"version {layer.version}, extent {layer.extent}, properties {list(layer.keys)}, "
                f"not {MVT_VERSION}, {EXTENT}, {' or '.join(self.fields)}"
            )
        return layer

    def _may_have(self, tile_id: int, keys: Sequence[str]) -> bool:
        """Whether a tile may have these properties; `count` is allowed before all images are drawn."""
        of_images = {*keys} - ({"count"} if tile_id < self.first_whole else set())
        is_named = self.name in of_images if of_images else bool(keys)
        return is_named and of_images <= self.fields.keys() and len({*keys}) == len(keys)

    def _outline(self, tile_id: int, run_length: int, offset: int, length: int) -> None:
        """Keep what a run of tiles draws of the images whose outlines are wanted."""
        try:
            layer = self._the_layer(tile_id, self.archive.tile(tile_id, offset, length))
            for message, asked in zip(layer.features, self._images_of(layer), strict=True):
                if asked not in self.outlined:  # most are not, and reading one is slow
                    continue
                feature = read_feature(layer, message)
                image = self.ids.get(str(feature.properties.get(self.name, "")))
                if image in self.outlined:
                    drawn = area(feature)
                    for tile in range(tile_id, tile_id + run_length):
                        _, x, y = tileid_to_zxy(tile)
                        self.pieces[image].append(Piece(x, y, drawn))
        except (BrokenArchive, BrokenTile) as error:
            self._blame(tile_id, run_length, error)

    def _blame(self, tile_id: int, run_length: int, error: Exception) -> None:
        self.fault_count += run_length
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append(f"{tile_name(tile_id)}: {error}")


def _value_in(tags: Sequence[int], key: int) -> int:
    """The index of a feature's value for a key; -1 if it has none. Usually the key comes first."""
    return tags[1] if tags[0] == key else dict(zip(tags[::2], tags[1::2], strict=False)).get(key, -1)

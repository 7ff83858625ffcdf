"""What an archive of footprints really draws: every tile read, every image found.

The audit compares it with the footprints.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pmtiles.tile import tileid_to_zxy
from shapely.geometry.base import BaseGeometry

from oam_mosaic_assets.core.archive import Archive, BrokenArchive, of_one_zoom
from oam_mosaic_assets.core.directory import Directory, Numbers
from oam_mosaic_assets.core.grid import first_tile_id, pairs_of, tile_name, tile_positions
from oam_mosaic_assets.core.image_ids import AnyIds, Ids
from oam_mosaic_assets.core.said import Said, names_in
from oam_mosaic_assets.core.sorting import Sorting
from oam_mosaic_assets.core.tiling import EXTENT, WHOLE_FROM, TilingPlan
from oam_mosaic_assets.core.vector_tile import BrokenTile, Layer, area, read_feature, read_layers

Mask = NDArray[np.bool_]

Place = tuple[int, int]
"""Where a tile's content lies: offset and length."""

MVT_VERSION: Final = 2

ID_ALONE: Final[Mapping[str, str]] = {"id": "String"}

NOTHING: Final[Said] = {}

NONE: Final[Mapping[str, int]] = {}

NOBODY: Final = np.zeros(0, np.bool_)

REMEMBERED_TILES: Final = 4096
"""How many decoded tiles are cached: equal tiles are stored once and lie near each other on the curve."""

_TOGETHER: Final = 4096
"""The most entries in a batch."""

_NAMES: Final = 2**16
"""Ids that are looked up together, and held until then; a tile more or less."""

_PAIRS: Final = 2**18
"""Pairs of image and tile that are noted together; a tile more or less."""

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
        seen: which images are drawn at the zoom asked for, by index; empty if none is.
        pairs: of image and tile at the same zoom, encoded by `grid.pairs_of`; ascending.
        pieces: of the images whose outlines were asked for, at the same zoom, by index.
        strangers: drawn ids that belong to no footprint.
        faults: the first of the tiles that could not be read or are not as asked.
        fault_count: how many such tiles there are.
    """

    tiles: Mapping[int, int]
    images: Mapping[int, int]
    seen: Mask
    pairs: Numbers
    pieces: Mapping[int, Sequence[Piece]]
    strangers: frozenset[str]
    faults: tuple[str, ...]
    fault_count: int

    def then(self, later: Drawn) -> Drawn:
        """This combined with what was found at later zooms; the zoom asked for is the latter's."""
        return replace(
            later,
            tiles={**self.tiles, **later.tiles},
            images={**self.images, **later.images},
            strangers=self.strangers | later.strangers,
            faults=(self.faults + later.faults)[:NAMED_FAULTS],
            fault_count=self.fault_count + later.fault_count,
        )

    def only(self, images: Numbers, zoom: int) -> Drawn:
        """This for some images, given by their ascending indices and numbered by their position there.

        Args:
            images: the images.
            zoom: the one that was asked for.
        """
        bits = 2 * zoom  # of a pair, for the tile; see `pairs_of`
        begins, ends = (np.searchsorted(self.pairs, each << bits).tolist() for each in (images, images + 1))
        found, pieces = [NOTHING_DRAWN.pairs], dict[int, Sequence[Piece]]()
        for place, (image, begin, end) in enumerate(zip(images.tolist(), begins, ends, strict=True)):
            found.append(self.pairs[begin:end] - (image - place << bits))
            if image in self.pieces:
                pieces[place] = self.pieces[image]
        return replace(self, pairs=np.concatenate(found), pieces=pieces)

    def in_short(self) -> Drawn:
        """This without the much that only placement needs, for another process or zoom."""
        return replace(self, seen=NOBODY, pairs=NOTHING_DRAWN.pairs, pieces={})


NOTHING_DRAWN: Final = Drawn(
    tiles={},
    images={},
    seen=NOBODY,
    pairs=np.zeros(0, np.int64),
    pieces={},
    strangers=frozenset(),
    faults=(),
    fault_count=0,
)


def read_drawn(
    archive: Archive,
    ids: Ids | None,
    *,
    layer: str,
    fields: Mapping[str, str] = ID_ALONE,
    whole: int = WHOLE_FROM,
    said: Said = NOTHING,
    outlined: Mapping[str, int] = NONE,
    entries: Iterable[Directory] | None = None,
    zoom: int | None = None,
    closely: bool = False,
    scratch: Path | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Drawn:
    """Read every tile of an archive, or some of them.

    Args:
        archive: gzipped vector tiles of one layer; each feature that is an image has its id as a property.
        ids: those of the images that may be drawn; None accepts any id as an image's.
        layer: the layer's name.
        fields: the properties that an image may have, each a `String` or `Number`; the first is its id, which
            every image has.
        whole: the zoom from which all images are drawn as themselves; before it, features may be a `count`.
        said: the properties of some images; a tile that states others for one of them is a fault.
        outlined: indices of the images whose `pieces` are wanted, by id.
        entries: of the tiles to read, in the order of tile ids; None reads all.
        zoom: the zoom of which `seen`, `pairs` and `pieces` are wanted; None for none.
        closely: whether each feature is looked at, so that a tile that draws an image twice, or images in
            another order than that of `ids`, is a fault; takes a third longer. Needs `ids`.
        scratch: where millions of pairs are kept in files; None for the system's temporary folder.
        on_progress: called now and then with the share of tiles read so far, 0 to 1.

    Raises:
        BrokenArchive: a directory is broken. Single broken tiles are `faults`.
    """
    reading = _Reading(archive, ids, layer, fields, whole, said, outlined, zoom, scratch, closely=closely)
    return reading.drawn(archive.directories() if entries is None else entries, on_progress)


class _Tile(NamedTuple):
    """A tile, or a run of equal ones, and the names of the images that it draws."""

    tile_id: int
    run_length: int
    names: Sequence[Any]


class _Reading:
    """The state of one pass over an archive."""

    def __init__(
        self,
        archive: Archive,
        ids: Ids | None,
        layer: str,
        fields: Mapping[str, str],
        whole: int,
        said: Said,
        outlined: Mapping[str, int],
        zoom: int | None,
        scratch: Path | None,
        *,
        closely: bool,
    ) -> None:
        self.archive = archive
        self.ids = AnyIds() if ids is None else ids
        self.closely = closely
        self.layer = layer
        self.fields = fields
        self.name, *_ = fields
        self.said = said
        self.outlined = outlined
        self.zoom = zoom
        header = archive.header
        plan = TilingPlan(zoom_min=header["min_zoom"], zoom_max=header["max_zoom"], whole=whole)
        self.first_whole = first_tile_id(plan.whole_from)
        self.remembered: OrderedDict[Place, Numbers] = OrderedDict()
        self.areas: dict[Place, list[tuple[int, BaseGeometry]]] = {}  # of what is remembered, if outlined
        self.pairs = Sorting(scratch)
        self.pieces: defaultdict[int, list[Piece]] = defaultdict(list)
        self.strangers: set[str] = set()
        self.faults: list[str] = []
        self.fault_count = 0

    def drawn(self, entries: Iterable[Directory], on_progress: Callable[[float], None]) -> Drawn:
        addressed = self.archive.header["addressed_tiles_count"]
        tiles: Counter[int] = Counter()
        seen: dict[int, Mask] = {}
        for zoom, some in of_one_zoom(_in_batches(entries)):
            images = self._images(some)
            tiles[zoom] += int(some.run_length.sum())
            seen[zoom] = _with(seen.get(zoom, NOBODY), _distinct(images), len(self.ids))
            if zoom == self.zoom:
                self._note(zoom, some, images)
            if addressed:
                on_progress(tiles.total() / addressed)
        return Drawn(
            tiles=dict(tiles),
            images={zoom: int(of_zoom.sum()) for zoom, of_zoom in seen.items()},
            seen=NOBODY if self.zoom is None else seen.get(self.zoom, NOBODY),
            pairs=self.pairs.finished(),
            pieces=dict(self.pieces),
            strangers=frozenset(self.strangers),
            faults=tuple(self.faults),
            fault_count=self.fault_count,
        )

    def _note(self, zoom: int, entries: Directory, images: Sequence[Numbers]) -> None:
        """Note the pairs of these tiles and the images that they draw, and the pieces that are wanted."""
        counts = np.array([len(each) for each in images])
        entry = np.repeat(np.arange(len(entries)), entries.run_length)
        before = np.cumsum(entries.run_length) - entries.run_length
        tile_id = (entries.tile_id - before)[entry] + np.arange(len(entry))
        together = np.cumsum(counts[entry]) // _PAIRS
        for some in np.split(np.arange(len(entry)), np.flatnonzero(np.diff(together)) + 1):
            x, y = tile_positions(tile_id[some], zoom)
            of = entry[some]
            image = np.concatenate([images[each] for each in of.tolist()])
            self.pairs.add(pairs_of(image, np.repeat(x, counts[of]), np.repeat(y, counts[of]), zoom))
        places = zip(entries.offset.tolist(), entries.length.tolist(), strict=True)
        for number, place in enumerate(places) if self.areas else ():
            for outlined, drawn in self.areas.get(place, ()):
                first, run_length = int(entries.tile_id[number]), int(entries.run_length[number])
                for tile in range(first, first + run_length):
                    _, column, row = tileid_to_zxy(tile)
                    self.pieces[outlined].append(Piece(column, row, drawn))

    def _images(self, entries: Directory) -> list[Numbers]:
        """The indices of the images that each of these tiles draws."""
        while len(self.remembered) > REMEMBERED_TILES:
            place, _ = self.remembered.popitem(last=False)
            self.areas.pop(place, None)
        found, waiting = dict[Place, _Tile](), 0
        places = list(zip(entries.offset.tolist(), entries.length.tolist(), strict=True))
        tiles = zip(entries.tile_id.tolist(), entries.run_length.tolist(), places, strict=True)
        for tile_id, run_length, place in tiles:
            if place not in self.remembered and place not in found:
                names = self._names(tile_id, run_length, *place)
                found[place] = _Tile(tile_id, run_length, names)
                waiting += len(names)
                if waiting >= _NAMES:
                    self._remember(found)
                    found, waiting = {}, 0
        self._remember(found)
        return [self.remembered[place] for place in places]

    def _remember(self, tiles: Mapping[Place, _Tile]) -> None:
        """Look up the names in these tiles, all of them together, and check their order."""
        asked = list(chain.from_iterable(each.names for each in tiles.values()))
        found = self.ids.find(asked)
        strangers = np.flatnonzero(found < 0).tolist()
        self.strangers.update(repr(asked[each]) for each in strangers)
        ends = [*accumulate((len(each.names) for each in tiles.values()), initial=0)]
        for place, (start, end) in zip(tiles, pairwise(ends), strict=True):
            images = found[start:end]
            self.remembered[place] = images[images >= 0] if strangers else images
        if self.closely:
            self._check_order([*tiles.values()], found, np.array(ends[:-1], np.int64))

    def _check_order(self, tiles: Sequence[_Tile], images: Numbers, starts: Numbers) -> None:
        """Check that each tile, whose images begin at its start, draws them in ascending order, each once."""
        falls = np.flatnonzero((images[1:] <= images[:-1]) & (images[1:] >= 0)) + 1  # others are strangers
        falls = falls[~np.isin(falls, starts)]
        for each in np.unique(np.searchsorted(starts, falls, side="right") - 1).tolist():
            tile = tiles[each]
            self._blame(tile.tile_id, tile.run_length, BrokenTile("an older image is drawn over a newer one"))

    def _names(self, tile_id: int, run_length: int, offset: int, length: int) -> Sequence[Any]:
        """The ids of the images that a tile draws; whatever else is there is no image's id."""
        names: Sequence[Any] = []
        try:
            layer = self._the_layer(tile_id, self.archive.tile(tile_id, offset, length))
            names = self._named(layer)
            if not self.outlined.keys().isdisjoint(names):
                self.areas[offset, length] = self._areas(layer)
        except (BrokenArchive, BrokenTile) as error:
            self._blame(tile_id, run_length, error)
        return names

    def _named(self, layer: Layer) -> Sequence[Any]:
        """The names of a layer's images, without the counts of those that are only counted.

        In drawing order if they are read closely; else they may be in that of the layer's values.
        """
        if len(self.fields) > 1:
            names = names_in(layer, self.fields, self.said)
        else:
            names = _values_in(layer) if self.closely else layer.values
        if not 0 < len({*names}) == len(layer.features):  # not all writers store equal names once
            raise BrokenTile(f"{len(layer.features)} features draw {len({*names})} images and counts")
        return [name for name in names if not isinstance(name, int)] if "count" in layer.keys else names

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

    def _areas(self, layer: Layer) -> list[tuple[int, BaseGeometry]]:
        """What a tile draws of the images whose outlines are wanted."""
        key = list(layer.keys).index(self.name)
        image_of = [*(self.outlined.get(str(value)) for value in layer.values), None]
        try:
            drawn = [(image_of[_value_in(each.tags, key)], each) for each in layer.features]
        except IndexError as error:
            raise BrokenTile(f"not a feature: {error}") from None
        # most are not wanted, and reading one is slow
        return [(image, area(read_feature(layer, each))) for image, each in drawn if image is not None]

    def _blame(self, tile_id: int, run_length: int, error: Exception) -> None:
        self.fault_count += run_length
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append(f"{tile_name(tile_id)}: {error}")


def _in_batches(entries: Iterable[Directory]) -> Iterator[Directory]:
    return (each[start : start + _TOGETHER] for each in entries for start in range(0, len(each), _TOGETHER))


def _distinct(images: Sequence[Numbers]) -> Numbers:
    """The images of all tiles; of equal tiles, which share an array, only once."""
    return np.concatenate([*{id(each): each for each in images}.values()])


def _with(mask: Mask, images: Numbers, count: int) -> Mask:
    """The mask with these images marked, made longer if there are more images by now."""
    if count > len(mask):
        mask = np.append(mask, np.zeros(count - len(mask), np.bool_))
    mask[images] = True
    return mask


def _values_in(layer: Layer) -> list[str | int | None]:
    """The value of each feature's only property, in drawing order."""
    try:
        tags = (feature.tags for feature in layer.features)
        stated = [(layer.keys[key], layer.values[value]) for key, value in tags]
    except (IndexError, ValueError):
        raise BrokenTile("a feature has not one property, or one that its layer does not have") from None
    return [value for _, value in stated]


def _value_in(tags: Sequence[int], key: int) -> int:
    """The index of a feature's value for a key; -1 if it has none. Of several, readers take the last."""
    return dict(zip(tags[::2], tags[1::2], strict=False)).get(key, -1)

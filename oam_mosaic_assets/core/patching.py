"""Tiles that some changed images reach: these are replaced, and all other features stay as they were.

What a tile draws of an image depends on that image alone, at every zoom and whoever draws it; only the order
of features and the numbering of their properties depend on the others. So each tile is put together from the
features of the previous archive and those of a drawing of the changed images, and written as its zoom's own
writer does: byte for byte the tile that a build from scratch makes. Sources: the Vector Tile Specification
2.1, and for the zooms that tippecanoe draws, its `mvt.cpp`.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
from google.protobuf.message import DecodeError

from oam_mosaic_assets.core.archive import Archive, BrokenArchive
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import tile_positions
from oam_mosaic_assets.core.image_ids import ImageIds
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.snapshot import Names
from oam_mosaic_assets.core.splice import Splice
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.tile_writing import (
    IS_POLYGON,
    VARINT,
    Counted,
    Features,
    Tile,
    field,
    packed,
    tile_of_images,
    tile_of_layer,
)
from oam_mosaic_assets.core.tiling import EXTENT, TilingPlan
from oam_mosaic_assets.core.vector_tile import MESSAGES

_TOGETHER: Final = 2**14
"""Tiles that are looked up together."""

_REMEMBERED: Final = 2**16
"""Images whose places in drawing order are remembered, a few more or less: some ten megabytes."""

_TILE: Final = MESSAGES["RawTile"]
_VALUE: Final = MESSAGES["Value"]
_GZIP: Final = zlib.MAX_WBITS | 16


def patched_tiles(
    before: Archive,
    made: Sequence[Source],
    splice: Splice,
    footprints: Path,
    plan: TilingPlan,
    zooms: range,
    scratch: Path,
) -> Iterator[Tile]:
    """The tiles of a splice at some zooms, put together.

    Args:
        before: the previous archive.
        made: tiles that draw all images of the splice, and no others but in squares; tiles that are not of
            the splice are ignored.
        splice: what changed.
        footprints: the GeoParquet of all images.
        plan: how they are drawn.
        zooms: without a gap.
        scratch: where temporary files go.

    Raises:
        BrokenArchive: a directory or a tile of the previous archive is broken.
    """
    wanted = splice.tiles.common(Stretches.of_zooms(zooms.start, zooms.stop - 1))
    old = Source.of_archive(before, scratch, within=wanted)
    patch = _Patch.of(plan, footprints, splice.gone)
    batches = ((zoom, ids) for zoom in zooms for ids in wanted.within(zoom).batches(_TOGETHER))
    last, content = (-1, b"", b""), b""
    for zoom, ids in batches:
        x, y = (each.tolist() for each in tile_positions(ids, zoom))
        for column, row, was, drawn in zip(x, y, _contents([old], ids), _contents(made, ids), strict=True):
            if (zoom, was, drawn) != last:  # within an image, neighbours are equal
                last = zoom, was, drawn
                try:
                    content = patch.content(*last)
                except (zlib.error, DecodeError, LookupError, ValueError) as error:
                    raise BrokenArchive(f"tile {zoom}/{column}/{row} does not come apart: {error}") from None
            if content:
                yield Tile(zoom, column, row, content)


def _contents(sources: Sequence[Source], ids: Numbers) -> Iterator[bytes]:
    """What the sources, of which no two have the same tile, hold of each tile; empty if nothing."""
    source, entry = np.full((2, len(ids)), -1)
    for number, each in enumerate(sources):
        at = each.entries.at(ids)
        source[at >= 0], entry[at >= 0] = number, at[at >= 0]
    for which, of in zip(source.tolist(), entry.tolist(), strict=True):
        if which < 0:
            yield b""
        else:
            entries = sources[which].entries
            yield sources[which].content(int(entries.offset[of]), int(entries.length[of]))


class _Feature(NamedTuple):
    """A feature as it is stored.

    Attributes:
        name: the value that names its image, encoded; empty if it is a square.
        stated: its properties: each one's name, and its value, encoded.
        geometry: the encoded commands.
    """

    name: bytes
    stated: list[tuple[str, bytes]]
    geometry: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Patch:
    """What is done to each tile.

    Attributes:
        plan: how images are drawn.
        keys: the properties of images, each with its place in a layer drawn here.
        name: the property that names an image.
        ids: of all images of the new snapshot.
        gone: names of images whose features are left out, encoded as values of a layer.
        places: in drawing order, of images that were looked up lately, by their names encoded likewise.
    """

    plan: TilingPlan
    keys: Mapping[str, int]
    name: str
    ids: ImageIds
    gone: Collection[bytes]
    places: dict[bytes, int]

    @classmethod
    def of(cls, plan: TilingPlan, footprints: Path, gone: Iterable[str]) -> Self:
        """What is done once these images are gone and those of the footprints are drawn."""
        keys = {key: place for place, key in enumerate(plan.properties)}
        name, *_ = keys
        return cls(plan, keys, name, ImageIds(Names(footprints)), frozenset(map(_encoded, gone)), {})

    def content(self, zoom: int, old: bytes, new: bytes) -> bytes:
        """The gzipped tile; empty if nothing is left.

        Args:
            zoom: of the tile.
            old: the gzipped tile of the previous archive; empty if there is none.
            new: the same of the drawing of the changed images.
        """
        was, fresh = self._features(old), self._features(new)
        kept = [each for each in was if each.name and each.name not in self.gone]
        if len(kept) == len(was) and not fresh:
            return old
        images = self._in_order(kept, [each for each in fresh if each.name])
        squares = [each for each in fresh if not each.name]
        if not images and not squares:
            return b""
        by_tippecanoe = zoom in self.plan.simplified_zooms
        return packed(self._as_tippecanoe(images) if by_tippecanoe else self._as_here(images, squares))

    def _features(self, tile: bytes) -> list[_Feature]:
        """The features of a gzipped tile, in drawing order; none if it is empty."""
        if not tile:
            return []
        (layer,) = _TILE.FromString(zlib.decompress(tile, _GZIP)).layers
        keys, values = list(layer.keys), list(layer.values)
        found = []
        for each in layer.features:
            tags = each.tags
            stated = [(keys[tags[at]], values[tags[at + 1]]) for at in range(0, len(tags), 2)]
            key, name = stated[0]
            if key != self.name:  # usually it comes first
                name = dict(stated).get(self.name, b"")
            found.append(_Feature(name, stated, each.geometry))
        return found

    def _in_order(self, kept: list[_Feature], fresh: list[_Feature]) -> list[_Feature]:
        """Images in drawing order, as both lists are already."""
        if not kept or not fresh:
            return kept or fresh
        images = [*kept, *fresh]
        if len(self.places) > _REMEMBERED:
            self.places.clear()
        unknown = [each.name for each in images if each.name not in self.places]
        found = self.ids.find([_VALUE.FromString(each).string_value for each in unknown])
        self.places.update(zip(unknown, found.tolist(), strict=True))
        return sorted(images, key=lambda each: self.places[each.name])

    def _as_tippecanoe(self, images: Sequence[_Feature]) -> bytes:
        """An uncompressed tile as tippecanoe writes it: keys in the order of their use, values sorted."""
        keys = dict[str, int]()
        values = sorted({value for each in images for _, value in each.stated})
        number = {value: place for place, value in enumerate(values)}
        features = []
        for each in images:
            tags = [
                VARINT[keys.setdefault(key, len(keys))] + VARINT[number[value]] for key, value in each.stated
            ]
            features.append(field(2, IS_POLYGON + field(2, b"".join(tags)) + field(4, each.geometry)))
        head = [b"\x78" + VARINT[2], field(1, self.plan.layer.encode()), b"\x28" + VARINT[EXTENT]]
        stated = [*(field(3, key.encode()) for key in keys), *(field(4, value) for value in values)]
        return tile_of_layer([*head, *stated, *features])

    def _as_here(self, images: Sequence[_Feature], squares: Sequence[_Feature]) -> bytes:
        """An uncompressed tile as `low_zooms` and `deep_zooms` write it."""
        features = Features()
        for name, stated, geometry in images:
            others = [(self.keys[key], field(4, value)) for key, value in stated if key != self.name]
            features.add((field(4, name), others), _shape(geometry))
        counted = [
            Counted(field(4, value), _shape(each.geometry)) for each in squares for _, value in each.stated
        ]
        return tile_of_images(self.plan.layer, [*self.keys], features, counted)


def _encoded(name: str) -> bytes:
    """Text as a layer's value."""
    return field(1, name.encode())


def _shape(geometry: bytes) -> bytes:
    """Type and geometry as `tile_writing` encodes them."""
    return IS_POLYGON + field(4, geometry)

"""Checking that what did not change is as before, in the snapshot and in the tiles that changed images reach.

There, features are compared one by one: properties, geometry, order. Tiles in which nothing changed are
compared as a whole (see `takeover`), and what is drawn of the changed images with their footprints (see
`placement`).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import polars as pl
from google.protobuf.message import DecodeError

from oam_mosaic_assets.core.archive import Archive
from oam_mosaic_assets.core.changes import PLACED
from oam_mosaic_assets.core.directory import Numbers
from oam_mosaic_assets.core.grid import tile_name
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.snapshot import read_batches, rows_in
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.vector_tile import MESSAGES

_TOGETHER: Final = 2**14
"""Tiles whose places are looked up together."""

_GZIP: Final = zlib.MAX_WBITS | 16
_TILE: Final = MESSAGES["RawTile"]
_VALUE: Final = MESSAGES["Value"]


def differing_rows(
    then: tuple[Path, Numbers], now: tuple[Path, Numbers], columns: Sequence[str]
) -> list[str]:
    """Whether other images changed than those that are said to have, in words; empty if not.

    All others have to be the same in the same order. The comparison that found the changes goes by hashes
    and ids, this one row by row.

    Args:
        then: the footprints before, and the indices of the images that were removed or altered, ascending.
        now: the footprints now, and the indices of those that were added or altered.
        columns: those that become properties in tiles; besides those that place images.
    """
    columns = list(dict.fromkeys([*PLACED, *columns]))
    others = _kept(*now, columns)
    left = pl.DataFrame()
    for rows in _kept(*then, columns):
        rest = rows
        while len(rest):
            if not len(left):
                left = next(others, pl.DataFrame())
            count = min(len(left), len(rest))
            if not count or not left[:count].equals(rest[:count]):
                name = rest["id"][0]
                return [f"the snapshots differ in more images than was found, about where {name!r} is"]
            left, rest = left[count:], rest[count:]
    if len(left) or next(others, None) is not None:
        return ["the snapshots differ in more images than was found, at the end"]
    return []


def _kept(footprints: Path, images: Numbers, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The footprints without some images, in batches of at least one."""
    start = 0
    for batch in read_batches(footprints, columns):
        is_kept = np.ones(len(batch), np.bool_)
        is_kept[rows_in(images, start, batch)] = False
        start += len(batch)
        if is_kept.any():
            yield batch.filter(is_kept)


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Tiles of an archive, and what of them is compared.

    Attributes:
        tiles: the tiles.
        ignored: names of images that are not compared, encoded as values of a layer.
    """

    tiles: Source
    ignored: Collection[bytes]

    @classmethod
    def of(cls, archive: Archive, folder: Path, tiles: Stretches, ignored: Iterable[str]) -> Self:
        """These tiles of an archive.

        Args:
            archive: the archive.
            folder: for temporary files.
            tiles: those to compare.
            ignored: ids of images that are not compared.

        Raises:
            BrokenArchive: a directory is broken.
        """
        names = frozenset(_VALUE(string_value=each).SerializeToString() for each in ignored)
        return cls(Source.of_archive(archive, folder, within=tiles), names)

    def contents(self, ids: Numbers) -> Iterator[bytes]:
        """The stored content of each tile; empty if there is none."""
        entries = self.tiles.entries
        for of in entries.at(ids).tolist():
            yield self.tiles.content(int(entries.offset[of]), int(entries.length[of])) if of >= 0 else b""

    def features(self, content: bytes, name: str) -> list[Any]:
        """The properties, type and geometry of each feature that is an image, in drawing order."""
        found = []
        for layer in _TILE.FromString(zlib.decompress(content, _GZIP)).layers if content else ():
            keys, values = list(layer.keys), list(layer.values)
            for feature in layer.features:
                tags = feature.tags
                said = {keys[tags[at]]: values[tags[at + 1]] for at in range(0, len(tags), 2)}
                if name in said and said[name] not in self.ignored:
                    found.append((said, feature.type, feature.geometry))
        return found


def differing_features(now: Side, then: Side, tiles: Stretches, name: str) -> list[str]:
    """Tiles in which an image that did not change is drawn otherwise than before, in words; empty if none is.

    Args:
        now: the archive to check; ignores images that were added or altered.
        then: the one before; ignores images that were removed or altered.
        tiles: those to compare.
        name: the property that names an image; features without it are ignored.
    """
    differing = [
        tile_id
        for ids in tiles.batches(_TOGETHER)
        for tile_id, lies, lay in zip(ids.tolist(), now.contents(ids), then.contents(ids), strict=True)
        if lies != lay and _differs(now, lies, then, lay, name)
    ]
    if not differing:
        return []
    first = tile_name(differing[0])
    return [f"{len(differing)} tiles draw images that did not change otherwise than before, first {first}"]


def _differs(now: Side, lies: bytes, then: Side, lay: bytes, name: str) -> bool:
    try:
        return now.features(lies, name) != then.features(lay, name)
    except (zlib.error, DecodeError, IndexError, ValueError):  # whoever reads the tile will say what is wrong
        return True

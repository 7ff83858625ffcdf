"""Checking that tiles which changed images reach still draw all other images as before.

Their features are compared one by one: properties, geometry, order. Tiles in which nothing changed are
compared as a whole (see `takeover`), and what is drawn of the changed images with their footprints (see
`placement`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from google.protobuf.message import DecodeError

from oam_mosaic_assets.core.archive import Archive, BrokenArchive
from oam_mosaic_assets.core.directory import Directory, Numbers, joined
from oam_mosaic_assets.core.grid import tile_name
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.vector_tile import MESSAGES

_TOGETHER: Final = 2**14
"""Tiles whose places are looked up together."""

_TILE: Final = MESSAGES["RawTile"]
_VALUE: Final = MESSAGES["Value"]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """An archive, and what of it is compared.

    Attributes:
        archive: the archive.
        entries: of the tiles to compare.
        ignored: names of images that are not compared, encoded as values of a layer.
    """

    archive: Archive
    entries: Directory
    ignored: Collection[bytes]

    @classmethod
    def of(cls, archive: Archive, tiles: Stretches, ignored: Iterable[str]) -> Self:
        """These tiles of an archive.

        Args:
            archive: the archive.
            tiles: those to compare.
            ignored: ids of images that are not compared.

        Raises:
            BrokenArchive: a directory is broken.
        """
        entries = joined([tiles.cut(each)[0] for each in archive.directories()])
        names = frozenset(_VALUE(string_value=each).SerializeToString() for each in ignored)
        return cls(archive, entries, names)

    def contents(self, ids: Numbers) -> Iterator[bytes]:
        """The inflated content of each tile; empty if there is none, or if it is broken."""
        for tile_id, of in zip(ids.tolist(), self.entries.at(ids).tolist(), strict=True):
            content = b""
            if of >= 0:
                offset, length = int(self.entries.offset[of]), int(self.entries.length[of])
                with suppress(BrokenArchive):
                    content = self.archive.tile(tile_id, offset, length)
            yield content

    def features(self, content: bytes, name: str) -> list[Any]:
        """The properties, type and geometry of each feature that is an image, in drawing order."""
        found = []
        for layer in _TILE.FromString(content).layers:
            keys, values = list(layer.keys), list(layer.values)
            for feature in layer.features:
                tags = iter(feature.tags)
                said = {keys[key]: values[value] for key, value in zip(tags, tags, strict=True)}
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
    except (DecodeError, IndexError, ValueError):  # whoever reads the tile will say what is wrong with it
        return True

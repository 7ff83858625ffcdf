"""Reading an archive whose tiles are pictures, whoever wrote it: which there are, and which are broken."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from pmtiles.tile import tileid_to_zxy

from oam_mosaic_assets.core.archive import Archive, BrokenArchive
from oam_mosaic_assets.core.grid import zoom_of


@dataclass(frozen=True, slots=True)
class Pictures:
    """What an archive holds.

    Attributes:
        tiles: how many, by zoom.
        sizes: of the pictures, pixels.
        faults: broken tiles with their names.
    """

    tiles: dict[int, int]
    sizes: set[tuple[int, int]]
    faults: list[str]


def read_pictures(archive: Archive) -> Pictures:
    """Decode every picture once. Raises `BrokenArchive` where a directory is broken."""
    entries = archive.entries()
    found = Pictures({}, set(), [])
    kind = archive.header["tile_type"].name
    for tile_id, run_length in zip(entries.tile_id.tolist(), entries.run_length.tolist(), strict=True):
        zoom = zoom_of(tile_id)
        found.tiles[zoom] = found.tiles.get(zoom, 0) + run_length
    for each in np.unique(entries.offset, return_index=True)[1].tolist():
        tile_id, offset, length = (int(c[each]) for c in (entries.tile_id, entries.offset, entries.length))
        try:
            with Image.open(BytesIO(archive.tile(tile_id, offset, length)), formats=[kind]) as picture:
                picture.load()
                found.sizes.add(picture.size)
        except (BrokenArchive, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            found.faults.append(f"{'/'.join(map(str, tileid_to_zxy(tile_id)))}: {error}")
    return found

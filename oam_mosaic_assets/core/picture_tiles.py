"""Reading an archive of picture tiles, whatever wrote it: which tiles it has, and which are broken."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from PIL import Image

from oam_mosaic_assets.core.archive import HEADER_LENGTH, Archive, BrokenArchive, read_header
from oam_mosaic_assets.core.grid import tile_name, zoom_of
from oam_mosaic_assets.core.outline import Read
from oam_mosaic_assets.core.palette import NOT_DECODED

_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
"""The first bytes of every PNG; width and height follow."""

_SIZE: Final = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Pictures:
    """What an archive of pictures holds.

    Attributes:
        tiles: number of tiles by zoom.
        sizes: the distinct sizes of the pictures, pixels.
        faults: broken pictures, each with its first tile and the error.
    """

    tiles: dict[int, int]
    sizes: set[tuple[int, int]]
    faults: list[str]


def tile_pixels(read: Read) -> int:
    """The width in pixels of an archive's first tile.

    Args:
        read: reads the archive of PNG tiles.

    Raises:
        BrokenArchive: it has no valid header, or its first tile is not a PNG.
    """
    start = read_header(read(0, HEADER_LENGTH))["tile_data_offset"]
    head = read(start, len(_PNG) + _SIZE.size)
    if not head.startswith(_PNG) or len(head) < len(_PNG) + _SIZE.size:
        raise BrokenArchive("its first tile is not a PNG")
    width: int = _SIZE.unpack(head[len(_PNG) :])[0]
    return width


def read_pictures(archive: Archive) -> Pictures:
    """Decode each distinct picture once. Raises `BrokenArchive` if a directory is broken."""
    entries = archive.entries()
    found = Pictures({}, set(), [])
    kind = archive.header["tile_type"].name
    for tile_id, run_length in zip(entries.tile_id.tolist(), entries.run_length.tolist(), strict=True):
        zoom = zoom_of(tile_id)
        found.tiles[zoom] = found.tiles.get(zoom, 0) + run_length
    Image.init()
    if kind not in Image.OPEN:
        found.faults.append(f"tiles of type {kind} cannot be read")
        return found
    for each in entries.distinct().tolist():
        tile_id, offset, length = (int(c[each]) for c in (entries.tile_id, entries.offset, entries.length))
        try:
            with Image.open(BytesIO(archive.tile(tile_id, offset, length)), formats=[kind]) as picture:
                picture.load()
                found.sizes.add(picture.size)
        except (BrokenArchive, *NOT_DECODED) as error:
            found.faults.append(f"{tile_name(tile_id)}: {error}")
    return found

"""An image as the tiles that TiTiler draws of it: for images that only TiTiler can reach, or shows better.

TiTiler reads the image itself and fills in for `source` and `cog`, so this asks for nothing but pictures of
one tile each at `FINEST`. Beside an image it answers 404, and so do some of its versions for an image that
they cannot read.
"""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import Final

import numpy as np
import PIL.PngImagePlugin  # noqa: F401  # else Pillow imports every format plugin to find this one
import shapely
from PIL import Image

from oam_mosaic_assets.core.geometry import Area
from oam_mosaic_assets.core.imagery.blocks import FINEST, WORLD, Window
from oam_mosaic_assets.core.imagery.outcome import Reason, Unreadable
from oam_mosaic_assets.core.imagery.pixels import TILE, Pixels, premultiplied
from oam_mosaic_assets.gateways.imagery.addresses import checked_addresses, target_of
from oam_mosaic_assets.gateways.imagery.hosts import Hosts
from oam_mosaic_assets.gateways.imagery.source import Limits, Source

LARGEST: Final = 2**20
"""Bytes of a picture: four times those of its pixels."""


class Tiles:
    """The tiles of one image; to its caller both the source and what is read from it.

    Attributes:
        requests: sent so far, including those that failed.
        bytes: received so far.
        etag: empty, as a tile does not say which version of the image it shows.
    """

    etag: Final = ""

    def __init__(self, address: str, asset: str, area: Area, hosts: Hosts, limits: Limits) -> None:
        """No request is made yet.

        Args:
            address: of its tiles, with `{z}`, `{x}` and `{y}`.
            asset: of the image, which TiTiler is to request.
            area: its footprint in pixel coordinates.
            hosts: sends requests.
            limits: for each use of it.

        Raises:
            Unreadable: the image's own address is not allowed.
        """
        target, server = (target_of(each, hosts.rules) for each in (asset, address))
        if target.authority == server.authority:  # it would ask itself, for whatever the catalogue names
            raise Unreadable(Reason.REFUSED_ADDRESS, f"{target.authority} is the server of its tiles")
        checked_addresses(target, hosts.rules)
        self.requests = 0
        self.bytes = 0
        self._address = address
        self._area = area
        self._hosts = hosts
        self._limits = limits
        self._is_there = False
        self.allow()

    @property
    def source(self) -> Tiles:
        """What counts its requests."""
        return self

    def version(self) -> str:
        """Unknown, and so always another one."""
        return self.etag

    def allow(self) -> None:
        """Start another use: its time counts from now on."""
        self._deadline = time.monotonic() + self._limits.seconds

    def close(self) -> None:
        """There is nothing to close."""

    def see(self) -> None:
        """Check that there is a tile in its midst.

        Raises:
            Unreadable: for any reason.
        """
        middle = shapely.get_coordinates(shapely.point_on_surface(self._area))[0]
        column, row = (int(each) // TILE for each in middle)
        if not self._is_there and self._tile(column, row) is None:
            raise Unreadable(Reason.MISSING, "no tile in its midst")

    def seen_in(self, window: Window) -> Pixels | None:
        """What it shows in a window; None if it is elsewhere.

        Raises:
            Unreadable: for any reason; `MISSING` if there is no tile where it covers all of one.
        """
        seen: Pixels | None = None
        for row in range(window.y0 // TILE, -(-window.y1 // TILE)):
            for column in range(window.x0 // TILE, -(-window.x1 // TILE)):
                whole = Window(column * TILE, row * TILE, (column + 1) * TILE, (row + 1) * TILE)
                box = shapely.box(whole.x0, whole.y0, whole.x1, whole.y1)
                if not shapely.intersects(self._area, box):
                    continue
                tile = self._tile(column, row)
                if tile is None:
                    if shapely.contains(self._area, box):
                        raise Unreadable(Reason.MISSING, f"no tile {FINEST}/{column}/{row}")
                    continue
                if seen is None:
                    seen = np.zeros((*window.shape, 4), np.uint8)
                part = window & whole
                seen[part.within(window)] = tile[part.within(whole)]
        if seen is None:
            self.see()  # it is elsewhere if there is any
        return seen

    def _tile(self, column: int, row: int) -> Pixels | None:
        """A tile; None where there is none."""
        if not (0 <= column < WORLD // TILE and 0 <= row < WORLD // TILE):
            return None
        address = self._address
        for name, value in (("{z}", FINEST), ("{x}", column), ("{y}", row)):
            address = address.replace(name, f"{value}")
        left = replace(self._limits, seconds=self._deadline - time.monotonic(), whole=LARGEST)
        source = Source(address, self._hosts, left, expected=LARGEST)
        try:
            content = source.read(0, LARGEST)
        except Unreadable as failure:
            if failure.reason is Reason.MISSING:
                return None
            raise
        finally:
            self.requests += source.requests
            self.bytes += source.bytes
        self._is_there = True
        return _decoded(content)


def _decoded(content: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "WEBP"]) as picture:
            if picture.size != (TILE, TILE):  # before anything is inflated
                sides = " x ".join(map(str, picture.size))
                raise Unreadable(Reason.UNSUPPORTED, f"tiles of {sides} pixels, not {TILE} x {TILE}")
            return premultiplied(np.asarray(picture.convert("RGBA")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(Reason.DAMAGED, f"no PNG or WEBP: {error}") from None

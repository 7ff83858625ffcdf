"""An image as a TIFF: where it is, what its bands mean, and its pixels at the required scale.

Any TIFF that georeferences itself will do, with or without overviews, and with any bands, data types, masks
and CRS. It is read from the overview just finer than required, and reduced further by averaging whole pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_OutOfMemoryError  # no public module has it
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_gcps
from rasterio.warp import transform as project
from rasterio.windows import Window as BandWindow

from oam_mosaic_assets.core.imagery.blocks import WORLD, Window
from oam_mosaic_assets.core.imagery.outcome import NO_MEMORY, Reason, Unreadable
from oam_mosaic_assets.core.imagery.pixels import Pixels, box_mean
from oam_mosaic_assets.core.imagery.warp import HALF_WORLD, Places, lattice, seen
from oam_mosaic_assets.gateways.imagery.colour import Colours
from oam_mosaic_assets.gateways.imagery.masks import masked_sizes
from oam_mosaic_assets.gateways.imagery.source import AsFile, Source

LARGEST_BLOCK: Final = 64 * 2**20
"""How many bytes a tile or strip of a TIFF may inflate to, all its bands together."""

MOST_PIXELS: Final = 400_000_000
"""How many pixels of an image are read at most in one use of it."""

_CHUNK: Final = 1024
"""Side in pixels of a square as large as what is read at once."""

_MERCATOR: Final = CRS.from_epsg(3857)
_DEGREES: Final = CRS.from_epsg(4326)

ENVIRONMENT: Final = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_PAM_ENABLED": False,
    "GDAL_CACHEMAX": 32 * 2**20,  # rasterio passes it on in bytes
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    "PROJ_NETWORK": "OFF",
}
"""GDAL options: it looks for no other files, and neither GDAL nor PROJ uses the network."""


class Cog:
    """An open image."""

    def __init__(self, source: Source, render_params: str | None = None) -> None:
        """Open it.

        Args:
            source: its bytes.
            render_params: how to show it according to the catalogue, as a TiTiler query string.

        Raises:
            Unreadable: for any reason.
        """
        self.source = source
        self._open = ExitStack()
        self._levels: dict[int, Any] = {}
        self._read = 0
        try:
            source.opened()
            with self._told():
                with source.pinning():  # GDAL reads the header again for each overview that it opens
                    self._base = self._level(-1)
                    self._see_that_it_is_sane()
                self._transform, self._crs = self._georeference()
                self._overviews = self._base.overviews(1)
                coarsest = len(self._overviews) - 1
                self.colours = Colours.of(
                    self._base, lambda: self._level(coarsest), self._count, self._mask, render_params
                )
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._open.close()

    def allow(self) -> None:
        """Start another use: its time, bytes and pixels count from now on."""
        self.source.allow()
        self._read = 0

    def seen_in(self, window: Window) -> Pixels | None:
        """What it shows in a window; None if it is elsewhere.

        Args:
            window: its edges are on multiples of `STEP`.

        Raises:
            Unreadable: for any reason.
        """
        with self._told():
            places = self._places(*lattice(window))
            finite = np.isfinite(places).all(axis=0)
            if not finite.any():
                return None
            reduced = self.reduction
            # opening an overview takes as long as reading it, so only the one that fits is opened
            level = max((i for i, each in enumerate(self._overviews) if each <= reduced), default=-1)
            opened = self._level(level)
            size = np.array([self._base.width / opened.width, self._base.height / opened.height])
            factor = max(1, math.floor(reduced / size.max()))
            whole = np.ceil(np.array([opened.width, opened.height]) / factor).astype(np.int64)
            places = places / (size * factor)[:, None, None]
            low = np.clip(np.floor(places[:, finite].min(axis=1)) - 1, 0, whole).astype(np.int64)
            high = np.clip(np.ceil(places[:, finite].max(axis=1)) + 1, 0, whole).astype(np.int64)
            if (high <= low).any():
                return None
            image = self._reduced(opened, factor, low, high)
            return seen(image, places - low[:, None, None])

    @cached_property
    def reduction(self) -> float:
        """How many of its own pixels fit along one pixel of the grid, at its centre."""
        middle = self._at(self._base.width / 2.0, self._base.height / 2.0)
        (x,), (y,) = project(self._crs, _MERCATOR, *([each] for each in middle))
        pixel = 2.0 * HALF_WORLD / WORLD
        around = self._places(np.array([[x, x + pixel, x]]), np.array([[y, y, y + pixel]]))[:, 0]
        east, north = (around[:, 1:] - around[:, :1]).T
        area = abs(float(east[0] * north[1] - east[1] * north[0]))
        return math.sqrt(area) if math.isfinite(area) and area > 0.0 else 1.0

    def _at(self, column: float, row: float) -> tuple[float, float]:
        """Where one of its own pixels is, in its CRS."""
        to = self._transform
        return to.a * column + to.b * row + to.c, to.d * column + to.e * row + to.f

    def _places(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Places:
        """Columns and rows, in its own pixels, of points in EPSG:3857."""
        found = project(_MERCATOR, self._crs, x.ravel().tolist(), y.ravel().tolist())
        east, north = (np.array(each).reshape(x.shape) for each in found)
        width, height = self._base.width, self._base.height
        if turn := self._turn:
            middle = self._at(width / 2.0, height / 2.0)[0]
            east = east + turn * np.round((middle - east) / turn)
        inverse = ~self._transform
        with np.errstate(invalid="ignore"):
            columns = inverse.a * east + inverse.b * north + inverse.c
            rows = inverse.d * east + inverse.e * north + inverse.f
        return np.stack([columns, rows])

    @cached_property
    def _turn(self) -> float:
        """How much further east the same place is after a turn round the world; 0 if that differs.

        In a cylindrical CRS it does not: how far east a place is depends on its longitude alone.
        """
        if self._crs.is_geographic:
            return 360.0
        if self._crs == _MERCATOR:
            return 2.0 * HALF_WORLD
        try:  # thirds of a turn, since they cover two of them wherever the CRS cuts the world
            east, _ = project(_DEGREES, self._crs, [-120.0, 0.0, 120.0] * 2, [0.0] * 3 + [50.0] * 3)
        except Exception:  # noqa: BLE001  # as in `_told`; most others are not for all of the world
            return 0.0
        turn = 1.5 * float(np.ptp(east[:3]))
        return turn if math.isfinite(turn) and np.allclose(east[:3], east[3:], rtol=0.0, atol=1e-3) else 0.0

    def _reduced(self, opened: Any, factor: int, low: NDArray[np.int64], high: NDArray[np.int64]) -> Pixels:
        """Its pixels in a range of columns and rows, reduced by `factor`; the range counts reduced pixels."""
        left, top = low.tolist()
        right, bottom = high.tolist()
        self._count((right - left) * (bottom - top) * factor * factor)
        image = np.zeros((bottom - top, right - left, 4), np.uint8)
        # bytes lie row by row of blocks, so chunks are low and wide. GDAL caches blocks that two share
        tall, wide = opened.block_shapes[0]
        rows = min(_CHUNK, max(tall, _CHUNK**2 // max(wide, (right - left) * factor)))
        down = max(1, rows // factor)
        across = max(1, min(_CHUNK**2 // (down * factor), 4 * _CHUNK) // factor)
        for row in range(top, bottom, down):
            for column in range(left, right, across):
                end, last = min(row + down, bottom), min(column + across, right)
                window = BandWindow.from_slices(
                    (row * factor, min(end * factor, opened.height)),
                    (column * factor, min(last * factor, opened.width)),
                )
                mean = box_mean(self.colours.read(opened, window), factor)
                image[row - top : end - top, column - left : last - left] = mean
                self._blame()
        return image

    def _count(self, pixels: int) -> None:
        """Deduct pixels that are about to be read from those that one use may read."""
        self._read += pixels
        if self._read > MOST_PIXELS:
            raise Unreadable(Reason.TOO_LARGE, f"more than {MOST_PIXELS} pixels")

    def _mask(self, opened: Any, window: BandWindow | None, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """The mask in a window of the image or of an overview; of all of it if the window is None."""
        if opened is not self._base and opened.shape not in self._masked:
            window = window or BandWindow(0, 0, opened.width, opened.height)
            x, y = self._base.width / opened.width, self._base.height / opened.height
            window = BandWindow(window.col_off * x, window.row_off * y, window.width * x, window.height * y)
            opened = self._base
        mask: NDArray[np.uint8] = opened.read_masks(1, window=window, out_shape=shape)
        return mask

    @cached_property
    def _masked(self) -> set[tuple[int, int]]:
        """Heights and widths of the image and those overviews that have a mask of their own."""
        return masked_sizes(self.source.read)  # its pages are cached, as GDAL has read them

    def _level(self, overview: int) -> Any:
        """The image itself (-1), or one of its overviews."""
        if overview not in self._levels:
            options = {} if overview < 0 else {"OVERVIEW_LEVEL": overview}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `_georeference` reports it
                dataset = rasterio.open(
                    AsFile.NAME, driver="GTiff", opener=AsFile(self.source), sharing=False, **options
                )
            self._levels[overview] = self._open.enter_context(dataset)
        return self._levels[overview]

    def _see_that_it_is_sane(self) -> None:
        base = self._base
        # asked for overviews, GDAL opens whatever is named there: any address, path or VRT
        if base.tags(ns="OVERVIEWS"):
            raise Unreadable(Reason.UNSUPPORTED, "its metadata names another file for its overviews")
        if base.count < 1:
            raise Unreadable(Reason.UNSUPPORTED, "no bands")
        rows, columns = base.block_shapes[0]
        bands = base.count if base.interleaving and base.interleaving.name == "pixel" else 1
        inflated = rows * columns * bands * np.dtype(base.dtypes[0]).itemsize
        if inflated > LARGEST_BLOCK:
            raise Unreadable(Reason.TOO_LARGE, f"blocks of {columns} x {rows} pixels and {bands} bands")

    def _georeference(self) -> tuple[Affine, CRS]:
        transform, crs = self._base.transform, self._base.crs
        if transform.is_identity and self._base.gcps[0]:
            points, crs = self._base.gcps
            transform = from_gcps(points)
        if transform.is_identity or transform.is_degenerate or crs is None:
            raise Unreadable(Reason.NO_GEOREFERENCE)
        try:
            project(crs, _MERCATOR, [transform.c], [transform.f])
        except Exception as error:  # as in `_told`
            if _is_lack_of_memory(error):
                raise
            raise Unreadable(Reason.NO_GEOREFERENCE, str(error)) from None
        return transform, crs

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn failures of GDAL and of the source into `Unreadable`."""
        try:
            with rasterio.Env(**ENVIRONMENT):
                yield
        except Unreadable:
            self._blame()
            raise
        except Exception as error:  # noqa: BLE001  # GDAL's have no public base class, decoders raise anything
            self._blame()
            if _is_lack_of_memory(error):
                raise Unreadable(Reason.TOO_LARGE, NO_MEMORY) from None
            raise Unreadable(Reason.DAMAGED, str(error)) from None
        self._blame()

    def _blame(self) -> None:
        if self.source.failure is not None:
            raise self.source.failure from None


def _is_lack_of_memory(error: BaseException | None) -> bool:
    """Whether an error came about as Python or GDAL ran out of memory, which says little about the image."""
    while error is not None and not isinstance(error, MemoryError | CPLE_OutOfMemoryError):
        error = error.__cause__
    return error is not None

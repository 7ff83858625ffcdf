"""What the bands of an image mean: which are red, green and blue, how bright they are, what is transparent.

In order of precedence: what the catalogue says (the STAC render extension, as `core.rendering` reads it),
what the file says (colour table, colour interpretation, nodata, mask, alpha), and what is usual in this
catalogue. Three or more bands start with red, green and blue; of fewer, the first is grey. Without any other
mask, pixels whose bands are all 0 are transparent, as collars look like that (except in floating-point images
and where values are classes). Values other than bytes are stretched between the 2nd and 98th percentiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qs

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as BandWindow

from oam_mosaic_assets.core.imagery.colour_table import ColourTable, named_table, stated_table
from oam_mosaic_assets.core.imagery.outcome import Reason, Unreadable
from oam_mosaic_assets.core.imagery.pixels import Pixels, premultiplied

LOW, HIGH = 2.0, 98.0
"""The percentiles that become black and white."""

_SAMPLED: Final = 512
"""Side in pixels of the sample that percentiles are taken from."""

_FULL: Final = 255
_COLOURS: Final = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_THREE: Final = 3

Mask = Callable[[Any, BandWindow | None, tuple[int, int]], NDArray[np.uint8]]
"""Reads the mask, 0 to 255, in a window of an image or one of its overviews, as an array of a given shape."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Colours:
    """How pixels become colours.

    Attributes:
        bands: one, or red, green and blue; counted from 1.
        alpha: the alpha band; None where there is none.
        opaque: its value where a pixel is opaque.
        mask: reads the mask of the file; None where it has none.
        nodata: the value of all bands of a transparent pixel; None where every value is valid.
        ranges: for each band, the values that become black and white; None where values are used as they are.
        table: the colours of the values of a single band, as stretched; None where it has no table.
    """

    bands: tuple[int, ...]
    alpha: int | None = None
    opaque: float = float(_FULL)
    mask: Mask | None = None
    nodata: float | None = None
    ranges: NDArray[np.float64] | None = None
    table: ColourTable | None = None

    @classmethod
    def of(
        cls,
        base: Any,
        coarsest: Callable[[], Any],
        count: Callable[[int], None],
        mask: Mask,
        render_params: str | None,
    ) -> Colours:
        """Work it out from the catalogue and the file.

        Args:
            base: the open image.
            coarsest: opens its coarsest overview, or the image itself if there is none.
            count: is told how many pixels the percentiles take; raises `Unreadable` if these are too many.
            mask: reads its mask, if it has one.
            render_params: what the catalogue says, as a TiTiler query string.

        Raises:
            Unreadable: `UNSUPPORTED`, or as `count` does.
        """
        stated = parse_qs(render_params or "")
        kinds = base.colorinterp
        alpha = kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else None
        bands = _bands(kinds, alpha, stated)
        types = {base.dtypes[band - 1] for band in bands}
        if any(np.dtype(each).kind not in "uif" for each in types):
            raise Unreadable(Reason.UNSUPPORTED, f"pixels of type {', '.join(sorted(types))}")
        flags = base.mask_flag_enums[bands[0] - 1]
        own_mask = mask if MaskFlags.per_dataset in flags and alpha is None else None
        are_bytes = types == {"uint8"}
        are_fractions = all(np.dtype(each).kind == "f" for each in types)
        table = _table(base, bands[0], stated) if len(bands) == 1 else None
        is_brightness = table is None or table.is_scale
        nodata = _nodata(base, stated)
        if nodata is None and is_brightness and alpha is None and own_mask is None and not are_fractions:
            nodata = 0.0
        opaque = float(_FULL) if alpha is None or are_bytes else _opaque(coarsest(), alpha)
        found = cls(bands=bands, alpha=alpha, opaque=opaque, mask=own_mask, nodata=nodata, table=table)
        ranges = _stated_ranges(stated, len(bands))
        if ranges is None:
            if not is_brightness or (are_bytes and "rescale" not in stated):
                return found
            sampled = coarsest()
            count(sampled.width * sampled.height)
            ranges = found.percentiles(sampled)
        return replace(found, ranges=ranges)

    def read(self, opened: Any, window: BandWindow) -> Pixels:
        """The pixels in a window of the image, or of one of its overviews."""
        values = opened.read(self.bands, window=window)
        seen = self._seen(opened, values, window)
        if self.ranges is not None:
            # TiTiler cuts off, rather than rounds, what it looks up
            values = _stretched(values, self.ranges, rounding=0.5 if self.table is None else 0.0)
        if self.table is not None:
            straight = self.table.of(values[0])
            straight[..., 3] = np.minimum(straight[..., 3], seen)
            return premultiplied(straight)
        colours = values if len(values) == _THREE else np.repeat(values[:1], _THREE, axis=0)
        return premultiplied(np.stack([*colours, seen], axis=-1))

    def percentiles(self, coarsest: Any) -> NDArray[np.float64]:
        """The values that become black and white in each band, sampled from the whole image."""
        step = max(1, -(-max(coarsest.width, coarsest.height) // _SAMPLED))
        shape = (max(1, coarsest.height // step), max(1, coarsest.width // step))
        values = coarsest.read(self.bands, out_shape=(len(self.bands), *shape))
        seen = self._seen(coarsest, values, None, shape) > 0
        found = []
        for band in values:
            usable = band[seen & np.isfinite(band)]
            low, high = np.percentile(usable.astype(np.float64), [LOW, HIGH]) if usable.size else (0.0, 1.0)
            found.append((low, high if high > low else low + 1.0))
        return np.array(found)

    def _seen(
        self,
        opened: Any,
        values: NDArray[Any],
        window: BandWindow | None,
        shape: tuple[int, int] | None = None,
    ) -> NDArray[np.uint8]:
        """Each pixel's opacity, 0 to 255."""
        height, width = values.shape[1:]
        seen = np.full((height, width), _FULL, np.uint8)
        if self.alpha is not None:
            alpha = opened.read(self.alpha, window=window, out_shape=shape)
            is_byte = alpha.dtype == np.uint8
            seen = alpha if is_byte else (np.clip(alpha / self.opaque, 0.0, 1.0) * _FULL).astype(np.uint8)
        elif self.mask is not None:
            seen = self.mask(opened, window, (height, width))
        seen = seen.copy()
        if values.dtype.kind == "f":
            seen[~np.isfinite(values).all(axis=0)] = 0
        if self.nodata == 0.0:  # as nearly all; four times as fast
            seen[~values.any(axis=0)] = 0
        elif self.nodata is not None:
            seen[(values == self.nodata).all(axis=0)] = 0
        return seen


def _bands(
    kinds: tuple[ColorInterp, ...], alpha: int | None, stated: dict[str, list[str]]
) -> tuple[int, ...]:
    count = len(kinds)
    wanted = [int(each) for each in stated.get("bidx", []) if each.isdigit() and 1 <= int(each) <= count]
    if wanted:
        return tuple(wanted[:_THREE]) if len(wanted) >= _THREE else (wanted[0],)
    if all(each in kinds for each in _COLOURS):
        return tuple(kinds.index(each) + 1 for each in _COLOURS)
    usable = [band for band in range(1, count + 1) if band != alpha]
    if not usable:
        raise Unreadable(Reason.UNSUPPORTED, "no bands but alpha")
    return tuple(usable[:_THREE]) if len(usable) >= _THREE else (usable[0],)


def _opaque(coarsest: Any, alpha: int) -> float:
    """The value of an alpha band that means opaque; some programs write a byte's into wider bands.

    The block in the middle tells: if there are no overviews, all blocks are the whole image.
    """
    kind = np.dtype(coarsest.dtypes[alpha - 1])
    if kind.kind not in "ui":
        return 1.0
    rows, columns = coarsest.block_shapes[alpha - 1]
    middle = coarsest.block_window(alpha, coarsest.height // 2 // rows, coarsest.width // 2 // columns)
    most = coarsest.read(alpha, window=middle).max()
    return float(_FULL if most <= _FULL else np.iinfo(kind).max)


def _nodata(base: Any, stated: dict[str, list[str]]) -> float | None:
    try:
        return float(stated["nodata"][0])
    except (KeyError, ValueError):
        found = base.nodata
        return None if found is None else float(found)


def _table(base: Any, band: int, stated: dict[str, list[str]]) -> ColourTable | None:
    """The colour table that is stated, by its name or by its entries, else the file's own."""
    for name, table_of in (("colormap_name", named_table), ("colormap", stated_table)):
        if name in stated and (table := table_of(stated[name][0])) is not None:
            return table
    if base.colorinterp[band - 1] is not ColorInterp.palette:
        return None
    try:
        return ColourTable.of_values(base.colormap(band))
    except ValueError:  # the band is said to be a palette, but there is none
        return None


def _stated_ranges(stated: dict[str, list[str]], bands: int) -> NDArray[np.float64] | None:
    """The range of each band; a single one applies to all. None if what is stated is not valid."""
    try:
        ranges = [[float(each) for each in text.split(",")] for text in stated["rescale"]]
        whole = np.array(ranges * bands if len(ranges) == 1 else ranges[:bands], np.float64)
        good = whole.shape == (bands, 2) and bool(
            np.isfinite(whole).all() and (whole[:, 1] > whole[:, 0]).all()
        )
    except (KeyError, ValueError):
        return None
    return whole if good else None


def _stretched(values: NDArray[Any], ranges: NDArray[np.float64], *, rounding: float) -> NDArray[np.uint8]:
    low = ranges[:, :1, None].astype(np.float32)
    high = ranges[:, 1:, None].astype(np.float32)
    share = (np.nan_to_num(values.astype(np.float32)) - low) / (high - low)
    return (np.clip(share, 0.0, 1.0) * _FULL + rounding).astype(np.uint8)

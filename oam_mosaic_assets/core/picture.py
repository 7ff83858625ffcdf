"""A small picture of the world with the images on it, to see at a glance what the mosaic holds.

The projection is Equal Earth, so that a dot covers the same area everywhere; the map is cut at the Bering
Strait. Every pixel has a tone (sea, land) and a heat (images); in the end a table of both gives its colour.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from io import BytesIO
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.land import CUT, LAND, WATER

WIDTH: Final = 960
HEIGHT: Final = 474
"""Size of the picture, pixels."""

LEGEND: Final = (
    "Orange: images; each dot stands for some 26,000 km²; the more images touch it, the larger and brighter "
    "it is. Grey: land, for orientation only."
)
"""What the colours mean, to be shown with the picture."""

MAX_BYTES: Final = 44_000
"""The most bytes of a PNG: below 60 kB as base64, which fits into one entry of an event log."""

_WIDTHS: Final = (WIDTH, 840, 720, 600, 480)
"""Pixels; if images scattered all over the world make the PNG too large, the next smaller width is used."""

_FINE: Final = 3
"""Everything is drawn this many times larger and then reduced, which smooths the edges."""

_CENTRE: Final = np.array([WIDTH, HEIGHT]) / 2
_RADIUS: Final = 175.1
"""Radius of the sphere in pixels; leaves a margin of 6 pixels around the world."""

_STEP: Final = 5
_ROW: Final = 4
"""Pixels from dot to dot, and from row to row; every other row is shifted by half a step."""

_TOP: Final = 7
_ROWS: Final = 115
_COLUMNS: Final = WIDTH // _STEP + 1

_MOST: Final = 1000
"""Images; a dot for this many or more is the largest and brightest."""

_TONES: Final = 12
_HEATS: Final = 10
_ALPHAS: Final = 6
"""Levels of tone, of heat and, at the world's edge, of opacity: few, to keep the PNG small."""

_SEA, _GRATICULE, _EDGE, _LAND, _COAST = 0, 46, 92, 128, 255
"""Tones, 0 to 255; all layers have this range until they are coloured."""

_TURN: Final = 360.0
"""A full turn, degrees."""

_BLUES: Final = np.array([[10, 20, 36], [31, 46, 66], [54, 74, 97], [92, 116, 141]], dtype=np.float64)
_EMBERS: Final = np.array(
    [[255, 106, 26], [255, 150, 48], [255, 205, 110], [255, 252, 236]], dtype=np.float64
)
"""Red, green, blue: from the darkest tone to the lightest, and from the least heat to the greatest."""


def project(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project points into the picture.

    Source: B. Šavrič, T. Patterson, B. Jenny, The Equal Earth map projection, 2018, equations 9 and 10.

    Args:
        lonlat: shape (n, 2), degrees, EPSG:4326; longitudes from CUT to CUT + 360.

    Returns:
        shape (n, 2), pixels to the right and down.
    """
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    lon, lat = np.radians(lonlat - np.array([CUT + 180.0, 0.0])).T
    t = np.arcsin(np.sqrt(3) / 2 * np.sin(lat))
    slope = 9 * a4 * t**8 + 7 * a3 * t**6 + 3 * a2 * t**2 + a1
    x = 2 * np.sqrt(3) * lon * np.cos(t) / (3 * slope)
    y = a4 * t**9 + a3 * t**7 + a2 * t**3 + a1 * t
    return _CENTRE + _RADIUS * np.column_stack([x, -y])


_WORLD: Final = shapely.box(CUT, -90.0, CUT + _TURN, 90.0)

_LATITUDES: Final = np.linspace(90.0, -90.0, 1801)
_HEIGHTS: Final = project(np.column_stack([np.full(1801, CUT), _LATITUDES]))[:, 1]
"""Vertical position of each of these latitudes, pixels down."""

_ROW_CENTRES: Final = _TOP + _ROW * (np.arange(_ROWS) + 0.5)
_ROW_LATITUDES: Final = np.interp(_ROW_CENTRES, _HEIGHTS, _LATITUDES)
_ROW_STARTS: Final = project(np.column_stack([np.full(_ROWS, CUT), _ROW_LATITUDES]))[:, 0]
"""For each row of dots: pixels down, degrees north, and where the world begins, pixels to the right."""


def world_picture(footprints: Geometries | Iterable[Geometries], *, max_bytes: int = MAX_BYTES) -> bytes:
    """Draw a dot wherever there are images, logarithmically larger and brighter the more there are.

    A dot stands for some 26,000 square kilometres. An image counts for each dot whose cell its bounding box
    touches; the parts of a multipolygon count by their own boxes, so crossing the antimeridian does not make
    an image larger.

    Args:
        footprints: in EPSG:4326, none empty, split at the antimeridian; all at once, or in batches, so that
            memory does not grow with their number.
        max_bytes: the most bytes that the PNG may have.

    Returns:
        A PNG, transparent around the world, of WIDTH x HEIGHT pixels, or scaled down by up to half if that is
        too large. The same footprints give the same bytes.
    """
    counts = np.zeros((_ROWS, _COLUMNS), dtype=np.int64)
    for batch in [footprints] if isinstance(footprints, np.ndarray) else footprints:
        counts += _counted(_boxes(batch))
    layers = (_backdrop(), _heat(counts), _world())
    for width in _WIDTHS:
        size = (width, width * HEIGHT // WIDTH)
        png = _coloured(*(layer.resize(size, Image.Resampling.BOX) for layer in layers))
        if len(png) <= max_bytes:
            break
    return png


def as_markdown(png: bytes, caption: str) -> str:
    """A picture embedded in markdown; the caption below it is shown verbatim, whatever it contains."""
    # CommonMark takes any escaped ASCII punctuation literally; a line break could end the paragraph.
    text = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(caption.split()))
    return f"![Map of the world](data:image/png;base64,{base64.b64encode(png).decode()})\n\n{text}"


def _boxes(footprints: Geometries) -> NDArray[np.float64]:
    """West, south, east, north of each part; west and east in degrees east of the cut, from 0 to 360."""
    west, south, east, north = shapely.bounds(shapely.get_parts(footprints)).T
    start = (west - CUT) % _TURN
    end = start + east - west
    cut = end > _TURN
    beyond = np.column_stack([np.zeros_like(start), south, end - _TURN, north])[cut]
    return np.concatenate([np.column_stack([start, south, np.minimum(end, _TURN), north]), beyond])


def _counted(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many boxes touch each dot's cell, shape (_ROWS, _COLUMNS)."""
    west, south, east, north = boxes.T
    top, bottom = (
        np.clip((np.interp(-lat, -_LATITUDES, _HEIGHTS) - _TOP) // _ROW, 0, _ROWS - 1).astype(np.int64)
        for lat in (north, south)
    )
    height = bottom - top + 1
    box = np.repeat(np.arange(len(boxes)), height)
    row = top[box] + np.arange(len(box)) - np.repeat(np.cumsum(height) - height, height)
    changes = np.zeros((_ROWS, _COLUMNS + 1), dtype=np.int64)
    np.add.at(changes, (row, _column(row, west[box])), 1)
    np.add.at(changes, (row, _column(row, east[box]) + 1), -1)
    counts: NDArray[np.int64] = changes.cumsum(axis=1)[:, :-1]
    return counts


def _column(row: NDArray[np.int64], east_of_cut: NDArray[np.float64]) -> NDArray[np.int64]:
    """The column of the cell at a longitude, in a row of cells."""
    start = _ROW_STARTS[row]
    x = start + (WIDTH - 2 * start) * east_of_cut / _TURN
    column: NDArray[np.int64] = (x / _STEP + row % 2 / 2).astype(np.int64)
    return column


def _heat(counts: NDArray[np.int64]) -> Image.Image:
    """The dots and the glow around them."""
    rows, columns = np.nonzero(counts)
    many = np.minimum(np.log(counts[rows, columns]) / np.log(_MOST), 1.0)
    x = (columns + 0.5 - rows % 2 / 2) * _STEP
    x = np.clip(x, _ROW_STARTS[rows] + _STEP / 2, WIDTH - _ROW_STARTS[rows] - _STEP / 2)
    dots, glow = _canvas(), _canvas()
    on_dots, on_glow = ImageDraw.Draw(dots), ImageDraw.Draw(glow)
    for each in np.argsort(many, kind="stable"):  # brighter dots on top
        at, share = (float(x[each] * _FINE), float(_ROW_CENTRES[rows[each]] * _FINE)), float(many[each])
        on_dots.circle(at, _FINE * (1.9 + 1.2 * share), fill=round(140 + 115 * share))
        on_glow.circle(at, _FINE * (2.8 + 5.0 * share), fill=round(60 + 60 * share))
    return ImageChops.lighter(dots.reduce(_FINE), glow.reduce(_FINE).filter(ImageFilter.GaussianBlur(3)))


def _backdrop() -> Image.Image:
    """The world without images, in tones."""
    shores = [_fine_path(outline) for outline in LAND.values()]
    land = _canvas()
    on_land = ImageDraw.Draw(land)
    for shore in shores:
        on_land.polygon(shore, fill=255)
    for outline in WATER.values():
        on_land.polygon(_fine_path(outline), fill=0)
    tones = _canvas(_SEA)
    on_tones = ImageDraw.Draw(tones)
    on_tones.line(_fine_path(_WORLD), fill=_EDGE, width=6)
    for line in _graticule():
        on_tones.line(_fine_path(line), fill=_GRATICULE, width=3)
    tones.paste(_LAND, mask=land)
    for shore in shores:
        on_tones.line(shore, fill=_COAST, width=2)
    return tones.reduce(_FINE)


def _graticule() -> list[shapely.LineString]:
    meridians = [shapely.LineString([(lon, -90), (lon, 90)]) for lon in range(-150, 181, 30)]
    parallels = [shapely.LineString([(CUT, lat), (CUT + _TURN, lat)]) for lat in range(-60, 61, 30)]
    return meridians + parallels


def _world() -> Image.Image:
    """A mask of the world, without the background around it."""
    mask = _canvas()
    ImageDraw.Draw(mask).polygon(_fine_path(_WORLD), fill=255)
    return mask.reduce(_FINE)


def _canvas(tone: int = 0) -> Image.Image:
    return Image.new("L", (WIDTH * _FINE, HEIGHT * _FINE), tone)


def _fine_path(line: shapely.Geometry) -> list[tuple[float, float]]:
    """A line or an outline on a canvas; long edges are subdivided to follow the projection."""
    points = shapely.get_coordinates(shapely.segmentize(line, 3.0))
    return [(x, y) for x, y in (project(points) * _FINE).tolist()]


def _coloured(tones: Image.Image, heat: Image.Image, world: Image.Image) -> bytes:
    """The layers as one PNG with a palette."""
    tone, warmth, alpha = (
        np.rint(np.asarray(image) / 255.0 * (levels - 1)).astype(np.uint8)
        for image, levels in ((tones, _TONES), (heat, _HEATS), (world, _ALPHAS))
    )
    edge = _TONES * _HEATS
    index = np.where(alpha == _ALPHAS - 1, warmth * _TONES + tone, edge + alpha).astype(np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(_palette())
    opacity = [255] * edge + [round(255 * level / (_ALPHAS - 1)) for level in range(_ALPHAS)]
    png = BytesIO()
    picture.save(png, "PNG", optimize=True, transparency=bytes(opacity))
    return png.getvalue()


def _palette() -> list[int]:
    """The colours for each heat and tone (tones vary fastest), then those for the world's edge."""
    heat = np.linspace(0.0, 1.0, _HEATS)
    blues, embers = _ramp(_BLUES, _TONES), _ramp(_EMBERS, _HEATS)
    glow = (np.minimum(heat / 0.5, 1.0) ** 1.5)[:, None, None]
    colours = (1.0 - glow) * blues[None, :, :] + glow * embers[:, None, :]
    edge = np.tile(blues[_TONES // 3], (_ALPHAS, 1))
    palette: list[int] = np.rint(np.concatenate([colours.reshape(-1, 3), edge])).astype(int).ravel().tolist()
    return palette


def _ramp(stops: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    at = np.linspace(0.0, len(stops) - 1.0, steps)
    return np.column_stack([np.interp(at, np.arange(len(stops)), channel) for channel in stops.T])

"""How footprints become tiles: the plan, tippecanoe's arguments, the archive's metadata.

The same plan and the same footprints always give the same bytes, so nothing here depends on time or paths.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import shapely

EXTENT: Final = 4096
"""Units along a vector tile's edge; tippecanoe's default detail of 12 bits."""

BUFFER: Final = 5 / 256
"""How far tippecanoe draws beyond a tile's edge, in tiles: its default buffer of 5 "screen pixels"."""

MITRE: Final = 5.0
"""Mitre limit of widening: how many times the distance by which a footprint is widened its tips may reach."""

PIXELS: Final = 256
"""Pixels along a tile's edge; low zooms are true to a pixel."""

PIXEL: Final = EXTENT // PIXELS
"""Edge of a pixel, tile units."""

RECIPE: Final = 7
"""Incremented whenever the same footprints give different tiles for a reason that no argument of tippecanoe
shows: `core.low_zooms` or `core.deep_zooms` draws differently, or GeoJSON or a property is written
differently. Nothing is taken over then."""

WHOLE_FROM: Final = 9
"""The zoom from which every image is drawn as itself; before it, those smaller than a pixel are counted."""

ATTRIBUTION: Final = '<a href="https://openaerialmap.org">OpenAerialMap</a> contributors'
"""HTML that a map shows in its corner."""

EXACT_FROM: Final = 13
"""The zoom from which outlines are not simplified, as a tile unit is 1.2 m or less there. `core.deep_zooms`
cuts them, in half the time that tippecanoe needs for so many tiles of few corners each."""

DEEPEST: Final = 18
"""The largest zoom offered: a tile unit is 4 cm there, finer than any image is georeferenced."""

SHALLOWEST: Final = 8
"""The smallest `zoom_max`: every image is drawn there, and at lower zooms a tile would hold too many."""


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Property:
    """One property of the features that are images.

    Attributes:
        column: the footprints' column that it is made from.
        kind: `String` or `Number`, as in `vector_layers`.
        write: makes it from the column's value; returns None to leave it out.
    """

    column: str
    kind: str = "String"
    write: Callable[[Any], Any] = _as_it_is


@dataclass(frozen=True, slots=True, kw_only=True)
class TilingPlan:
    """What the archive should contain.

    Attributes:
        layer: name of the only layer.
        name: the archive's name, shown by readers.
        description: a sentence for readers.
        attribution: HTML that a map shows in its corner.
        zoom_min: first zoom.
        zoom_max: last zoom.
        whole: the zoom from which every image is drawn as itself.
        exact: the zoom from which outlines are not simplified; at least 10.
        properties: properties of the features, by name; the first one names the image.
    """

    layer: str = "globalcoverage"
    name: str = "OpenAerialMap global mosaic"
    description: str = "Where OpenAerialMap holds openly licensed imagery: the footprint of every image."
    attribution: str = ATTRIBUTION
    zoom_min: int = 0
    zoom_max: int = 15
    whole: int = WHOLE_FROM
    exact: int = EXACT_FROM
    properties: Mapping[str, Property] = field(default_factory=lambda: {"id": Property("id")})

    def arguments(self, *, source: str, target: str, temporary: str) -> list[str]:
        """Tippecanoe's command line, without its own name, for the zooms that it simplifies.

        Args:
            source: newline-delimited GeoJSON, in drawing order.
            target: where the tiles go; ends in `.mbtiles`.
            temporary: a folder for its intermediate files.
        """
        return [
            f"--output={target}",
            f"--temporary-directory={temporary}",
            f"--layer={self.layer}",
            f"--minimum-zoom={self.simplified_zooms.start}",
            f"--maximum-zoom={self.simplified_zooms.stop - 1}",
            # in a vector tile the last feature is on top; without this, tippecanoe chooses the order
            "--preserve-input-order",
            # every image is drawn at every zoom, however small and however many there are
            "--no-tiny-polygon-reduction",
            "--no-feature-limit",
            "--no-tile-size-limit",
            # without deep zooms, the last zoom is left unsimplified here
            *(() if self.deep_zooms else ("--simplify-only-low-zooms",)),
            "--json-progress",
            "--progress-interval=0.5",
            source,
        ]

    @property
    def whole_from(self) -> int:
        """The first zoom at which all images are drawn as themselves; `core.low_zooms` makes those before."""
        return max(self.zoom_min, min(self.whole, self.zoom_max))

    @property
    def simplified_zooms(self) -> range:
        """The zooms that tippecanoe makes."""
        return range(self.whole_from, min(self.zoom_max + 1, self.exact))

    @property
    def deep_zooms(self) -> range:
        """The zooms that `core.deep_zooms` makes."""
        return range(max(self.whole_from, self.exact), self.zoom_max + 1)

    @property
    def fields(self) -> dict[str, str]:
        """The kind of each property, by name."""
        return {name: each.kind for name, each in self.properties.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the footprints that the properties are made from, without duplicates."""
        return tuple(dict.fromkeys(each.column for each in self.properties.values()))

    def properties_of(self, row: Mapping[str, Any]) -> dict[str, str | int | float]:
        """The properties of an image that are known.

        Args:
            row: a row of the footprints, with `columns`.
        """
        stated = (
            (name, each.write(row[each.column]))
            for name, each in self.properties.items()
            if row[each.column] is not None
        )
        return {name: value for name, value in stated if value is not None}

    @property
    def thinnest(self) -> float:
        """Two tile units at `zoom_max`, in degrees: what is narrower may be rounded away."""
        return self.thinnest_at(self.zoom_max)

    @staticmethod
    def thinnest_at(zoom: int) -> float:
        """Two tile units at a zoom, in degrees."""
        return 2.0 * 360.0 / (float(EXTENT) * (1 << zoom))

    def digest(self, version: str) -> str:
        """Digest of the plan and the versions that draw it, 12 hex digits; if it differs, so do the tiles."""
        arguments = self.arguments(source="", target="", temporary="")
        # `RECIPE` accounts for how a property is written
        properties = [(name, each.column, each.kind) for name, each in self.properties.items()]
        stated = {**asdict(self), "properties": properties}
        libraries = [shapely.geos_version_string, zlib.ZLIB_RUNTIME_VERSION]
        recipe = [version, libraries, RECIPE, stated, arguments]
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]

    def metadata(self, version: str, snapshot: str) -> dict[str, Any]:
        """The archive's metadata.

        Args:
            version: tippecanoe's version.
            snapshot: the digest of the snapshot that was drawn.
        """
        return {
            "name": self.name,
            "description": self.description,
            "attribution": self.attribution,
            "type": "overlay",
            "format": "pbf",
            "version": "2",
            "generator": f"oam-mosaic-assets with tippecanoe {version}",
            "snapshot": snapshot,
            "vector_layers": self.vector_layers(),
        }

    def vector_layers(self) -> list[dict[str, Any]]:
        """The list of layers and their fields, as both TileJSON and PMTiles expect it."""
        counted = {"count": "Number"} if self.zoom_min < self.whole_from else {}
        return [
            {
                "id": self.layer,
                "description": "Footprints of images, the newest on top",
                "minzoom": self.zoom_min,
                "maxzoom": self.zoom_max,
                "fields": {**self.fields, **counted},
            }
        ]

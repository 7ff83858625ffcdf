"""How footprints become tiles: the plan, what it asks of tippecanoe, what the archive says of itself.

The same plan and the same footprints always give the same bytes, so nothing here knows the time or a path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

EXTENT: Final = 4096
"""Units along a vector tile's edge; tippecanoe's default detail of 12 bits."""

BUFFER: Final = 5 / 256
"""How far tippecanoe draws beyond a tile's edge, in tiles: its default buffer of 5 "screen pixels"."""

DEEPEST: Final = 18
"""The largest zoom offered: a tile unit is 4 cm there, finer than any image is placed."""

SHALLOWEST: Final = 8
"""The smallest `zoom_max`: above it tippecanoe merges small footprints, so that not every image is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TilingPlan:
    """What the archive is to hold.

    Attributes:
        layer: the one layer's name.
        name: the archive's name, shown by readers.
        description: a sentence for readers.
        attribution: HTML that a map shows in its corner.
        zoom_min: first zoom.
        zoom_max: last zoom; every footprint is drawn there.
        fields: the features' properties, `String` or `Number` each; the first one names the image.
        more: further options of tippecanoe's.
    """

    layer: str = "globalcoverage"
    name: str = "OpenAerialMap global mosaic"
    description: str = "Where OpenAerialMap holds openly licensed imagery: the footprint of every image."
    attribution: str = '<a href="https://openaerialmap.org">OpenAerialMap</a> contributors'
    zoom_min: int = 0
    zoom_max: int = 15
    fields: Mapping[str, str] = field(default_factory=lambda: {"id": "String"})
    more: tuple[str, ...] = ()

    def arguments(self, *, source: str, target: str, temporary: str) -> list[str]:
        """What tippecanoe is called with, after its own name.

        Args:
            source: newline-delimited GeoJSON, in drawing order.
            target: where the tiles go; ends in `.mbtiles`.
            temporary: a folder for its intermediate files.
        """
        return [
            f"--output={target}",
            f"--temporary-directory={temporary}",
            f"--layer={self.layer}",
            f"--name={self.name}",
            f"--description={self.description}",
            f"--attribution={self.attribution}",
            f"--minimum-zoom={self.zoom_min}",
            f"--maximum-zoom={self.zoom_max}",
            # in a vector tile the last feature lies on top; without this the order is tippecanoe's own
            "--preserve-input-order",
            # keeps the tiles of low zooms loadable; at the last zoom the audit finds out if it ever strikes
            "--drop-densest-as-needed",
            # at the last zoom every image is drawn, however small, and exactly where it lies
            "--no-tiny-polygon-reduction-at-maximum-zoom",
            "--simplify-only-low-zooms",
            "--json-progress",
            "--progress-interval=0.5",
            *self.more,
            source,
        ]

    @property
    def thinnest(self) -> float:
        """Degrees that are two units of the tile grid at `zoom_max`: what is narrower may be rounded away."""
        return 2.0 * 360.0 / (float(EXTENT) * (1 << self.zoom_max))

    def digest(self, version: str) -> str:
        """Of the plan and tippecanoe's version, 12 hex digits: another one means other tiles."""
        recipe = [version, asdict(self), self.arguments(source="", target="", temporary="")]
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]

    def metadata(self, made: Mapping[str, Any], snapshot: str) -> dict[str, Any]:
        """What the archive says of itself.

        Tippecanoe's own metadata holds its command line with the paths of the machine, and a list of ids.

        Args:
            made: the metadata that tippecanoe wrote.
            snapshot: the digest of the snapshot that was drawn.
        """
        return {
            "name": self.name,
            "description": self.description,
            "attribution": self.attribution,
            "type": "overlay",
            "format": "pbf",
            "version": "2",
            "generator": made.get("generator", "tippecanoe"),
            "antimeridian_adjusted_bounds": made.get("antimeridian_adjusted_bounds", ""),
            "snapshot": snapshot,
            "vector_layers": self.vector_layers(),
        }

    def vector_layers(self) -> list[dict[str, Any]]:
        """The list of layers and their fields, as TileJSON and PMTiles both want it."""
        return [
            {
                "id": self.layer,
                "description": "Footprints of images, the newest on top",
                "minzoom": self.zoom_min,
                "maxzoom": self.zoom_max,
                "fields": dict(self.fields),
            }
        ]

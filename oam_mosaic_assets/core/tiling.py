"""How footprints become tiles: the plan, what it asks of tippecanoe, what the archive says of itself.

The same plan and the same footprints always give the same bytes, so nothing here knows the time or a path.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

EXTENT: Final = 4096
"""Units along a vector tile's edge; tippecanoe's default detail of 12 bits."""

BUFFER: Final = 5 / 256
"""How far tippecanoe draws beyond a tile's edge, in tiles: its default buffer of 5 "screen pixels"."""

WHOLE_FROM: Final = 9
"""The zoom from which every image is drawn as itself, and nothing is left out: so its tiles are local."""

RECIPE: Final = 2
"""Raised when the same footprints are to give other tiles for a reason that no argument shows."""

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
    """

    layer: str = "globalcoverage"
    name: str = "OpenAerialMap global mosaic"
    description: str = "Where OpenAerialMap holds openly licensed imagery: the footprint of every image."
    attribution: str = '<a href="https://openaerialmap.org">OpenAerialMap</a> contributors'
    zoom_min: int = 0
    zoom_max: int = 15

    def arguments(self, *, source: str, target: str, temporary: str) -> list[str]:
        """What tippecanoe is called with for the zooms from `whole_from` on, after its own name.

        No image is left out, so each tile depends on nothing but the images that reach it.

        Args:
            source: newline-delimited GeoJSON, in drawing order.
            target: where the tiles go; ends in `.mbtiles`.
            temporary: a folder for its intermediate files.
        """
        return [
            *self._common(target, temporary, self.whole_from, self.zoom_max),
            # every image is drawn at every zoom, however small and however many there are
            "--no-tiny-polygon-reduction",
            "--no-feature-limit",
            "--no-tile-size-limit",
            # at the last zoom exactly where it lies
            "--simplify-only-low-zooms",
            source,
        ]

    def low_arguments(self, *, source: str, target: str, temporary: str) -> list[str]:
        """The same for the zooms before `whole_from`, which are made of all images at once."""
        return [
            *self._common(target, temporary, self.zoom_min, self.whole_from - 1),
            # keeps the tiles of low zooms loadable
            "--drop-densest-as-needed",
            source,
        ]

    def _common(self, target: str, temporary: str, zoom_min: int, zoom_max: int) -> list[str]:
        return [
            f"--output={target}",
            f"--temporary-directory={temporary}",
            f"--layer={self.layer}",
            f"--minimum-zoom={zoom_min}",
            f"--maximum-zoom={zoom_max}",
            # in a vector tile the last feature lies on top; without this the order is tippecanoe's own
            "--preserve-input-order",
            "--json-progress",
            "--progress-interval=0.5",
        ]

    @property
    def whole_from(self) -> int:
        """The first zoom that holds every image as itself."""
        return max(self.zoom_min, min(WHOLE_FROM, self.zoom_max))

    @property
    def thinnest(self) -> float:
        """Degrees that are two units of the tile grid at `zoom_max`: what is narrower may be rounded away."""
        return 2.0 * 360.0 / (float(EXTENT) * (1 << self.zoom_max))

    def digest(self, version: str) -> str:
        """Of the plan and tippecanoe's version, 12 hex digits: another one means other tiles."""
        calls = [each(source="", target="", temporary="") for each in (self.low_arguments, self.arguments)]
        recipe = [RECIPE, version, asdict(self), calls]
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]

    def metadata(self, version: str, snapshot: str) -> dict[str, Any]:
        """What the archive says of itself.

        Args:
            version: tippecanoe's.
            snapshot: the digest of the snapshot that was drawn.
        """
        return {
            "name": self.name,
            "description": self.description,
            "attribution": self.attribution,
            "type": "overlay",
            "format": "pbf",
            "version": "2",
            "generator": f"tippecanoe {version}",
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
                "fields": {"id": "String"},
            }
        ]

"""The properties of images in the details archive: known values only, text as text, numbers as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from oam_mosaic_assets.core.footprint import is_web_address
from oam_mosaic_assets.core.tiling import Property, TilingPlan

DEEPEST: Final = 13
"""The last zoom; beyond it, readers overzoom its tiles."""

WHOLE_FROM: Final = 8
"""The zoom from which every image is drawn as itself, one before the mosaic's: readers begin here."""


def _moment(value: datetime) -> str:
    """ISO 8601, UTC, whole seconds: readers compare moments as text, so all have the same form."""
    return f"{value:%Y-%m-%dT%H:%M:%SZ}"


def _address(value: str) -> str | None:
    return value if is_web_address(value) else None


PROPERTIES: Final[Mapping[str, Property]] = {
    "_id": Property("id"),
    "title": Property("title"),
    "provider": Property("provider"),
    "platform": Property("platform"),
    "sensor": Property("sensor"),
    "license": Property("license"),
    "acquisition_end": Property("acquired_to", write=_moment),
    "thumbnail": Property("thumbnail", write=_address),
    "uuid": Property("asset", write=_address),
    "tms": Property("tms", write=_address),
    "asset_name": Property("asset_name"),
    "render_params": Property("render_params"),
    "gsd": Property("gsd", "Number"),
    "file_size": Property("file_size", "Number"),
}
"""The properties by name; `_id` is the image's id."""


def details_plan(zoom_max: int) -> TilingPlan:
    """The tiling plan of the details archive.

    Args:
        zoom_max: the last zoom of the mosaic; details go no deeper.
    """
    return TilingPlan(
        name="OpenAerialMap details",
        description="What is known of each image of OpenAerialMap: title, licence, dates, addresses.",
        zoom_max=min(DEEPEST, zoom_max),
        whole=WHOLE_FROM,
        properties=PROPERTIES,
    )

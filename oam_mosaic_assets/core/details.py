"""What the details archive says of each image: only what is known, text as text, numbers as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from oam_mosaic_assets.core.tiling import Property, TilingPlan

DEEPEST: Final = 13
"""The last zoom; readers draw from its tiles beyond."""

WHOLE_FROM: Final = 8
"""Where readers begin: a zoom before the mosaic draws every image as itself."""


def _moment(value: datetime) -> str:
    """ISO 8601, UTC, whole seconds: readers compare it as text, so all have one form."""
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if value.year > 999 else value.isoformat()  # noqa: PLR2004


def _address(value: str) -> str | None:
    """None of what a browser must not follow, such as `javascript:`, or cannot, such as `s3:`."""
    return value if value.lower().startswith(("https://", "http://")) else None


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
"""By name; `_id` names the image."""


def details_plan(zoom_max: int) -> TilingPlan:
    """How the details archive is tiled.

    Args:
        zoom_max: of the mosaic; details are no deeper.
    """
    return TilingPlan(
        name="OpenAerialMap details",
        description="What is known of each image of OpenAerialMap: title, licence, dates, addresses.",
        zoom_max=min(DEEPEST, zoom_max),
        whole=WHOLE_FROM,
        properties=PROPERTIES,
    )

"""What the details archive says of each image: only what is known, text as text, numbers as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from oam_mosaic_assets.core.tiling import TilingPlan

DEEPEST: Final = 13
"""The last zoom; readers draw from its tiles beyond."""


def _as_it_is(value: Any) -> Any:
    return value


def _moment(value: datetime) -> str:
    """ISO 8601, UTC, whole seconds: readers compare it as text, so all have one form."""
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if value.year > 999 else value.isoformat()  # noqa: PLR2004


def _address(value: str) -> str | None:
    """None of what a browser must not follow, such as `javascript:`, or cannot, such as `s3:`."""
    return value if value.lower().startswith(("https://", "http://")) else None


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a feature.

    Attributes:
        column: of the footprints.
        kind: `String` or `Number`, as in `vector_layers`.
        write: from the column's value.
    """

    column: str
    kind: str = "String"
    write: Callable[[Any], Any] = _as_it_is


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

COLUMNS: Final = tuple(each.column for each in PROPERTIES.values())


def details_of(row: Mapping[str, Any]) -> dict[str, str | int | float]:
    """The properties of an image: those that are known.

    Args:
        row: of the footprints, with `COLUMNS`.
    """
    stated = (
        (name, each.write(row[each.column]))
        for name, each in PROPERTIES.items()
        if row[each.column] is not None
    )
    return {name: value for name, value in stated if value is not None}


def details_plan(zoom_max: int) -> TilingPlan:
    """How the details archive is tiled.

    Args:
        zoom_max: of the mosaic; details are no deeper.
    """
    return TilingPlan(
        name="OpenAerialMap details",
        description="What is known of each image of OpenAerialMap: title, licence, dates, addresses.",
        zoom_max=min(DEEPEST, zoom_max),
        fields={name: each.kind for name, each in PROPERTIES.items()},
        # readers begin at z8, a zoom before the mosaic shows all; before it a share of the images is enough
        whole=8,
        thinned=True,
    )

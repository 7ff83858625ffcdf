"""Reading one row of JSON where anything may be wrong with it."""

from __future__ import annotations

import json
from typing import Any

from oam_mosaic_assets.gateways.catalogue.source import Unreadable

SHOWN_CHARACTERS = 200


def object_in(row: int, text: str) -> dict[str, Any] | Unreadable:
    """Parse a JSON object; what is none becomes the record of it.

    Args:
        row: where it stands in its source, counted from 1.
        text: what stands there.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, or nested without end
        found = None
    return found if isinstance(found, dict) else Unreadable(row, text[:SHOWN_CHARACTERS])

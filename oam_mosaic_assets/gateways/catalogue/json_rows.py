"""Reading one row of JSON that may be wrong in any way."""

from __future__ import annotations

import json
from typing import Any

from oam_mosaic_assets.gateways.catalogue.source import Unreadable

SHOWN_CHARACTERS = 200


def object_in(row: int, text: str) -> dict[str, Any] | Unreadable:
    """Parse a JSON object; anything else becomes an `Unreadable`.

    Args:
        row: its position in the source, counted from 1.
        text: the row's content.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, a number with thousands of digits, or nested too deeply
        found = None
    return found if isinstance(found, dict) else Unreadable(row, text[:SHOWN_CHARACTERS])

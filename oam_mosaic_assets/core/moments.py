"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def minute(moment: datetime | str) -> str:
    """A moment to the minute: `2026-01-15 03:00 UTC`.

    Args:
        moment: with its time zone; as text, ISO 8601.
    """
    stated = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{stated.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

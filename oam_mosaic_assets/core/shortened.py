"""Text from the catalogue as messages and tables may show it: on one line, printable, and not long."""

from __future__ import annotations

from typing import Final

FITTING: Final = 160
"""Characters that fit a table."""


def shortened(value: object, most: int = FITTING) -> str:
    """An offending value as text of at most so many characters; as in Python if it is not printable."""
    try:
        text = value if isinstance(value, str) and value.isprintable() else repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or more digits than Python converts
        text = "something that cannot be shown"
    return text if len(text) <= most else f"{text[: most - 1]}…"

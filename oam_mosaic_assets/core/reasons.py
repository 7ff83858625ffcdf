"""The reasons that people gave for one thing, one after the other, as one text. None is ever lost."""

from __future__ import annotations


def states(reasons: str, reason: str, *, between: str) -> bool:
    """Whether a reason is among others, of which two are joined by the text `between`."""
    # not split: a person's reason may contain the same words
    return f"{between}{reason}{between}" in f"{between}{reasons}{between}"


def added(reasons: str, reason: str, *, between: str) -> str:
    """The reasons with another one, unless it is among them already."""
    return reasons if states(reasons, reason, between=between) else f"{reasons}{between}{reason}"

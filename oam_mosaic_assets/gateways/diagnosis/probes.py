"""What the objects are called that an examination writes; which of them were left by one that was killed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from oam_mosaic_assets.gateways.object_store import ObjectStore

NAME: Final = "doctor-"

ABANDONED: Final = timedelta(hours=1)
"""What an examination left this long ago was left by one that was killed."""


def left_behind(store: ObjectStore, root: str, *, now: datetime) -> Iterator[str]:
    """The keys below a root, which ends in `NAME`, that nobody is at work with any more."""
    return (each.key for each in store.keys(root) if each.written_at < now - ABANDONED)

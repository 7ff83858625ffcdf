"""The names of the objects that an examination writes, and which of them a killed one left behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from oam_mosaic_assets.gateways.object_store import ObjectStore

NAME: Final = "doctor-"

ABANDONED: Final = timedelta(hours=1)
"""Objects older than this were left behind by an examination that was killed."""


def left_behind(store: ObjectStore, root: str, *, now: datetime) -> Iterator[str]:
    """The keys below a root, which ends in `NAME`, that no examination is using any more."""
    return (each.key for each in store.keys(root) if each.written_at < now - ABANDONED)

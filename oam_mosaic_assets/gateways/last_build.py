"""What the public build left in the store for the next one: its archive, and the footprints it shows."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from oam_mosaic_assets.core.artifact import sha256_of
from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.core.snapshot import snapshot_digest
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.releases import Releases


def last_build(releases: Releases, folder: Path, *, plan: str) -> Before | str:
    """Fetch the public build, where a new one can take over its tiles; else say why it cannot.

    Args:
        releases: of the store.
        folder: where the files go; one that this process put there before is not fetched again.
        plan: the digest of the tiling plan and program of the new build.

    Raises:
        StoreUnavailable, StoreRefused, DiskFull: see `errors`.
    """
    found = releases.current()
    if found is None:
        return "nothing is public yet"
    pointer = found[0]
    if _plan_of(releases, pointer) != plan:
        return f"{pointer.build} was made by another plan, or another tippecanoe"
    before = Before(
        build=pointer.build,
        archive=folder / f"{pointer.build}.pmtiles",
        footprints=folder / f"{pointer.build}.footprints.parquet",
    )
    set_aside = folder / f"{pointer.build}.set_aside.parquet"
    for key, path in (
        (releases.keys.footprints(pointer.build), before.footprints),
        (releases.keys.set_aside(pointer.build), set_aside),
        (pointer.archive, before.archive),
    ):
        if not path.exists() and releases.store.get_file(key, path) is None:
            return f"{key} is not in {releases.store.origin}"
    return _contradiction(pointer, before, set_aside) or before


def _contradiction(pointer: Pointer, before: Before, set_aside: Path) -> str:
    """What is not as the pointer says; empty where all is."""
    try:
        if snapshot_digest(before.footprints, set_aside) != pointer.digest:
            return f"the footprints that were kept of {pointer.build} are not those that it shows"
    except pl.exceptions.PolarsError:
        return f"the footprints that were kept of {pointer.build} cannot be read"
    return (
        "" if sha256_of(before.archive) == pointer.sha256 else f"{pointer.archive} is not what was published"
    )


def _plan_of(releases: Releases, pointer: Pointer) -> str | None:
    """The digest of the plan that a public build was made by, as its manifest says."""
    found = releases.store.get_bytes(pointer.manifest)
    try:
        return str(json.loads(found[0])["archive"]["plan"]) if found else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None

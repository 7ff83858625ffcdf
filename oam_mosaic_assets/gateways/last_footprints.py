"""The footprints of the public build, as it left them in the store for the next one to be compared with."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.core.snapshot import snapshot_digest
from oam_mosaic_assets.gateways.releases import Releases


def last_footprints(releases: Releases, pointer: Pointer, folder: Path) -> Path | str:
    """Fetch the footprints of a published build; else say why there are none to be compared with.

    Args:
        releases: of the store.
        pointer: to the build.
        folder: where they go; what this process put there before is not fetched again.

    Raises:
        StoreUnavailable, StoreRefused, DiskFull: see `errors`.
    """
    build = pointer.build
    footprints, set_aside = folder / f"{build}.footprints.parquet", folder / f"{build}.set_aside.parquet"
    for key, path in (
        (releases.keys.footprints(build), footprints),
        (releases.keys.set_aside(build), set_aside),
    ):
        if not path.exists() and releases.store.get_file(key, path) is None:
            return f"{key} is not in {releases.store.origin}"
    try:
        is_shown = snapshot_digest(footprints, set_aside) == pointer.digest
    except pl.exceptions.PolarsError:
        return f"the footprints that were kept of {build} cannot be read"
    return footprints if is_shown else f"the footprints that were kept of {build} are not those that it shows"

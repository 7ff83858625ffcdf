"""The current catalogue compared with what is public: by ids if that is cheap, otherwise by counts."""

from __future__ import annotations

from pathlib import Path

from oam_mosaic_assets.core.freshness import Comparison, compare_counts
from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.gateways.catalogue.source import Catalogue
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.scratch_folder import folder_in_use


def compare(
    catalogue: Catalogue, releases: Releases, pointer: Pointer, *, scratch: Path
) -> Comparison | None:
    """What the public mosaic lacks, and what has left the catalogue since; None if that is unknown.

    Args:
        scratch: `MOSAIC_SCRATCH`, for copies of the footprints and of what was set aside.

    Raises:
        CatalogueUnavailable, CatalogueRefused, StoreUnavailable, StoreRefused: see `errors`.
        SettingsError: the scratch folder cannot be used.
    """
    ids = catalogue.ids()
    if ids is None:
        return _counts(catalogue, pointer, why="this source cannot list ids cheaply")
    from oam_mosaic_assets.core.comparison import compare_ids, known_ids  # noqa: PLC0415  # polars is slow

    store, keys = releases.store, releases.keys
    with folder_in_use(scratch) as folder:
        footprints, set_aside = folder / "footprints.parquet", folder / "set_aside.parquet"
        if (
            store.get_file(keys.footprints(pointer.build), footprints) is None
            or store.get_file(keys.set_aside(pointer.build), set_aside) is None
        ):
            return _counts(catalogue, pointer, why="the ids of this build were not kept")
        known = known_ids(footprints, set_aside)
    return compare_ids(ids, known, taken_down=releases.takedowns.ids())


def _counts(catalogue: Catalogue, pointer: Pointer, *, why: str) -> Comparison | None:
    catalogued = catalogue.count()
    return None if catalogued is None else compare_counts(catalogued, pointer, why=why)

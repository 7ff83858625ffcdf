"""The current catalogue compared with what is public: by ids if that is cheap, otherwise by counts."""

from __future__ import annotations

from pathlib import Path

from oam_mosaic_assets.core.freshness import Comparison, compare_counts
from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.errors import DiskFull
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
    known = _kept_ids(releases, pointer.build, scratch)
    if isinstance(known, str):
        return _counts(catalogue, pointer, why=known)
    from oam_mosaic_assets.core.comparison import compare_ids  # noqa: PLC0415  # polars is slow

    return compare_ids(ids, known, taken_down=releases.takedowns.ids())


def _kept_ids(releases: Releases, build: str, scratch: Path) -> set[str] | str:
    """The ids that a build accounts for; otherwise say why they are unknown."""
    from polars.exceptions import PanicException, PolarsError  # noqa: PLC0415  # polars is slow

    from oam_mosaic_assets.core.comparison import known_ids  # noqa: PLC0415

    store, keys = releases.store, releases.keys
    try:
        with folder_in_use(scratch) as folder:
            footprints, set_aside = folder / "footprints.parquet", folder / "set_aside.parquet"
            if (
                store.get_file(keys.footprints(build), footprints) is None
                or store.get_file(keys.set_aside(build), set_aside) is None
            ):
                return "the ids of this build were not kept"
            return known_ids(footprints, set_aside)
    except (PolarsError, PanicException):  # damaged
        return "the kept ids cannot be read"
    except DiskFull as error:
        return error.message
    except OSError as fault:  # it may pass, unlike those of a folder that cannot be used at all
        return f"a folder in {scratch} cannot be used: {fault.strerror}"


def _counts(catalogue: Catalogue, pointer: Pointer, *, why: str) -> Comparison | None:
    catalogued = catalogue.count()
    return None if catalogued is None else compare_counts(catalogued, pointer, why=why)

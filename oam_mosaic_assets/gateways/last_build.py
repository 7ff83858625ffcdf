"""What the public build left in the store for the next one: its products, and the footprints they show."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from oam_mosaic_assets.core.artifact import sha256_of
from oam_mosaic_assets.core.density_tables import DensityTables
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.release import MANIFEST, Pointer
from oam_mosaic_assets.core.snapshot import snapshot_digest
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.releases import Releases

BEFORE: Final = "before"
"""The folder in scratch that holds the public build while a new one is made and audited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTables:
    """What a build was made from.

    Attributes:
        footprints: the GeoParquet of what it shows.
        set_aside: the table of what could not be drawn.
    """

    footprints: Path
    set_aside: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDensity:
    """The density tables of a build.

    Attributes:
        build: its name.
        taken_at: the moment of its snapshot, UTC.
        footprints: the GeoParquet that was counted.
        tables: what was counted.
    """

    build: str
    taken_at: datetime
    footprints: Path
    tables: DensityTables


def last_build(releases: Releases, folder: Path, product: Product, *, plan: str) -> Before | str:
    """Fetch a product of the public build if a new one can take over its tiles; otherwise say why not.

    Args:
        releases: of the store.
        folder: where the files go; one that is already there is not fetched again.
        product: the product.
        plan: the digest of the plan and program of the new build's product.

    Raises:
        StoreUnavailable, StoreRefused, DiskFull: see `errors`.
    """
    found = releases.current()
    if found is None:
        return "nothing is public yet"
    pointer = found[0]
    stated = _made_alike(releases, product, pointer.build, plan)
    if isinstance(stated, str):
        return stated
    tables = kept_tables(releases, pointer, folder)
    if isinstance(tables, str):
        return tables
    archive = _archive(releases, folder, product, pointer.build, stated)
    if isinstance(archive, str):
        return archive
    return Before(build=pointer.build, archive=archive, footprints=tables.footprints)


def kept_archive(releases: Releases, folder: Path, product: Product, build: str, *, plan: str) -> Path | str:
    """Fetch a product of a build that is or was public, if it was made by this plan; otherwise say why not.

    Args: as for `last_build`; raises as it does.
    """
    stated = _made_alike(releases, product, build, plan)
    return stated if isinstance(stated, str) else _archive(releases, folder, product, build, stated)


def _made_alike(releases: Releases, product: Product, build: str, plan: str) -> Mapping[str, Any] | str:
    """What the manifest says of a product that was made by this plan; otherwise say that it was not."""
    stated = _stated(_manifest(releases, build), "products", product.name)
    if _stated(stated, "plan") == plan:
        found: Mapping[str, Any] = stated
        return found
    return f"{product.name} of {build} was made by a different plan or a different version, or is gone"


def _archive(
    releases: Releases, folder: Path, product: Product, build: str, stated: Mapping[str, Any]
) -> Path | str:
    key, archive = releases.keys.release(build, product.name), folder / f"{build}.{product.name}"
    is_right = partial(_is, _stated(stated, "sha256"))
    return _fetched(releases, key, archive, is_right=is_right) or archive


def kept_tables(releases: Releases, pointer: Pointer, folder: Path) -> KeptTables | str:
    """Fetch what the public build was made from; otherwise say what is missing, or not what was kept.

    Args:
        releases: of the store.
        pointer: what is public.
        folder: see `last_build`.

    Raises:
        StoreUnavailable, StoreRefused, DiskFull: see `errors`.
    """
    keys, build = releases.keys, pointer.build
    tables = KeptTables(
        footprints=folder / f"{build}.footprints.parquet", set_aside=folder / f"{build}.set_aside.parquet"
    )
    if tables.footprints.exists():  # fetched last
        return tables
    digests = _stated(_manifest(releases, build), "tables", "sha256")

    def is_kept(name: str, path: Path) -> bool:
        if digests is not None:
            return _is(_stated(digests, name), path)
        # a build of a version whose manifests do not state them
        return name == "set_aside" or _shows(pointer.digest, path, tables.set_aside)

    return (
        _fetched(releases, keys.set_aside(build), tables.set_aside, is_right=partial(is_kept, "set_aside"))
        or _fetched(
            releases, keys.footprints(build), tables.footprints, is_right=partial(is_kept, "footprints")
        )
        or tables
    )


def _shows(digest: str, footprints: Path, set_aside: Path) -> bool:
    """Whether the rows say that they are those of a snapshot; what else is in the files is not compared."""
    try:
        return snapshot_digest(footprints, set_aside) == digest
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # damaged
        return False


def _fetched(releases: Releases, key: str, path: Path, *, is_right: Callable[[Path], bool]) -> str:
    """Fetch an object, if it is what it should be; otherwise say why not. A file that is there is trusted."""
    if path.exists():
        return ""
    incoming = path.with_name(f"{path.name}.incoming")
    if releases.store.get_file(key, incoming) is None:
        return f"{key} is not in {releases.store.origin}"
    if not is_right(incoming):
        incoming.unlink()
        return f"{key} is not what was stored there"
    incoming.rename(path)
    return ""


def kept_density(releases: Releases, folder: Path, *, recipe: str) -> KeptDensity | str:
    """Fetch the density tables of the public build if a new one can take them over; otherwise say why not.

    Args:
        releases: of the store.
        folder: see `last_build`.
        recipe: the digest of how the new build's tables are made.

    Raises:
        StoreUnavailable, StoreRefused, DiskFull: see `errors`.
    """
    found = releases.current()
    if found is None:
        return "nothing is public yet"
    pointer = found[0]
    manifest = _manifest(releases, pointer.build)
    if _stated(manifest, "density", "recipe") != recipe:
        return f"the density tables of {pointer.build} were made by a different recipe, or were not kept"
    footprints = kept_tables(releases, pointer, folder)
    if isinstance(footprints, str):
        return footprints
    tables = DensityTables.within(folder, before=f"{pointer.build}.")
    for path in tables.files:
        name = path.stem.removeprefix(f"{pointer.build}.")
        digest = _stated(manifest, "density", "sha256", name)
        key = releases.keys.table(name, pointer.build)
        if lacking := _fetched(releases, key, path, is_right=partial(_is, digest)):
            return lacking
    return KeptDensity(
        build=pointer.build,
        taken_at=datetime.fromisoformat(pointer.snapshot_taken_at),
        footprints=footprints.footprints,
        tables=tables,
    )


def _is(digest: object, path: Path) -> bool:
    return bool(sha256_of(path) == digest)


def stated_of_imagery(releases: Releases, build: str) -> Mapping[str, Any]:
    """What a build's manifest says of its imagery, see `ImageryMosaic.joined`; empty if it says nothing."""
    return _stated(_manifest(releases, build), "imagery") or {}


def _manifest(releases: Releases, build: str) -> Any:
    """The manifest of a build that is or was public; None if it is gone or cannot be read."""
    found = releases.store.get_bytes(releases.keys.release(build, MANIFEST))
    try:
        return json.loads(found[0]) if found else None
    except (ValueError, RecursionError):
        return None


def _stated(manifest: Any, *path: str) -> Any:
    """The value at a path in a manifest; None if there is none."""
    try:
        for each in path:
            manifest = manifest[each]
    except (TypeError, KeyError):
        return None
    return manifest

"""What changed since the public build, staged: private until it has passed its audit."""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from oam_mosaic_assets.assets.staged import staged
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.catalog_changes import changes_of, named_in, unnamed_digest
from oam_mosaic_assets.core.product import CHANGES
from oam_mosaic_assets.core.release import Pointer, as_json
from oam_mosaic_assets.gateways.last_build import BEFORE, kept_tables
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged

IMAGES_BEFORE = "images_before.parquet"
"""Ids and digests of the previous build's images, and geometries of those that are named, for the audit.

Id and digest are null for an image that was taken down since: a takedown deletes builds that name it.
"""


@dg.asset(
    group_name="coverage",
    kinds={"json", "polars"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="2",
)
def catalog_changes(
    context: dg.AssetExecutionContext,
    stac_footprints: Artifact,
    releases: dg.ResourceParam[Releases],
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """Images added, changed and removed since the public build, with their extents, as JSON.

    Staged under its build's name and private until `published_mosaic` makes it public. Images that were
    taken down are not named.
    """
    clock, folder = time.perf_counter(), scratch.folder(CHANGES.asset)
    document, images_before = folder / CHANGES.name, folder / IMAGES_BEFORE
    with failing_clearly():
        current = releases.current()
        kept = kept_tables(releases, current[0], scratch.shared_folder(BEFORE)) if current else None
        if isinstance(kept, str):
            context.log.warning("not compared with the public build: %s", kept)
            kept = None
        before = kept.footprints if kept else None
        stated = _stated(stac_footprints, current[0] if current and before else None)
        taken_down = releases.takedowns.ids()
        changes = changes_of(before, stac_footprints.path, taken_down=taken_down, stated=stated)
        document.write_bytes(as_json(changes))
        hidden = taken_down - _ids_in(stac_footprints.path, taken_down)
        _note_images(before, images_before, named=named_in(document), hidden=hidden)
    return staged(
        stac_footprints,
        CHANGES,
        document,
        images_before,
        clock=clock,
        since=stated["since"],
        hidden=sorted(map(unnamed_digest, hidden)),
        metadata={
            **changes["counts"],
            "since": stated["since"]["build"] if stated["since"] else "no earlier build",
        },
    )


def _stated(footprints: Artifact, before: Pointer | None) -> dict[str, Any]:
    snapshot = footprints.facts["snapshot"]
    return {
        "build": footprints.build,
        "watermark": snapshot["digest"],
        "snapshot_taken_at": snapshot["taken_at"],
        "since": None
        if before is None
        else {
            "build": before.build,
            "watermark": before.digest,
            "snapshot_taken_at": before.snapshot_taken_at,
        },
    }


def _ids_in(footprints: Path, wanted: Collection[str]) -> frozenset[str]:
    """Those of the ids that belong to images drawn in this build."""
    some = pl.scan_parquet(footprints, glob=False).filter(pl.col("id").is_in(list(wanted)))
    return frozenset(some.select("id").collect(engine="streaming")["id"])


def _note_images(
    before: Path | None, target: Path, *, named: Collection[str], hidden: Collection[str]
) -> None:
    columns = {"id": pl.String(), "digest": pl.Binary(), "geometry": pl.Binary()}
    rows = pl.LazyFrame(schema=columns) if before is None else pl.scan_parquet(before, glob=False)
    is_known = ~pl.col("id").is_in(list(hidden))
    found = rows.select(
        pl.when(is_known).then("id"),
        pl.when(is_known).then("digest"),
        pl.when(pl.col("id").is_in(list(named))).then("geometry"),
    )
    found.sink_parquet(target, engine="streaming")

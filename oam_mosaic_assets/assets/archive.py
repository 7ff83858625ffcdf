"""What is told of an archive that a product is, however it was made."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.artifact import Artifact, sha256_of, with_facts
from oam_mosaic_assets.core.product import Product


def result_of(
    context: dg.AssetExecutionContext,
    source: Artifact,
    archive: Path,
    product: Product,
    *,
    taken_over: Mapping[str, Any],
    plan: str,
    versions: Mapping[str, str],
    clock: float,
) -> dg.MaterializeResult[Artifact]:
    """What the asset of a product returns.

    Args:
        context: of that asset.
        source: what the archive was made from.
        archive: the file.
        product: what it is.
        taken_over: `from` which build, or `why_anew`; how many `images_changed`, how many `tiles_made` and
            `tiles_reused`.
        plan: the digest of the plan that it was made by.
        versions: of the programs that made it.
        clock: `time.perf_counter()` when that began.
    """
    with open_archive(archive) as opened:
        tiles, size, bounds = opened.header["addressed_tiles_count"], opened.size, opened.bounds
        zooms = f"{opened.header['min_zoom']}-{opened.header['max_zoom']}"
    seconds, digest = time.perf_counter() - clock, sha256_of(archive)
    made, reused = taken_over["tiles_made"], taken_over["tiles_reused"]
    how = f"all made anew: {taken_over['why_anew']}"
    if taken_over["from"]:
        changed = f"{taken_over['images_changed']:,} images changed"
        how = f"{changed}, {made:,} tiles made, {reused:,} taken over from {taken_over['from']}"
    context.log.info("%s: %s tiles in %.1f MB, %s", source.build, f"{tiles:,}", size / 1e6, how)
    artifact = with_facts(
        source,
        archive,
        stage=product.asset,
        seconds=seconds,
        digests={archive.name: digest},
        product={"tiles": tiles, "bytes": size, "sha256": digest, "bounds": bounds},
        plan=plan,
        taken_over=taken_over,
        versions=versions,
    )
    return dg.MaterializeResult(
        value=artifact,
        metadata={
            "images": artifact.facts["images"],
            "tiles": tiles,
            "tiles made": made,
            "tiles reused": reused,
            "how": how,
            "zooms": zooms,
            **versions,
            "seconds": round(seconds, 2),
        },
        data_version=dg.DataVersion(digest[:16]),
    )

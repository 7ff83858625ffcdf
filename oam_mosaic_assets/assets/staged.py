"""What is recorded about a product that has been made and awaits its audit, however it was made."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.artifact import Artifact, sha256_of, with_facts
from oam_mosaic_assets.core.product import PMTILES, Product
from oam_mosaic_assets.core.sizes import size_in_words


def staged(
    source: Artifact,
    product: Product,
    *files: Path,
    clock: float,
    metadata: Mapping[str, Any],
    **facts: Any,
) -> dg.MaterializeResult[Artifact]:
    """The result of a product's asset.

    Args:
        source: what it was made from.
        product: which product it is.
        files: the product's file, then those that belong to it.
        clock: `time.perf_counter()` when work on it began.
        metadata: what the UI shows besides the seconds.
        facts: what is known about it besides size and digest.
    """
    seconds, digest = time.perf_counter() - clock, sha256_of(files[0])
    held: dict[str, Any] = {"bytes": files[0].stat().st_size, "sha256": digest}
    if product.content_type == PMTILES:
        with open_archive(files[0]) as opened:
            held |= {"tiles": opened.header["addressed_tiles_count"], "bounds": opened.bounds}
    return dg.MaterializeResult(
        value=with_facts(
            source,
            *files,
            stage=product.asset,
            seconds=seconds,
            digests={files[0].name: digest},
            product=held,
            **facts,
        ),
        metadata={**metadata, "seconds": round(seconds, 2)},
        data_version=dg.DataVersion(digest[:16]),
    )


def staged_archive(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    source: Artifact,
    archive: Path,
    product: Product,
    *,
    taken_over: Mapping[str, Any],
    plan: str,
    versions: Mapping[str, str],
    clock: float,
) -> dg.MaterializeResult[Artifact]:
    """The result of a product's asset that may take over tiles from the public build.

    Args:
        context: the context of the asset.
        source: what the archive was made from.
        archive: the file.
        product: which product it is.
        taken_over: the build that tiles came `from`, or `why_anew`; how many `images_changed`, `tiles_made`
            and `tiles_reused`.
        plan: the digest of the plan it was made by.
        versions: the versions of the programs that made it.
        clock: `time.perf_counter()` when work on it began.
    """
    with open_archive(archive) as opened:
        tiles, size = opened.header["addressed_tiles_count"], opened.size
        zooms = f"{opened.header['min_zoom']}-{opened.header['max_zoom']}"
    made, reused = taken_over["tiles_made"], taken_over["tiles_reused"]
    how = f"all made from scratch: {taken_over['why_anew']}"
    if taken_over["from"]:
        changed = f"images changed: {taken_over['images_changed']:,}"
        how = f"{changed}, {made:,} tiles made, {reused:,} taken over from {taken_over['from']}"
    context.log.info("%s: %s tiles in %s, %s", source.build, f"{tiles:,}", size_in_words(size), how)
    return staged(
        source,
        product,
        archive,
        clock=clock,
        metadata={
            "images": source.facts["images"],
            "tiles": tiles,
            "tiles made": made,
            "tiles reused": reused,
            "how": how,
            "zooms": zooms,
            **versions,
        },
        plan=plan,
        taken_over=taken_over,
        versions=versions,
    )

"""The archive of the images themselves, staged: private until it has passed its audit."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from oam_mosaic_assets.assets.stac_footprints import TAKEDOWN_TAG
from oam_mosaic_assets.assets.staged import staged
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.artifact import Artifact
from oam_mosaic_assets.core.imagery.blocks import Tile
from oam_mosaic_assets.core.imagery.outcome import WORDS, Reason
from oam_mosaic_assets.core.imagery.pace import Pace
from oam_mosaic_assets.core.imagery.state import Tally
from oam_mosaic_assets.core.product import IMAGERY
from oam_mosaic_assets.core.sizes import size_in_words
from oam_mosaic_assets.gateways.coverage import Shown
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets.gateways.imagery_mosaic import PARTITIONS, ByPartition, ImageryMosaic
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch
from oam_mosaic_assets.resources.staging import discard_staged

SHOWN = 50
"""How many skipped images the metadata lists; the report lists all of them."""


@dg.asset(
    group_name="coverage",
    kinds={"pmtiles"},
    owners=["team:openaerialmap"],
    hooks={discard_staged},
    code_version="1",
)
def global_imagery_pmtiles(
    context: dg.AssetExecutionContext,
    stac_footprints: Artifact,
    imagery: dg.ResourceParam[ImageryMosaic],
    progress: dg.ResourceParam[Progress],
    scratch: Scratch,
) -> dg.MaterializeResult[Artifact]:
    """What the images show, or grey where they lie: WEBP tiles, z0-14, remade where something changed.

    Blocks that `imagery_blocks` made on other machines are used as they are; missing ones are made here, as
    far as the budget goes. Staged under its build's name and private until `published_mosaic` makes it
    public.
    """
    clock = time.perf_counter()
    with failing_clearly():
        snapshot = stac_footprints.facts["snapshot"]
        with ByPartition(stac_footprints.path, scratch.folder("imagery_snapshot")) as images:
            is_takedown = TAKEDOWN_TAG in context.run.tags
            # blocks that show the image go at once; reading the others would keep it public meanwhile
            budget = Budget(bytes=0) if is_takedown else imagery.plan.budget()
            tiles = images.tiles()
            tally = bring_up_to_date(context, imagery, images, tiles, scratch, progress, budget=budget)
            imagery.report(tally, stac_footprints.build)
            # what a host that is down puts off is not tried again before the next day
            joined = imagery.joined(tiles, tally.left if budget.is_spent else 0)
            archive = scratch.folder(IMAGERY.asset) / IMAGERY.name
            imagery.write(
                archive,
                images,
                tiles,
                scratch.folder("imagery_partitions"),
                holding=tally.partitions,
                shown=Shown(stac_footprints.path, snapshot["digest"], tuple(snapshot["bounds"])),
            )
    with open_archive(archive) as opened:
        count = opened.header["addressed_tiles_count"]
    context.log.info("%s: %s", stac_footprints.build, in_words(tally, f"{count:,} tiles"))
    return staged(
        stac_footprints,
        IMAGERY,
        archive,
        clock=clock,
        metadata={"tiles": count, **told_of(tally), "by host": dg.MetadataValue.json(tally.hosts)},
        plan=imagery.plan.name,
        imagery={"kind": imagery.plan.kind, **_numbers(tally)},
        partitions=[each.partition for each in tiles],
        joined=joined,
    )


def bring_up_to_date(
    context: dg.AssetExecutionContext,
    imagery: ImageryMosaic,
    images: ByPartition,
    tiles: Sequence[Tile],
    scratch: Scratch,
    progress: Progress,
    *,
    budget: Budget,
) -> Tally:
    """Remake what changed in these partitions, and report progress and an estimate of the time left."""
    pace = Pace(time.monotonic)

    def told(done: int, of: int, so_far: Tally) -> None:
        unread = f", {len(so_far.skipped):,} images not readable" if so_far.skipped else ""
        text = f"{done:,} of {of:,} blocks{pace.left(done, of)}, {_cost(so_far)}{unread}"
        share = done / of if of else 1.0  # the last image of a partition may have left the catalogue
        progress.step(context.log, "imagery", share, text)

    return imagery.bring_up_to_date(images, tiles, scratch.folder, budget, on_progress=told)


def keep_partitions_of(staged: Artifact, imagery: ImageryMosaic, instance: dg.DagsterInstance) -> None:
    """Delete the partitions that a build has no images in, and offer only its own in the UI.

    Not before the build is public: a catalogue that answered with part of its images fails the guards, and
    what was read of all the others must not be gone by then. What a newer build has just read stays, too.
    """
    names = set(staged.facts["partitions"])
    there = set(instance.get_dynamic_partitions(PARTITIONS))
    instance.add_dynamic_partitions(PARTITIONS, sorted(names - there))
    for gone in sorted(there - names):
        instance.delete_dynamic_partition(PARTITIONS, gone)
    taken_at = datetime.fromisoformat(staged.facts["snapshot"]["taken_at"])
    imagery.sweep(names, snapshot_taken_at=taken_at)


def in_words(tally: Tally, before: str) -> str:
    """The outcome, as text for the log."""
    left = f", {tally.left:,} left for the next run" if tally.left else ""
    why = Counter(WORDS[Reason(each.reason)] for each in tally.skipped)
    failed = tally.uncomposed
    times = f"; composing a block failed {len(failed):,} times, first {failed[0]}" if failed else ""
    reasons = "; ".join(f"{count:,} because {words}" for words, count in why.most_common())
    return (
        f"{before}, {tally.made:,} of {tally.blocks:,} blocks made{left}, {_cost(tally)}; "
        f"{tally.read:,} of {tally.images:,} images shown, {len(tally.skipped):,} skipped"
        + (f": {reasons}" if reasons else "")
        + times
    )


def _cost(tally: Tally) -> str:
    return f"{size_in_words(tally.bytes)} in {tally.requests:,} requests"


def told_of(tally: Tally) -> dict[str, Any]:
    """The tally as metadata for the UI."""
    return {
        "images": tally.images,
        "images read": tally.read,
        "images skipped": len(tally.skipped),
        "images waiting": len(tally.waiting),
        "blocks": tally.blocks,
        "blocks made": tally.made,
        "blocks left": tally.left,
        "requests": tally.requests,
        "bytes received": tally.bytes,
        f"first {SHOWN} skipped": _first_skipped(tally),
    }


def _numbers(tally: Tally) -> dict[str, Any]:
    """The numbers that the audit needs."""
    return {
        "images": tally.images,
        "read": tally.read,
        "skipped": dict(sorted(Counter(str(each.reason) for each in tally.skipped).items())),
        "blocks": tally.blocks,
        "made": tally.made,
        "left": tally.left,
        "requests": tally.requests,
        "bytes": tally.bytes,
    }


def _first_skipped(tally: Tally) -> dg.TableMetadataValue:
    """Skipped images; their ids are untrusted text, and the UI shows each cell as plain text."""
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({"image": each.id, "why": WORDS[Reason(each.reason)], "since": each.since[:16]})
            for each in tally.skipped[:SHOWN]
        ],
        schema=dg.TableSchema([dg.TableColumn(name) for name in ("image", "why", "since")]),
    )

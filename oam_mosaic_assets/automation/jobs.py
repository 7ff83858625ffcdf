"""The jobs: the whole chain, its last step, partitions of imagery, a rollback, the freshness check."""

from typing import Any, Final

import dagster as dg
from dagster._core.storage.tags import MAX_RETRIES_TAG  # not exported

from oam_mosaic_assets.assets.imagery_blocks import imagery_blocks
from oam_mosaic_assets.assets.published_mosaic import PUBLISHED
from oam_mosaic_assets.assets.rollback import turn_back
from oam_mosaic_assets.checks.mosaic_freshness import mosaic_is_fresh
from oam_mosaic_assets.resources.staging import discard_staged

FIRST: Final = {"dagster/priority": "10"}
"""Tag of the runs that go before partitions of imagery, of which a backfill may queue hundreds."""

PLAIN_LOG: dict[str, Any] = {"loggers": {"console": {}}}
"""Selects our console logger; by default, Dagster writes all of its own events to standard error."""

# these two run on the executor of the definitions, which BUILD_EXECUTOR names
global_mosaic = dg.define_asset_job(
    "global_mosaic",
    selection=dg.AssetSelection.assets(PUBLISHED).upstream(),
    description="From the catalogue to the published mosaic: read, tile, audit, publish.",
    hooks={discard_staged},  # for the audit too: a check has no hooks of its own
    config=PLAIN_LOG,
    tags=FIRST,
)

imagery_partitions = dg.define_asset_job(
    "imagery_partitions",
    selection=dg.AssetSelection.assets(imagery_blocks),
    description="Read the images of some partitions, on any machine: start it as a backfill.",
    config=PLAIN_LOG,
)

publish_held_build = dg.define_asset_job(
    "publish_held_build",
    selection=dg.AssetSelection.assets(PUBLISHED),
    description="Publish a build that a guard held back: `oam-mosaic publish BUILD --confirm REASON`.",
    executor_def=dg.in_process_executor,
    config=PLAIN_LOG,
    tags=FIRST,
)


@dg.job(
    description="Make an earlier build public again and hold publication: `oam-mosaic rollback`.",
    executor_def=dg.in_process_executor,
    config=PLAIN_LOG,
    tags={**FIRST, MAX_RETRIES_TAG: "0"},  # a person looks first at what a killed one left
)
def rollback() -> None:
    """Roll back in an op that belongs to no asset, since nothing is rebuilt."""
    turn_back()


mosaic_freshness = dg.define_asset_job(
    "mosaic_freshness",
    selection=dg.AssetSelection.checks(mosaic_is_fresh),
    description="Check that the public mosaic is in the store, is ours, and is recent enough.",
    executor_def=dg.in_process_executor,
    config=PLAIN_LOG,
    tags=FIRST,
)

"""`published_mosaic` rolled back to an earlier build: an op of its own, since nothing is rebuilt."""

from typing import Any

import dagster as dg

from oam_mosaic_assets.assets.published_mosaic import PUBLISHED
from oam_mosaic_assets.core.release import counts
from oam_mosaic_assets.errors import MosaicError, SettingsError
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.gateways.rollback import roll_back
from oam_mosaic_assets.gateways.viewer import Viewer
from oam_mosaic_assets.io_managers.object_store import BUILD_TAG
from oam_mosaic_assets.resources.failures import failing_clearly
from oam_mosaic_assets.resources.progress import Progress
from oam_mosaic_assets.resources.scratch import Scratch

REASON_TAG = "oam-mosaic/reason"
"""Tag of a run that rolls back; holds the reason."""


@dg.op(out=dg.Out(dg.Nothing), description="Makes an earlier build public again, and holds publication.")
def turn_back(
    context: dg.OpExecutionContext,
    releases: dg.ResourceParam[Releases],
    viewer: dg.ResourceParam[Viewer],
    progress: dg.ResourceParam[Progress],
    scratch: Scratch,
) -> None:
    """Switch fixed keys, TileJSON, aliases and pointer to the build that the run's tag names.

    Without that tag, it is the build that was public before the current one; see `roll_back`. Recorded as a
    materialisation of `published_mosaic`.
    """
    tags = context.run.tags
    with failing_clearly():
        if not tags.get(REASON_TAG):
            raise SettingsError(
                f"A rollback needs a reason: the run has no tag {REASON_TAG}.",
                hint="Give one: oam-mosaic rollback --reason REASON, or set the tag in the launchpad.",
            )
        pointer, before = roll_back(
            releases,
            tags.get(BUILD_TAG),
            reason=tags[REASON_TAG],
            folder=scratch.folder("rollback"),
            say=lambda text: progress.step(context.log, "rolling back", None, text),
            warn=context.log.warning,
        )
    progress.step(context.log, "rolling back", 1.0, pointer.build)
    address = releases.store.public_address
    context.log_event(
        dg.AssetMaterialization(
            PUBLISHED,
            description=f"Rolled back from {before}: {tags[REASON_TAG]}",
            metadata={
                "address": dg.MetadataValue.url(address(releases.keys.archive)),
                "dagster/uri": address(releases.keys.archive),
                "build": pointer.build,
                "rolled back from": before,
                "reason": tags[REASON_TAG],
                "counts": counts(pointer.images, pointer.set_aside),
                "images": pointer.images,
                "set aside": pointer.set_aside,
                "bytes": pointer.size,
                "sha256": pointer.sha256,
                "snapshot": pointer.snapshot_taken_at,
                "manifest": dg.MetadataValue.url(address(pointer.manifest)),
                **_page(context, viewer, pointer.build),
            },
        )
    )


def _page(context: dg.OpExecutionContext, viewer: Viewer, build: str) -> dict[str, Any]:
    """A link to the viewer page for this build; the rollback stands even if the page cannot be checked."""
    try:
        found = viewer.is_public
    except MosaicError as error:
        context.log.warning(f"{build} is public again, but its page could not be checked. {error}")
        return {}
    return {"viewer": dg.MetadataValue.url(viewer.address(build))} if found else {}

"""What a new build may take over of the public one, for every product that does."""

import dagster as dg

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.last_build import BEFORE, last_build
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.scratch import Scratch


def public_build(
    context: dg.AssetExecutionContext, releases: Releases, scratch: Scratch, product: Product, *, plan: str
) -> Before | str:
    """The public build that tiles are taken over from, or why none; see `gateways.last_build`.

    Args:
        context: of the asset that makes the tiles.
        releases: where it lies.
        scratch: where its files go.
        product: what is made.
        plan: the digest of how.
    """
    if ANEW_TAG in context.run.tags:
        return "the run was asked to"
    return last_build(releases, scratch.shared_folder(BEFORE), product, plan=plan)

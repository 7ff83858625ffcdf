"""What a new build may take over of the public one, for every product that does."""

from typing import Final

import dagster as dg

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.core.density_tiles import density_recipe
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.last_build import BEFORE, KeptDensity, kept_density, last_build
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.scratch import Scratch

ASKED_TO: Final = "the run was asked to"
"""Why nothing is taken over where a person wants all made anew."""


def public_density(
    context: dg.AssetExecutionContext, releases: Releases, scratch: Scratch
) -> KeptDensity | str:
    """The density tables of the public build, or why nothing is taken over of them."""
    if ANEW_TAG in context.run.tags:
        return ASKED_TO
    return kept_density(releases, scratch.shared_folder(BEFORE), recipe=density_recipe())


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
        return ASKED_TO
    return last_build(releases, scratch.shared_folder(BEFORE), product, plan=plan)

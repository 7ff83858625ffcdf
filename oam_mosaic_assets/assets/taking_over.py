"""What a new build may take over from the public one, for every product that does so."""

from typing import Final

import dagster as dg

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.core.density_tiles import density_recipe
from oam_mosaic_assets.core.product import Product
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.gateways.last_build import BEFORE, KeptDensity, kept_density, last_build
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.scratch import Scratch

ASKED_TO: Final = "a full rebuild was requested"
"""Why nothing is taken over when a person asks for a full rebuild."""


def public_density(
    context: dg.AssetExecutionContext, releases: Releases, scratch: Scratch
) -> KeptDensity | str:
    """The density tables of the public build, or why nothing is taken over from them."""
    if ANEW_TAG in context.run.tags:
        return ASKED_TO
    return kept_density(releases, scratch.shared_folder(BEFORE), recipe=density_recipe())


def public_build(
    context: dg.AssetExecutionContext, releases: Releases, scratch: Scratch, product: Product, *, plan: str
) -> Before | str:
    """The public build to take tiles over from, or why there is none; see `gateways.last_build`.

    Args:
        context: the context of the asset that makes the tiles.
        releases: where the public build is stored.
        scratch: where its files go.
        product: which product is made.
        plan: the digest of the plan it is made by.
    """
    if ANEW_TAG in context.run.tags:
        return ASKED_TO
    return last_build(releases, scratch.shared_folder(BEFORE), product, plan=plan)

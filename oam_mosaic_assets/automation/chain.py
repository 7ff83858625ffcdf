"""The chain from the catalogue to publication: which assets and which audit each product adds to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg

from oam_mosaic_assets.assets.catalog_changes import catalog_changes
from oam_mosaic_assets.assets.catalog_statistics import catalog_statistics
from oam_mosaic_assets.assets.density_cells import density_cells
from oam_mosaic_assets.assets.density_pmtiles import density_pmtiles
from oam_mosaic_assets.assets.details_geojson import details_geojson
from oam_mosaic_assets.assets.details_pmtiles import details_in_parts, details_pmtiles
from oam_mosaic_assets.assets.exact_coverage_pmtiles import exact_coverage_pmtiles
from oam_mosaic_assets.assets.footprints_geojson import footprints_geojson
from oam_mosaic_assets.assets.global_imagery_pmtiles import global_imagery_pmtiles
from oam_mosaic_assets.assets.global_mosaic_pmtiles import global_mosaic_in_parts, global_mosaic_pmtiles
from oam_mosaic_assets.assets.published_mosaic import publication_of
from oam_mosaic_assets.assets.stac_footprints import stac_footprints
from oam_mosaic_assets.assets.whole_coverage_pmtiles import whole_coverage_pmtiles
from oam_mosaic_assets.checks.audit import audit_of
from oam_mosaic_assets.core.audit import CHECKS, DETAILS_CHECKS
from oam_mosaic_assets.core.catalog_changes_audit import CHANGES_CHECKS
from oam_mosaic_assets.core.coverage_audit import EXACT_CHECKS, WHOLE_CHECKS
from oam_mosaic_assets.core.density_audit import DENSITY_CHECKS
from oam_mosaic_assets.core.imagery.audit import IMAGERY_CHECKS
from oam_mosaic_assets.core.product import (
    CHANGES,
    DENSITY,
    DETAILS,
    EXACT,
    IMAGERY,
    MOSAIC,
    STATISTICS,
    WHOLE,
    Product,
)
from oam_mosaic_assets.core.statistics_audit import STATISTICS_CHECKS


@dataclass(frozen=True, slots=True)
class Branch:
    """The assets and checks of one product.

    Attributes:
        assets: in the order they are made; the last one stages the product.
        checks: names of its audit's checks, with what each says.
    """

    assets: tuple[dg.AssetsDefinition, ...]
    checks: Mapping[str, str]


BRANCHES: Final[Mapping[str, Branch]] = {
    MOSAIC.name: Branch((footprints_geojson, global_mosaic_pmtiles), CHECKS),
    DETAILS.name: Branch((details_geojson, details_pmtiles), DETAILS_CHECKS),
    EXACT.name: Branch((exact_coverage_pmtiles,), EXACT_CHECKS),
    WHOLE.name: Branch((whole_coverage_pmtiles,), WHOLE_CHECKS),
    DENSITY.name: Branch((density_cells, density_pmtiles), DENSITY_CHECKS),
    STATISTICS.name: Branch((density_cells, catalog_statistics), STATISTICS_CHECKS),
    CHANGES.name: Branch((catalog_changes,), CHANGES_CHECKS),
    IMAGERY.name: Branch((global_imagery_pmtiles,), IMAGERY_CHECKS),
}
"""By product name."""


IN_PARTS: Final = {each.key: each for each in (global_mosaic_in_parts, details_in_parts)}
"""Assets that can be made in several steps, by key."""


def chain_of(products: Sequence[Product], *, in_parts: bool = False) -> list[dg.AssetsDefinition]:
    """All assets of a build that publishes these products; the last one publishes.

    Args:
        products: the products.
        in_parts: whether maps are made part by part, each a step of its own.
    """
    # two products may share an asset
    made = dict.fromkeys(asset for each in products for asset in BRANCHES[each.name].assets)
    others = IN_PARTS if in_parts else {}
    return [stac_footprints, *(others.get(each.key, each) for each in made), publication_of(products)]


def audits_of(products: Sequence[Product]) -> list[dg.AssetChecksDefinition]:
    """The audit of each product."""
    return [audit_of(each, BRANCHES[each.name].checks) for each in products]

"""What a build publishes: each product is one object; those of a build are published and deleted together.

Each product is staged by one asset as a file with the product's name. That name is also its key within the
build's release and, below the store's root, its fixed public key unless another is configured.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

PMTILES: Final = "application/vnd.pmtiles"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One public object of a build.

    Attributes:
        word: what `MOSAIC_PRODUCTS` calls it.
        name: name of its file, its key within a release and, unless another is configured, its fixed key.
        content_type: the Content-Type it is served with.
        asset: name of the asset that stages it.
        is_dated: whether it is made every day, even if nothing changed in the catalogue.
    """

    word: str
    name: str
    content_type: str
    asset: str
    is_dated: bool = False


MOSAIC: Final = Product(
    word="mosaic",
    name="global-mosaic.pmtiles",
    content_type=PMTILES,
    asset="global_mosaic_pmtiles",
)
"""The archive of all footprints; every build has it."""

DETAILS: Final = Product(
    word="details",
    name="global-data.pmtiles",
    content_type=PMTILES,
    asset="details_pmtiles",
)
"""The footprints with what is known about each image."""

EXACT: Final = Product(
    word="exact",
    name="global-coverage-exact.pmtiles",
    content_type=PMTILES,
    asset="exact_coverage_pmtiles",
)
"""Pictures of the pixels that images cover."""

WHOLE: Final = Product(
    word="whole",
    name="global-coverage-whole.pmtiles",
    content_type=PMTILES,
    asset="whole_coverage_pmtiles",
)
"""Pictures of the tiles that images touch."""

DENSITY: Final = Product(
    word="density",
    name="global-coverage.pmtiles",
    content_type=PMTILES,
    asset="density_pmtiles",
    is_dated=True,
)
"""The number of images in each cell of a grid."""

STATISTICS: Final = Product(
    word="statistics",
    name="stats.json",
    content_type=JSON,
    asset="catalog_statistics",
    is_dated=True,
)
"""The catalogue in numbers."""

CHANGES: Final = Product(
    word="changes",
    name="changes.json",
    content_type=JSON,
    asset="catalog_changes",
)
"""Which images were added, changed and removed since the build that was public before."""

IMAGERY: Final = Product(
    word="imagery",
    name="global-imagery.pmtiles",
    content_type=PMTILES,
    asset="global_imagery_pmtiles",
    is_dated=True,
)
"""The images themselves; those that could not be read are retried every day."""

PRODUCTS: Final = (MOSAIC, DETAILS, EXACT, WHOLE, DENSITY, STATISTICS, CHANGES, IMAGERY)
"""All products in the order in which they are published; the mandatory one first."""

PICTURES: Final = (EXACT, WHOLE, IMAGERY)
"""The products whose tiles are pictures: they name no image."""

BY_DEFAULT: Final = tuple(each for each in PRODUCTS if each is not IMAGERY)
"""What is published by default: all but the imagery, whose first build takes hours."""


def chosen(words: Collection[str]) -> tuple[Product, ...]:
    """The products that these words name, and the mandatory one, in the order of `PRODUCTS`.

    Raises:
        ValueError: a word names no product.
    """
    known = [each.word for each in PRODUCTS]
    if unknown := [each for each in words if each not in known]:
        raise ValueError(f"unknown product {', '.join(map(repr, unknown))}; known are: {', '.join(known)}")
    return tuple(each for each in PRODUCTS if each is MOSAIC or each.word in words)

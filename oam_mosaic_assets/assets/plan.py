"""What the settings decide about a mosaic, for the assets to share."""

from dataclasses import dataclass

from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.tiling import TilingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicPlan:
    """What is to be made, and what may pass without a person's word.

    Attributes:
        tiling: the archive.
        details: the archive of details.
        exact: the archive of coverage, pixel by pixel.
        whole: the archive of coverage, tile by tile.
        processes: that draw at once; 0 is one for each processor.
        parts: that a map is cut into where each is a step of its own.
        collection: the catalogue's that is read.
        box: west, south, east, north in degrees; only images that touch it. None draws all.
        max_set_aside_share: of the catalogue, 0 to 1.
        max_shrink_share: of the last published build's images, 0 to 1.
        fresh_warn_hours: age at which the mosaic counts as late.
        fresh_fail_hours: age at which it counts as stale.
        remarks: what whoever made the settings may not expect of them.
    """

    tiling: TilingPlan
    details: TilingPlan
    exact: CoveragePlan
    whole: CoveragePlan
    processes: int
    parts: int
    collection: str
    box: tuple[float, float, float, float] | None
    max_set_aside_share: float
    max_shrink_share: float
    fresh_warn_hours: float
    fresh_fail_hours: float
    remarks: tuple[str, ...]

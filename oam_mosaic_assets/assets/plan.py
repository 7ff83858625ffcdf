"""What the settings decide about a mosaic, for the assets to share."""

from dataclasses import dataclass

from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.tiling import TilingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicPlan:
    """What is made, and what may be published without a person's confirmation.

    Attributes:
        tiling: plan of the mosaic's archive.
        details: plan of the archive of details.
        exact: plan of the coverage archive, pixel by pixel.
        whole: plan of the coverage archive, tile by tile.
        processes: how many draw coverage in parallel; 0 means one per processor.
        parts: how many parts a map is cut into when each is a step of its own.
        collection: the collection of the catalogue that is read.
        box: west, south, east, north in degrees; only images that touch it are drawn. None draws all.
        max_set_aside_share: the largest share of the catalogue that may be set aside, 0 to 1.
        max_shrink_share: the largest share of the last published build's images that may be lost, 0 to 1.
        fresh_warn_hours: age at which the mosaic counts as late.
        fresh_fail_hours: age at which it counts as stale.
        remarks: effects of the settings that may come as a surprise.
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

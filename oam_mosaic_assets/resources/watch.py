"""What a build would be made from now, and what stands in its way; cheap enough to ask twice a minute."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC

from oam_mosaic_assets import __version__
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.product import IMAGERY
from oam_mosaic_assets.core.release import Pointer
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.catalogue.source import Catalogue, Snapshot
from oam_mosaic_assets.gateways.imagery_mosaic import ImageryPlan
from oam_mosaic_assets.gateways.releases import Releases
from oam_mosaic_assets.resources.tippecanoe import TippecanoeResource


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look found.

    Attributes:
        public: what is public; None if nothing is.
        basis: see `Watch.basis`.
        waits: why no build may start, whatever changed; empty if one may.
    """

    public: Pointer | None
    basis: str
    waits: str


class Watch:
    """Looks at the catalogue and at what is public."""

    def __init__(
        self,
        catalogue: Catalogue,
        releases: Releases,
        tippecanoe: TippecanoeResource,
        *,
        plans: Mapping[str, TilingPlan],
        pictures: Mapping[str, CoveragePlan],
        imagery: ImageryPlan,
        box: tuple[float, float, float, float] | None,
    ) -> None:
        """Set up the watch.

        Args:
            plans: those of the products that are tiled, by product name.
            pictures: those of the products that are drawn as pictures, by product name.
            imagery: that of the images themselves.
            box: see `MosaicPlan`.
        """
        self._catalogue = catalogue
        self._releases = releases
        self._tippecanoe = tippecanoe
        self._plans = plans
        self._pictures = pictures
        self._imagery = imagery
        self._box = box

    def basis(self, snapshot: Snapshot, taken_down: Collection[str]) -> str:
        """A digest of all that a build of this snapshot depends on: the same basis makes the same build.

        Args:
            taken_down: ids of the images that the build leaves out.

        Returns:
            32 hex digits; empty if the catalogue has no watermark.

        Raises:
            CatalogueUnavailable, StoreUnavailable, TippecanoeMissing and the like: see `errors`.
        """
        watermark = snapshot.watermark()
        if watermark is None:
            return ""
        keys, version = self._releases.keys, self._tippecanoe.version()
        products = keys.products
        day = snapshot.taken_at.astimezone(UTC).date().isoformat()
        stated = [
            self._catalogue.origin,
            watermark,
            sorted(taken_down),
            [each.name for each in products],
            [self._plans[each.name].digest(version) for each in products if each.name in self._plans],
            [self._pictures[each.name].digest() for each in products if each.name in self._pictures],
            self._imagery.name if IMAGERY in products else "",
            [self._releases.store.public_address(key) for key in keys.all_fixed()],
            # dated products are made every day
            day if any(each.is_dated for each in products) else "",
            self._box,
            __version__,
        ]
        return hashlib.sha256(json.dumps(stated).encode()).hexdigest()[:32]

    def look(self) -> Look:
        """Take a look. Raises as `basis`."""
        hold, current = self._releases.holds.present(), self._releases.current()
        with self._catalogue.snapshot() as snapshot:
            basis = self.basis(snapshot, self._releases.takedowns.ids())
        waits = str(hold or "")
        if not basis:
            waits = f"{self._catalogue.origin} has no cheap way to tell whether anything changed."
        return Look(public=current[0] if current else None, basis=basis, waits=waits)

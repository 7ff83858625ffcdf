"""The blocks of one partition: changed ones are read and made again, unchanged ones cost no request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from oam_mosaic_assets.core.imagery.recipe import Image
from oam_mosaic_assets.core.imagery.state import Tally
from oam_mosaic_assets.gateways.imagery.building import Building
from oam_mosaic_assets.gateways.imagery.partition import Budget, Kept
from oam_mosaic_assets.gateways.imagery.workers import Workers


class Partition(Kept):
    """One partition in a store, which can be brought up to date."""

    def build(
        self,
        images: Sequence[Image],
        workers: Workers,
        scratch: Path,
        budget: Budget,
        *,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> Tally:
        """Bring it up to date with the images that touch it.

        Args:
            images: in any order; may include images that do not touch it.
            workers: the processes that read them.
            scratch: an empty folder.
            budget: what may be spent.
            on_progress: called with how many blocks are up to date.
        """
        return Building(self, images, workers, scratch, budget, on_progress).done()

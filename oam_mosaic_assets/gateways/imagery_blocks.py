"""The blocks of one partition: changed ones are read and made again, unchanged ones cost no request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from oam_mosaic_assets.core.imagery.recipe import Image
from oam_mosaic_assets.core.imagery.state import Tally
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.imagery.building import Building
from oam_mosaic_assets.gateways.imagery.partition import Budget, Kept, Overtaken
from oam_mosaic_assets.gateways.imagery.workers import Workers

ATTEMPTS: Final = 3
"""How often a partition is begun that another machine builds meanwhile."""


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

        If another machine builds it meanwhile, what that has made is kept, and only the rest is made here.

        Args:
            images: in any order; may include images that do not touch it.
            workers: the processes that read them.
            scratch: an empty folder.
            budget: what may be spent.
            on_progress: called with how many blocks are up to date.

        Raises:
            StoreUnavailable: another machine has built it again and again meanwhile.
        """
        spent = Tally()
        for attempt in range(ATTEMPTS):
            (folder := scratch / f"{attempt}").mkdir()
            building = Building(self, images, workers, folder, budget, on_progress)
            try:
                tally = building.done()
            except Overtaken:
                spent.charge(building.tally)
                continue
            tally.charge(spent)
            return tally
        raise StoreUnavailable(
            f"Another machine builds the partition {self.tile.partition} at the same time.",
            hint="Build again: what another machine has read is not read again.",
        )

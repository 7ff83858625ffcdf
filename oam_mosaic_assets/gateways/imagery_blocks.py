"""The blocks of one partition: changed ones are read and made again, unchanged ones cost no request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from oam_mosaic_assets.core.imagery.recipe import Image
from oam_mosaic_assets.core.imagery.state import Tally
from oam_mosaic_assets.errors import StoreUnavailable
from oam_mosaic_assets.gateways.imagery.building import Building
from oam_mosaic_assets.gateways.imagery.partition import Budget, Kept, Overtaken
from oam_mosaic_assets.gateways.imagery.workers import Workers

ATTEMPTS: Final = 3
"""How often a partition is begun, if another machine builds it or an image is taken down meanwhile."""


class Partition(Kept):
    """One partition in a store, which can be brought up to date."""

    def build(
        self,
        images: Sequence[Image],
        workers: Workers,
        scratch: Path,
        budget: Budget,
        *,
        taken_down: Callable[[], Set[str]],
        begun: Mapping[int, int] = MappingProxyType({}),
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> Tally:
        """Bring it up to date with the images that touch it.

        If another machine builds it meanwhile, what that has made is kept, and only the rest is made here.
        Images that were taken down are left out, even if that happens meanwhile.

        Args:
            images: in any order; may include images that do not touch it.
            workers: the processes that read them.
            scratch: an empty folder.
            budget: what may be spent.
            taken_down: reads the ids of images that must not be shown.
            begun: `Tally.begun` of the last build.
            on_progress: called with how many blocks are up to date.

        Raises:
            StoreUnavailable: another machine has built it again and again meanwhile.
        """
        spent = Tally()
        for attempt in range(ATTEMPTS):
            gone = taken_down()
            images = [each for each in images if each.id not in gone]
            (folder := scratch / f"{attempt}").mkdir()
            building = Building(self, images, workers, folder, budget, on_progress, begun)
            with suppress(Overtaken):
                tally = building.done()
                # a takedown searches the store after it is listed: it found this, or is found here
                if taken_down().isdisjoint(each.id for each in images):
                    tally.charge(spent)
                    return tally
            spent.charge(building.tally)
        raise StoreUnavailable(
            f"Another machine builds the partition {self.tile.partition} at the same time, or its images are "
            "taken down one after the other.",
            hint="Build again: what another machine has read is not read again.",
        )

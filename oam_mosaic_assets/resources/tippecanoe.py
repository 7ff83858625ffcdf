"""Tippecanoe as a Dagster resource: from footprints in drawing order to a finished archive."""

import logging
import os
from pathlib import Path

import dagster as dg

from oam_mosaic_assets.core.splice import Splice
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.mosaic_tiles import Footprints, Made, make_mosaic
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe
from oam_mosaic_assets.resources.progress import Progress


class TippecanoeResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its value is itself
    """The program that makes tiles.

    Attributes:
        program: its path; None takes the packaged one, else the one on the PATH.
        processes: how many of it may run at once; 0 is one for each processor.
    """

    program: str | None = None
    processes: int = 0

    def version(self) -> str:
        """For example `v2.72.0`. Raises `TippecanoeMissing`."""
        return self._tippecanoe().version()

    def build(
        self,
        plan: TilingPlan,
        footprints: Footprints,
        target: Path,
        *,
        splice: Splice | None,
        before: Path | None,
        progress: Progress,
        log: logging.Logger,
    ) -> Made:
        """Make the archive; see `make_mosaic`.

        Raises:
            TippecanoeMissing, TilingFailed, DiskFull: see `errors`.
        """
        return make_mosaic(
            self._tippecanoe(),
            plan,
            footprints,
            target,
            splice=splice,
            before=before,
            processes=self.processes or len(os.sched_getaffinity(0)),
            on_progress=lambda share: progress.step(
                log, "tiling", share, f"z{plan.whole_from}-{plan.zoom_max} by tippecanoe"
            ),
        )

    def _tippecanoe(self) -> Tippecanoe:
        return Tippecanoe(Path(self.program) if self.program else None)

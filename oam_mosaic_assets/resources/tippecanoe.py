"""Tippecanoe as a Dagster resource: from footprints in drawing order to a finished archive."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import dagster as dg

from oam_mosaic_assets.core.fragment import Fragment
from oam_mosaic_assets.core.splice import Splice
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.gateways.control_groups import processors
from oam_mosaic_assets.gateways.mosaic_tiles import (
    Footprints,
    Lines,
    Made,
    make_mosaic,
    make_parts,
    merge_parts,
)
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe
from oam_mosaic_assets.resources.progress import Progress

PROCESSORS_EACH: Final = 2
"""Processors that one tippecanoe keeps busy, most of the time."""


class TippecanoeResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its value is itself
    """The program that makes tiles.

    Attributes:
        program: its path; None takes the packaged one, else the one on the PATH.
        processes: how many run in parallel, each beside two processes that cut tiles; 0 means one for every
            two processors.
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
            processes=self.processes or max(1, processors() // PROCESSORS_EACH),
            on_progress=_telling(progress, log, plan, plan.zoom_min),
        )

    def make_part(
        self, plan: TilingPlan, part: Lines, folder: Path, *, progress: Progress, log: logging.Logger
    ) -> list[Fragment]:
        """Make one part by itself; see `make_parts`.

        Raises:
            TippecanoeMissing, TilingFailed, DiskFull: see `errors`.
        """
        tell = _telling(progress, log, plan, plan.whole_from)
        return make_parts(self._tippecanoe(), plan, [part], folder, on_progress=tell)

    def merge(self, plan: TilingPlan, footprints: Footprints, target: Path, made: Sequence[Fragment]) -> Made:
        """Merge all parts into the archive; see `merge_parts`.

        Raises:
            TippecanoeMissing: it is needed because the archive names its version.
        """
        return merge_parts(self._tippecanoe(), plan, footprints, target, made)

    def _tippecanoe(self) -> Tippecanoe:
        return Tippecanoe(Path(self.program) if self.program else None)


def _telling(
    progress: Progress, log: logging.Logger, plan: TilingPlan, zoom_min: int
) -> Callable[[float], None]:
    words = f"{plan.name}, z{zoom_min}-{plan.zoom_max}"
    return lambda share: progress.step(log, "tiling", share, words)

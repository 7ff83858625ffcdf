"""Tippecanoe as a Dagster resource: from footprints in drawing order to a finished archive."""

import logging
from pathlib import Path

import dagster as dg

from oam_mosaic_assets.core.low_zooms import low_zoom_tiles
from oam_mosaic_assets.core.mbtiles import BrokenTiles, read_metadata, write_pmtiles
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.errors import TilingFailed
from oam_mosaic_assets.gateways.tippecanoe import Tippecanoe
from oam_mosaic_assets.resources.progress import Progress


class TippecanoeResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its value is itself
    """The program that makes tiles.

    Attributes:
        program: its path; None takes the packaged one, else the one on the PATH.
    """

    program: str | None = None

    def version(self) -> str:
        """For example `v2.72.0`. Raises `TippecanoeMissing`."""
        return self._tippecanoe().version()

    def build(
        self,
        plan: TilingPlan,
        footprints: Path,
        geojson: Path,
        folder: Path,
        *,
        name: str,
        snapshot: str,
        progress: Progress,
        log: logging.Logger,
    ) -> Path:
        """Tile footprints: the low zooms here, those that show every image by tippecanoe.

        Args:
            plan: what to make.
            footprints: the GeoParquet, in drawing order.
            geojson: the same, newline-delimited.
            folder: empty; holds tippecanoe's intermediate files and the archive.
            name: of the archive's file.
            snapshot: digest that the archive carries.

        Returns:
            The archive, with metadata that names neither time nor path: same input, same bytes.

        Raises:
            TippecanoeMissing, TilingFailed, DiskFull: see `errors`.
        """
        made = folder / "tippecanoe.mbtiles"
        self._tippecanoe().run(
            plan.arguments(source=str(geojson), target=str(made), temporary=str(folder)),
            on_progress=lambda share: progress.step(
                log, "tiling", share, f"z{plan.made_from}-{plan.zoom_max} by tippecanoe"
            ),
        )
        archive = folder / name
        try:
            write_pmtiles(
                made,
                archive,
                plan.metadata(read_metadata(made), snapshot),
                low_zooms=low_zoom_tiles(footprints, plan),
                zoom_min=plan.zoom_min,
            )
        except BrokenTiles as error:
            raise TilingFailed(
                f"tippecanoe ended well, but left no whole tiles: {error}.",
                hint="Run the build again; see that the disk with the scratch folder is sound.",
            ) from None
        made.unlink()
        return archive

    def _tippecanoe(self) -> Tippecanoe:
        return Tippecanoe(Path(self.program) if self.program else None)

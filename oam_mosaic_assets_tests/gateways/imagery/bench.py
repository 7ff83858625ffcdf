"""Building partitions in tests: a store, real workers, and images of the scene behind a real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.warp import transform

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.imagery.blocks import BLOCK_ZOOM, FINEST, PARTITION_ZOOM, Tile, blocks_of
from oam_mosaic_assets.core.imagery.laid import contents, laid_in
from oam_mosaic_assets.core.imagery.pixels import decoded, straightened
from oam_mosaic_assets.core.imagery.recipe import Image, Recipe
from oam_mosaic_assets.core.imagery.state import Tally
from oam_mosaic_assets.core.imagery.warp import HALF_WORLD
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.imagery.partition import Budget
from oam_mosaic_assets.gateways.imagery.workers import Workers
from oam_mosaic_assets.gateways.imagery_blocks import Partition
from oam_mosaic_assets_tests.images import ImageOf, Writing, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, ScriptedHost

LIMITS = {"wait": 0.0, "seconds": 20.0}
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
ROOT = "mosaic/cache/imagery/"


def partitions_of(footprints: Iterable[Any]) -> dict[Tile, list[int]]:
    """The indices of the footprints (EPSG:4326) that touch each partition, for partitions with any."""
    which, places = blocks_of(np.array(list(footprints), dtype=object))
    pairs = np.unique(np.column_stack([which, places >> (BLOCK_ZOOM - PARTITION_ZOOM)]), axis=0)
    found: dict[Tile, list[int]] = {}
    for image, x, y in pairs.tolist():
        found.setdefault(Tile(x, y), []).append(image)
    return found


class Bench:
    """A store, and the means to build partitions in it."""

    def __init__(
        self, folder: Path, *hosts: str, workers: int = 2, limits: dict[str, float] = LIMITS
    ) -> None:  # type: ignore[assignment]
        self.store = FolderStore(folder / "store")
        self.rules = Rules(private_hosts=frozenset(hosts))
        self.folder = folder
        self.now = NOON
        self.recipe = Recipe()
        self.taken_down = set[str]()
        self.limits = limits
        self._workers = workers
        self._runs = 0

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        with Workers(self.rules, self.limits, count=self._workers) as running:
            yield running

    def partition(self, tile: Tile) -> Partition:
        return Partition(self.store, ROOT, tile, self.recipe, self.rules, now=lambda: self.now)

    def build(
        self,
        images: list[Image],
        *,
        budget: Budget | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        running: Workers | None = None,
    ) -> Tally:
        """Build the one partition that contains the images."""
        self._runs += 1
        scratch = self.folder / f"scratch-{self._runs}"
        scratch.mkdir(parents=True)
        (tile,) = partitions_of([each.footprint for each in images])
        self.tile = tile
        with nullcontext(running) if running is not None else self.workers() as workers:
            return self.partition(tile).build(
                images,
                workers,
                scratch,
                budget or Budget(),
                taken_down=self.taken_down.copy,
                on_progress=on_progress,
            )

    def tiles(self) -> dict[int, bytes]:
        """All tiles of the partition as stored."""
        state = self.partition(self.tile).state()
        folder = self.folder / f"fetched-{self._runs}-{time.monotonic_ns()}"
        folder.mkdir()
        path = self.partition(self.tile).fetch(state.tiles, folder)
        if path is None:
            return {}
        with open_archive(path) as archive:
            return dict(contents(archive, laid_in(archive)))

    def seen_at(self, places: np.ndarray, zoom: int = FINEST) -> np.ndarray:
        """What the tiles show at `places`, (n, 2) longitudes and latitudes: (n, 4), with straight alpha."""
        tiles = {each: straightened(decoded(content)) for each, content in self.tiles().items()}
        x, y = transform("EPSG:4326", "EPSG:3857", *places.T.tolist())
        pixel = 2 * HALF_WORLD / (256 << zoom)
        columns = ((np.array(x) + HALF_WORLD) / pixel).astype(int)
        rows = ((HALF_WORLD - np.array(y)) / pixel).astype(int)
        nothing = np.zeros((256, 256, 4), np.uint8)
        return np.array(
            [
                tiles.get(Tile(column >> 8, row >> 8).id(zoom), nothing)[row & 255, column & 255]
                for column, row in zip(columns.tolist(), rows.tolist(), strict=True)
            ]
        )


def drone(nginx: Nginx, name: str, east: float, north: float, **stated: object) -> tuple[Image, ImageOf]:
    """A small image of the scene, 900 m wide, in UTM zone 33."""
    of = utm(33, east, north, 3.0, (300, 250))
    write_image(nginx.root / f"{name}.tif", of, Writing(bands=of.colours()))
    return Image(id=name, footprint=of.footprint(), asset=nginx.address(f"{name}.tif"), **stated), of  # type: ignore[arg-type]


def give_files(host: ScriptedHost, folder: Path) -> None:
    """Let a scripted host serve the files in a folder."""
    host.script = lambda request: request.give((folder / request.path.rpartition("/")[2]).read_bytes())


def plain(nginx: Nginx, name: str, of: ImageOf, colour: tuple[int, int, int], **stated: object) -> Image:
    """An image of one colour."""
    width, height = of.size
    bands = np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, height, width)).copy()
    write_image(nginx.root / f"{name}.tif", of, Writing(bands=bands))
    return Image(id=name, footprint=of.footprint(), asset=nginx.address(f"{name}.tif"), **stated)  # type: ignore[arg-type]

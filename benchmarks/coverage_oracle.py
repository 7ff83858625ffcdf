"""Exact coverage of a catalogue against GDAL's `all_touched` in EPSG:3857, and its tiles against GEOS.

    python benchmarks/coverage_oracle.py ITEMS.ndjson.gz [--tiles N]
    python benchmarks/coverage_oracle.py --sample IMAGES [--tiles N]

At each zoom, N random tiles of the archive (the same in every run; all if there are fewer) are compared pixel
by pixel with what GDAL burns of the footprints, projected by PROJ. Which tiles exist at each zoom is checked
against GEOS, for every tile and footprint. Where GDAL and the archive differ, GEOS decides.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path

import coverage
import numpy as np
import polars as pl
import shapely
from PIL import Image
from pmtiles.reader import MmapSource, Reader
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform

from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.coverage_truth import tiles_of, touched_tiles
from oam_mosaic_assets.core.grid import project, tile_positions
from oam_mosaic_assets.gateways.coverage import Shown, make_coverage

WORLD = 20037508.342789244
"""Half the side of Web Mercator's square, metres."""

PIXELS = 256
LAST = 15


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=Path, nargs="?", help="newline-delimited STAC items, plain or gzip")
    parser.add_argument("--sample", type=int, help="images of the sample catalogue, in place of a file")
    parser.add_argument("--tiles", type=int, default=400, help="tiles of each zoom that GDAL burns")
    stated = parser.parse_args()
    if (stated.items is None) == (stated.sample is None):
        parser.error("name a file of items, or --sample IMAGES")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = coverage.write_snapshots(folder, stated.items, stated.sample)
        bounds = tuple(json.loads((folder / "bounds.json").read_text()))
        shown = Shown(folder / "footprints.parquet", "snapshot", bounds)
        make_coverage(CoveragePlan(way="exact"), shown, folder / "it.pmtiles", before="a benchmark wants it")
        content = pl.read_parquet(shown.table, columns=["geometry"])["geometry"]
        print(f"{images:,} images; zoom, tiles, missing, extra; compared, covered pixels, others than GDAL's")
        compare(folder / "it.pmtiles", shapely.get_parts(shapely.from_wkb(content.to_numpy())), stated.tiles)


def compare(archive: Path, parts: np.ndarray, some: int) -> None:
    """Print one line per zoom."""
    flat = project(parts, 0)
    metres = shapely.transform(
        parts, lambda lonlat: np.column_stack(transform("EPSG:4326", "EPSG:3857", *lonlat.T))
    )
    tree, chance = shapely.STRtree(flat), np.random.default_rng(6)
    with open_archive(archive) as opened:
        tiles = tiles_of(opened.entries())
    with archive.open("rb") as file:
        reader = Reader(MmapSource(file))
        for zoom in range(LAST + 1):
            ids, touched = tiles.of_zoom(zoom), touched_tiles(flat, zoom)
            missing, extra = np.setdiff1d(touched, ids), np.setdiff1d(ids, touched)
            chosen = chance.choice(ids, some, replace=False) if len(ids) > some else ids
            covered = differing = wrong = 0
            for x, y in zip(*(each.tolist() for each in tile_positions(chosen, zoom)), strict=True):
                with Image.open(io.BytesIO(reader.get(zoom, x, y))) as picture:
                    ours = np.asarray(picture.convert("RGBA"))[:, :, 3] > 0
                side = 1 << zoom
                box = shapely.box(x / side, y / side, (x + 1) / side, (y + 1) / side)
                met = tree.query(box, predicate="intersects")
                size = 2 * WORLD / (PIXELS << zoom)
                corner = Affine(size, 0, x * PIXELS * size - WORLD, 0, -size, WORLD - y * PIXELS * size)
                burnt = rasterize(
                    metres[met], ours.shape, transform=corner, all_touched=True, dtype="uint8"
                ).astype(bool)
                row, column = np.nonzero(ours != burnt)
                covered += int(ours.sum())
                differing += len(row)
                wrong += _wrong(flat[met], ours[row, column], column + x * PIXELS, row + y * PIXELS, zoom)
            print(
                f"z{zoom:<3}{len(ids):>9,}{len(missing):>4}{len(extra):>4}{len(chosen):>6}{covered:>12,}"
                f"{differing:>7} ({differing / covered:.5%}), of which wrong by GEOS {wrong}",
                flush=True,
            )


def _wrong(parts: np.ndarray, ours: np.ndarray, x: np.ndarray, y: np.ndarray, zoom: int) -> int:
    """How many of these pixels are covered although no part has area in them, or bare although one has."""
    if not len(x):
        return 0
    side = float(PIXELS << zoom)
    boxes = shapely.box(x / side, y / side, (x + 1) / side, (y + 1) / side)
    area = np.zeros(len(x))
    for part in parts:
        area = np.maximum(area, shapely.area(shapely.intersection(part, boxes)) * side**2)
    return int((np.where(ours, area <= 0.0, area > 1e-9)).sum())


if __name__ == "__main__":
    main()

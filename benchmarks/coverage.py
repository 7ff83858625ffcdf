"""Coverage as pictures against the plain way to draw it, from the same footprints, in one run.

    python benchmarks/coverage.py ITEMS.ndjson.gz [--plain-zoom Z] [--json FILE]
    python benchmarks/coverage.py --sample IMAGES [--plain-zoom -1]

The plain way: at each zoom, list the tiles in the footprints' extent, find the footprints that intersect
each, burn them with GDAL, encode a PNG, and write it with the library `pmtiles`. Every case runs in its own
process and starts from a snapshot's GeoParquet. Memory is the peak of that process, and of its largest child.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import polars as pl
import shapely

NOW = datetime(2026, 1, 15, 3, tzinfo=UTC)
ADDED = 10
"""How many images the snapshot `without` lacks."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=Path, nargs="?", help="newline-delimited STAC items, plain or gzip")
    parser.add_argument("--sample", type=int, help="images of the sample catalogue, in place of a file")
    parser.add_argument(
        "--plain-zoom", type=int, default=12, help="last zoom of the plain way; -1: not at all"
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    stated = parser.parse_args()
    if stated.only:
        print(json.dumps(CASES[stated.only](stated.folder, stated.plain_zoom)))
        return
    if (stated.items is None) == (stated.sample is None):
        parser.error("name a file of items, or --sample IMAGES")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = write_snapshots(folder, stated.items, stated.sample)
        print(f"{images:,} images")
        figures = {}
        for case in CASES if stated.plain_zoom >= 0 else [each for each in CASES if "plain" not in each]:
            figures[case] = measure(case, folder, stated.plain_zoom)
            show(case, figures[case])
    if stated.plain_zoom >= 0:
        plain, ours = (figures[each] for each in ("plain way", "exact, as deep as the plain way"))
        print(f"ours is {ours['cpu'] / plain['cpu']:.4f} of the plain way's CPU time, at the same zooms")
        print(f"and {ours['archive'] / plain['archive']:.2f} of its bytes")
    added, whole = figures["exact, some images added"], figures["exact"]
    print(f"{ADDED} images added: {added['cpu'] / whole['cpu']:.3f} of the CPU time of a build from nothing")
    if stated.json:
        stated.json.write_text(json.dumps(figures, indent=2) + "\n")


def write_snapshots(folder: Path, items: Path | None, sample: int | None) -> int:
    """Write two snapshots, of all images and of all but some; returns how many the first one has."""
    from oam_mosaic_assets.core.footprint import read_item
    from oam_mosaic_assets.core.snapshot import write_snapshot
    from oam_mosaic_assets.gateways.catalogue.sample import SampleCatalogue

    def rows() -> Iterator[Any]:
        if items is not None:
            yield from pipeline.read(items)
        else:
            with SampleCatalogue(sample or 0).snapshot() as snapshot:
                yield from (each for each in snapshot.items() if isinstance(each, dict))

    read = (read_item(each, row=row, now=NOW) for row, each in enumerate(rows(), 1))
    made = write_snapshot(
        read,
        taken_at=NOW,
        footprints=folder / "footprints.parquet",
        set_aside=folder / "set_aside.parquet",
        scratch=folder,
    )
    # random images, the same in every run
    gone = np.random.default_rng(6).choice(made.drawable, ADDED, replace=False)
    table = pl.scan_parquet(folder / "footprints.parquet").with_row_index("row")
    few = table.filter(~pl.col("row").is_in(gone.tolist())).drop("row")
    few.sink_parquet(folder / "without.parquet", row_group_size=8192)
    (folder / "bounds.json").write_text(json.dumps(made.bounds))
    for name in ("footprints.sqlite", *(each.name for each in folder.glob("part-*"))):
        (folder / name).unlink()
    return made.drawable


def measure(case: str, folder: Path, plain_zoom: int) -> dict[str, Any]:
    asked = ["--only", case, "--folder", str(folder), "--plain-zoom", str(plain_zoom)]
    answer = subprocess.run(
        [sys.executable, __file__, *asked], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    figures: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return figures


def plain(folder: Path, zoom_max: int) -> dict[str, Any]:
    from PIL import Image
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import write
    from rasterio.features import rasterize
    from rasterio.transform import from_bounds

    from oam_mosaic_assets.core.grid import project

    clock, tiles = pipeline.Clock(), 0
    content = pl.read_parquet(folder / "footprints.parquet", columns=["geometry"])["geometry"]
    parts = shapely.get_parts(project(shapely.from_wkb(content.to_numpy()), 0))
    tree = shapely.STRtree(parts)
    west, north, east, south = shapely.total_bounds(parts)
    with write(str(folder / "plain.pmtiles")) as writer:
        for zoom in range(zoom_max + 1):
            side = 1 << zoom
            listed = sorted(
                (zxy_to_tileid(zoom, x, y), x, y)
                for x in range(int(west * side), min(int(east * side), side - 1) + 1)
                for y in range(int(north * side), min(int(south * side), side - 1) + 1)
            )
            for tile_id, x, y in listed:
                box = shapely.box(x / side, y / side, (x + 1) / side, (y + 1) / side)
                met = tree.query(box, predicate="intersects")
                if len(met):
                    bounds = from_bounds(x / side, y / side, (x + 1) / side, (y + 1) / side, 256, 256)
                    burnt = rasterize(
                        parts[met], (256, 256), transform=bounds, all_touched=True, dtype="uint8"
                    )[::-1]
                    picture = Image.fromarray(burnt, "P")
                    picture.putpalette([0, 0, 0, 128, 128, 128])
                    encoded = BytesIO()
                    picture.save(encoded, "PNG", transparency=bytes([0, 102]), bits=1)
                    writer.write_tile(tile_id, encoded.getvalue())
                    tiles += 1
        header = {
            "tile_type": TileType.PNG,
            "tile_compression": Compression.NONE,
            "min_lon_e7": -1_800_000_000,
            "min_lat_e7": -850_000_000,
            "max_lon_e7": 1_800_000_000,
            "max_lat_e7": 850_000_000,
            "center_zoom": 0,
            "center_lon_e7": 0,
            "center_lat_e7": 0,
        }
        writer.finalize(header, {})
    return figures_of(clock, folder / "plain.pmtiles", tiles)


def ours(
    folder: Path, way: str, zoom_max: int, *, table: str = "footprints", before: str | None = None, **how: Any
) -> dict[str, Any]:
    from oam_mosaic_assets.core.coverage import CoveragePlan
    from oam_mosaic_assets.core.splice import Before
    from oam_mosaic_assets.gateways.coverage import Shown, make_coverage

    clock = pipeline.Clock()
    shown = Shown(
        folder / f"{table}.parquet", "snapshot", tuple(json.loads((folder / "bounds.json").read_text()))
    )
    public: Before | str = "a benchmark wants it"
    if before:
        public = Before(
            build=before, archive=folder / f"{before}.pmtiles", footprints=folder / f"{before}.parquet"
        )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        archive = Path(scratch) / "archive.pmtiles"
        made = make_coverage(CoveragePlan(way=way, zoom_max=zoom_max), shown, archive, before=public, **how)
        figures = figures_of(clock, archive, made.tiles_made + made.tiles_reused)
        archive.rename(folder / f"{table}.pmtiles")
    return figures | {"made": made.tiles_made}


def added(folder: Path) -> dict[str, Any]:
    """Build on an archive that lacks some images, and check that the bytes are those of a full build."""
    anew = (folder / "footprints.pmtiles").read_bytes()
    ours(folder, "exact", 15, table="without")
    figures = ours(folder, "exact", 15, before="without")
    assert (folder / "footprints.pmtiles").read_bytes() == anew
    return figures


def audit(folder: Path, way: str) -> dict[str, Any]:
    from oam_mosaic_assets.core.coverage import CoveragePlan
    from oam_mosaic_assets.core.coverage_audit import examine_coverage

    clock, archive = pipeline.Clock(), folder / "footprints.pmtiles"
    bounds = tuple(json.loads((folder / "bounds.json").read_text()))
    verdicts = examine_coverage(
        archive,
        folder / "footprints.parquet",
        CoveragePlan(way=way),
        snapshot="snapshot",
        extent=bounds,
    )
    assert all(each.passed for each in verdicts), verdicts
    return figures_of(clock, archive, verdicts[0].numbers["tiles"])


def figures_of(clock: pipeline.Clock, archive: Path, tiles: int) -> dict[str, Any]:
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return clock.read(archive=archive.stat().st_size, tiles=tiles, child_mib=children)


CASES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "plain way": plain,
    "exact, as deep as the plain way": lambda folder, zoom: ours(folder, "exact", zoom),
    "exact": lambda folder, _: ours(folder, "exact", 15),
    "audit of exact": lambda folder, _: audit(folder, "exact"),
    "exact, some images added": lambda folder, _: added(folder),
    "whole": lambda folder, _: ours(folder, "whole", 15),
    "audit of whole": lambda folder, _: audit(folder, "whole"),
}


def show(case: str, figures: dict[str, Any]) -> None:
    print(
        f"{case:<32}{figures['cpu']:>9.2f} s CPU{figures['wall']:>9.2f} s{figures['python_mib']:>7.0f} MiB"
        f"{figures['child_mib']:>6.0f} MiB{figures['archive']:>13,} B{figures['tiles']:>12,} tiles",
        flush=True,
    )


if __name__ == "__main__":
    main()

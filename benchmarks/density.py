"""What the density grid costs: counting against a plain loop, and the archive against tippecanoe's.

    python benchmarks/density.py ITEMS.ndjson.gz [--images N] [--stages …] [--json FILE]

Each stage runs in its own process; figures are wall and CPU seconds and peak memory. `count` is the work of
polars, from the footprints' columns to the counts of all cells of 14 zooms; `loop` does the same with a loop
over images, zooms and kinds. `tables` adds extents, newest images and covered ground, `archive` writes the
tiles, `tippecanoe` makes tiles of the same cells, and `audit` reads everything back. `before` makes it all as
of the day after the newest image; on top of that, `twenty` rebuilds after 20 images in three places have
moved, and `day` after a day has passed: both reuse the rest. `--images` repeats the catalogue, shifted, until
there are that many.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import shapely

TAKEN_AT = datetime(2026, 1, 15, 3, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=Path, help="newline-delimited STAC items, plain or gzip")
    parser.add_argument("--images", type=int, help="repeat the catalogue until there are so many")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=[*STAGES], help="only these")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--only", choices=STAGES, help=argparse.SUPPRESS)
    stated = parser.parse_args()
    if stated.only:
        print(json.dumps(measured(STAGES[stated.only], stated.items)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(stated.items, folder, stated.images)
        figures: dict[str, Any] = {stage: in_a_process(stage, folder) for stage in stated.stages}
        figures["bytes"] = {each.name: each.stat().st_size for each in sorted(folder.glob("*.p*"))}
    print(json.dumps(figures, indent=2))
    if {"loop", "count"} <= figures.keys():
        ratio = figures["loop"]["cpu"] / figures["count"]["cpu"]
        images = figures["count"]["images"]
        print(f"the loop takes {ratio:.1f} times the CPU seconds of polars for {images:,} images")
    if stated.json:
        stated.json.write_text(json.dumps(figures, indent=2) + "\n")


def in_a_process(stage: str, folder: Path) -> dict[str, Any]:
    program = [sys.executable, __file__, str(folder), "--only", stage]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{stage}: {found}", file=sys.stderr, flush=True)
    return found


def measured(stage: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    start = time.perf_counter()
    found = stage(folder)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        **found,
        "wall": found.get("wall", round(time.perf_counter() - start, 2)),
        "cpu": found.get("cpu", round(sum(each.ru_utime + each.ru_stime for each in used), 2)),
        "MiB": max(each.ru_maxrss for each in used) // 1024,
    }


def prepare(items: Path, folder: Path, images: int | None) -> None:
    """Write the footprints, as the asset `stac_footprints` does."""
    from oam_mosaic_assets.core.footprint import read_item
    from oam_mosaic_assets.core.snapshot import write_snapshot

    opened = gzip.open if items.suffix == ".gz" else open
    footprints = folder / "footprints.parquet"
    with opened(items, "rb") as lines, tempfile.TemporaryDirectory() as scratch:  # type: ignore[operator]
        rows = (read_item(json.loads(line), row=row, now=TAKEN_AT) for row, line in enumerate(lines, 1))
        write_snapshot(
            rows,
            taken_at=TAKEN_AT,
            footprints=footprints,
            set_aside=Path(scratch, "set_aside.parquet"),
            scratch=Path(scratch),
        )
        if images:
            repeat(footprints, images, Path(scratch))


def repeat(footprints: Path, images: int, scratch: Path) -> None:
    """Repeat the catalogue, each time up to four degrees away, until there are `images`."""
    whole, chance, parts, made = pl.read_parquet(footprints), random.Random(1), [], 0  # noqa: S311  # the same every time
    areas = shapely.from_wkb(whole["geometry"].to_numpy())
    while made < images:
        east, north = chance.uniform(-4.0, 4.0), chance.uniform(-4.0, 4.0)
        moved = shapely.transform(areas, lambda points, by=(east, north): points + np.array(by))
        rows = whole.with_columns(
            pl.Series("geometry", shapely.to_wkb(moved)),
            pl.format("{}-{}", pl.col("id"), pl.lit(len(parts))).alias("id"),
        )[: images - made]
        parts.append(scratch / f"part-{len(parts)}.parquet")
        rows.write_parquet(parts[-1], row_group_size=8192)
        made += len(rows)
    pl.scan_parquet(parts).sink_parquet(footprints, row_group_size=8192, engine="streaming")


def count(folder: Path) -> dict[str, Any]:
    from oam_mosaic_assets.core.density import COLUMNS, cells_above, cells_by_zoom, placed
    from oam_mosaic_assets.core.density_spool import PlacedImages
    from oam_mosaic_assets.core.snapshot import read_batches

    images, counts = PlacedImages(folder), 0
    batches = read_batches(folder / "footprints.parquet", COLUMNS)
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        areas = shapely.from_wkb(batch["geometry"].to_numpy())
        images.add(placed(batch, areas, taken_at=TAKEN_AT))
    placing = time.perf_counter() - wall
    sheets = []
    for _, _, some in images.by_sheets():
        for _, cells, kinds in cells_by_zoom(some, 2):
            counts += len(kinds) + len(cells)
        sheets.append((cells, kinds))
    cells, kinds = (pl.concat(each) for each in zip(*sheets, strict=True))
    for _ in range(2):
        cells, kinds = cells_above(cells, kinds)
        counts += len(kinds) + len(cells)
    return {
        "images": images.images,
        "counts": counts,
        "wall": round(time.perf_counter() - wall, 2),
        "of it counting": round(time.perf_counter() - wall - placing, 2),
        "cpu": round(time.process_time() - cpu, 2),
    }


def loop(folder: Path) -> dict[str, Any]:
    """The same counts with a loop."""
    from oam_mosaic_assets.core.density import COLUMNS

    rows = pl.read_parquet(folder / "footprints.parquet", columns=list(COLUMNS))
    wall, cpu, counts = time.perf_counter(), time.process_time(), Counter[tuple[int, int, int, str]]()
    for row in rows.iter_rows(named=True):
        middle = shapely.from_wkb(row["geometry"]).centroid
        x = middle.x / 360.0 + 0.5
        y = (1.0 - math.asinh(math.tan(math.radians(middle.y))) / math.pi) / 2.0
        kinds = kinds_of(row)
        for zoom in range(14):
            side = 1 << zoom + 4
            cell = (zoom, min(int(x * side), side - 1), min(int(y * side), side - 1))
            for kind in kinds:
                counts[*cell, kind] += 1
    return {
        "counts": len(counts),
        "wall": round(time.perf_counter() - wall, 2),
        "cpu": round(time.process_time() - cpu, 2),
    }


def kinds_of(row: dict[str, Any]) -> list[str]:
    platform, licence, gsd, day = row["platform"], row["license"], row["gsd"], row["acquired_to"]
    kinds = [
        "count",
        {"uav": "uav", "drone": "uav", "satellite": "satellite"}.get((platform or "").lower(), "aircraft"),
    ]
    parts = (licence or "").lower().split("-")
    kinds += [each for each in ("nc", "sa", "by") if each in parts][:1]
    if gsd is not None:
        kinds.append("lt_05" if gsd < 0.5 else "05_2" if gsd <= 2.0 else "2_10" if gsd <= 10.0 else "gt_10")
    if day is not None:
        kinds.append(str(day.year))
        kinds += [f"{days}d" for days in (7, 30) if (TAKEN_AT - day).days < days]
    return kinds


def tables(folder: Path) -> dict[str, Any]:
    from oam_mosaic_assets.core.density_tables import DensityTables, write_density

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        found = write_density(
            folder / "footprints.parquet",
            DensityTables.within(folder),
            taken_at=TAKEN_AT,
            scratch=Path(scratch),
        )
    return {"cells": found.cells, "area_km2": round(found.area_km2), "covered_km2": round(found.covered_km2)}


def metadata_of(folder: Path) -> dict[str, Any]:
    from oam_mosaic_assets.core.density import years_of
    from oam_mosaic_assets.core.density_tiles import density_metadata

    images = pl.scan_parquet(folder / "footprints.parquet").select(pl.len()).collect().item()
    years = years_of(pl.scan_parquet(folder / "density_kinds.parquet"))
    taken_at = TAKEN_AT.isoformat()
    return density_metadata(snapshot="", taken_at=taken_at, images=images, excluded={}, years=years)


def archive(folder: Path) -> dict[str, Any]:
    from oam_mosaic_assets.core.density_tables import DensityTables
    from oam_mosaic_assets.core.density_tiles import write_density_archive

    target = folder / "ours.pmtiles"
    tables = DensityTables.within(folder)
    write_density_archive(tables, target, metadata=metadata_of(folder), scratch=folder)
    return {"bytes": target.stat().st_size}


def tippecanoe(folder: Path) -> dict[str, Any]:
    """The same features, tiled by tippecanoe."""
    from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe

    lines, target = folder / "cells.geojsonl", folder / "theirs.pmtiles"
    with lines.open("w") as written:
        written.writelines(f"{json.dumps(each)}\n" for each in features(folder))
    program = [str(find_tippecanoe()), f"--output={target}", "--layer=density", "--maximum-zoom=13"]
    kept = [
        "--no-feature-limit",
        "--no-tile-size-limit",
        "--no-tiny-polygon-reduction",
        "--no-line-simplification",
    ]
    quiet = ["--preserve-input-order", "--read-parallel", "--quiet", f"--temporary-directory={folder}"]
    subprocess.run([*program, *kept, *quiet, "--drop-rate=1", str(lines)], check=True)
    return {"bytes": target.stat().st_size, "bytes of GeoJSON": lines.stat().st_size}


def features(folder: Path) -> Iterator[dict[str, Any]]:
    from pmtiles.tile import tileid_to_zxy

    from oam_mosaic_assets.core.archive import open_archive
    from oam_mosaic_assets.core.vector_tile import POLYGON, read_layers

    with open_archive(folder / "ours.pmtiles") as opened:
        for directory in opened.directories():
            for tile_id, offset, length in zip(
                directory.tile_id, directory.offset, directory.length, strict=True
            ):
                zoom, x, y = tileid_to_zxy(int(tile_id))
                (layer,) = read_layers(opened.tile(int(tile_id), int(offset), int(length)))
                values = [getattr(each, each.WhichOneof("kind")) for each in layer.stated]
                for feature in layer.features:
                    tags = feature.tags
                    named = {layer.keys[k]: values[v] for k, v in zip(tags[::2], tags[1::2], strict=True)}
                    column, row = ((each >> 1) / 4096.0 for each in feature.geometry[1:3])
                    west, north = _degrees(x + column, y + row, zoom)
                    shape: dict[str, Any] = {"type": "Point", "coordinates": [west, north]}
                    if feature.type == POLYGON:
                        east, south = _degrees(x + column + 1 / 16, y + row + 1 / 16, zoom)
                        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
                        shape = {"type": "Polygon", "coordinates": [ring]}
                    limits = {"minzoom": zoom, "maxzoom": zoom}
                    yield {"type": "Feature", "tippecanoe": limits, "properties": named, "geometry": shape}


def _degrees(x: float, y: float, zoom: int) -> tuple[float, float]:
    side = 1 << zoom
    return x / side * 360.0 - 180.0, math.degrees(math.atan(math.sinh(math.pi * (1.0 - 2.0 * y / side))))


def audit(folder: Path) -> dict[str, Any]:
    from oam_mosaic_assets.core.density_audit import examine_density

    images = metadata_of(folder)["images"]
    found = examine_density(
        folder / "ours.pmtiles",
        folder / "footprints.parquet",
        snapshot="",
        taken_at=TAKEN_AT.isoformat(),
        excluded={},
        catalogued=images,
    )
    return {"passed": [each.passed for each in found]}


def newest(folder: Path) -> datetime:
    last = pl.scan_parquet(folder / "footprints.parquet").select(pl.max("acquired_to")).collect().item()
    assert isinstance(last, datetime)
    return last


def before(folder: Path) -> dict[str, Any]:
    return followed(folder, folder / "footprints.parquet", newest(folder) + timedelta(days=1), "before")


def twenty(folder: Path) -> dict[str, Any]:
    rows, chance = pl.read_parquet(folder / "footprints.parquet"), random.Random(1)  # noqa: S311
    areas = shapely.from_wkb(rows["geometry"].to_numpy())
    tree, moved = shapely.STRtree(areas), set[int]()
    for place in chance.sample(range(len(areas)), 3):
        near = tree.query(areas[place].centroid.buffer(2.0))
        moved |= {*near[np.argsort(shapely.distance(areas[near], areas[place]))][:7].tolist()}
    which = np.array(sorted(moved)[:20])
    areas[which] = shapely.transform(areas[which], lambda points: points + 0.01)
    digests = rows["digest"].to_list()
    for each in which.tolist():
        digests[each] = bytes(reversed(digests[each]))
    now = folder / "twenty.parquet"
    changed = pl.Series("geometry", shapely.to_wkb(areas)), pl.Series("digest", digests)
    rows.with_columns(*changed).write_parquet(now, row_group_size=8192)
    return followed(folder, now, newest(folder) + timedelta(days=1), "twenty")


def day(folder: Path) -> dict[str, Any]:
    return followed(folder, folder / "footprints.parquet", newest(folder) + timedelta(days=2), "day")


def followed(folder: Path, footprints: Path, taken_at: datetime, name: str) -> dict[str, Any]:
    """Make and audit all of it; every stage but `before` reuses what that one made."""
    from oam_mosaic_assets.core.density import years_of
    from oam_mosaic_assets.core.density_audit import examine_density
    from oam_mosaic_assets.core.density_changes import changed_sheets
    from oam_mosaic_assets.core.density_tables import DensityTables, TakenOver, write_density
    from oam_mosaic_assets.core.density_tiles import DensityBefore, density_metadata, write_density_archive
    from oam_mosaic_assets.core.splice import Before

    target, was = folder / name, folder / "before"
    target.mkdir()
    tables, archive = DensityTables.within(target), target / "ours.pmtiles"
    images = pl.scan_parquet(footprints).select(pl.len()).collect().item()
    clock, found = Clock(), {"images": images}
    grid = over = audited = None
    if name != "before":
        then = newest(folder) + timedelta(days=1)
        _, changed = changed_sheets(folder / "footprints.parquet", footprints, then=then, taken_at=taken_at)
        kept = DensityTables.within(was)
        over, grid = TakenOver(kept, changed), DensityBefore(was / "ours.pmtiles", kept)
        audited = Before(
            build="before", archive=was / "ours.pmtiles", footprints=folder / "footprints.parquet"
        )
        found["sheets"] = int(changed.sum())
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write_density(footprints, tables, taken_at=taken_at, scratch=Path(scratch), taken_over=over)
    found |= clock.since("counting")
    said: dict[str, Any] = {
        "snapshot": "",
        "taken_at": taken_at.isoformat(),
        "excluded": {},
    }
    metadata = density_metadata(**said, images=images, years=years_of(pl.scan_parquet(tables.kinds)))
    made, _ = write_density_archive(tables, archive, metadata=metadata, scratch=target, before=grid)
    found |= {"tiles made": made, **clock.since("tiles")}
    verdicts = examine_density(archive, footprints, **said, catalogued=images, before=audited)
    assert all(each.passed for each in verdicts), verdicts
    return found | clock.since("audit")


class Clock:
    """CPU seconds of this process, stage by stage."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def since(self, stage: str) -> dict[str, float]:
        spent, self.last = time.process_time() - self.last, time.process_time()
        return {f"{stage}, cpu": round(spent, 2)}


STAGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "count": count,
    "loop": loop,
    "tables": tables,
    "archive": archive,
    "tippecanoe": tippecanoe,
    "audit": audit,
    "before": before,
    "twenty": twenty,
    "day": day,
}

if __name__ == "__main__":
    main()

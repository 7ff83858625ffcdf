"""The audit of a density archive: every tile read as a map reads it, and held against a count anew.

The count anew goes from each image to its cell at each zoom, and adds nothing up from zoom to zoom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import shapely

from oam_mosaic_assets.core.archive import Archive, BrokenArchive, is_vector, open_archive
from oam_mosaic_assets.core.audit import NAMED, Verdict
from oam_mosaic_assets.core.density import (
    COLUMNS,
    FINER,
    KIND_COLUMNS,
    SIDES,
    ZOOM_MAX,
    kind_name,
    no_images,
    placed,
)
from oam_mosaic_assets.core.density_reading import read_zooms
from oam_mosaic_assets.core.density_tables import DECIMALS
from oam_mosaic_assets.core.density_tiles import (
    DEGREE_DECIMALS,
    LAYER,
    MOMENT,
    density_metadata,
)
from oam_mosaic_assets.core.ground import cells_km2
from oam_mosaic_assets.core.snapshot import read_batches

DENSITY_CHECKS: Final[Mapping[str, str]] = {
    "archive_is_whole": "Every tile parses, and holds cells of the grid as polygon and point.",
    "archive_is_as_asked": "Header and metadata say what the contract says, of this snapshot.",
    "every_image_is_counted": "Counts add up to the footprints at each zoom, and with the excluded to all.",
    "cells_hold_what_lies_there": "Each cell says what a count anew of the footprints says.",
}
"""Names of the judgements, in the order they are made, and what each says."""


def examine_density(
    archive: Path,
    footprints: Path,
    *,
    snapshot: str,
    taken_at: str,
    excluded: Mapping[str, int],
    catalogued: int,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Judge an archive against the footprints that it counts.

    Args:
        snapshot: the digest of the snapshot.
        taken_at: its moment, ISO 8601.
        excluded: how many of the catalogue are counted nowhere, by reason.
        catalogued: images of the catalogue, all of them.
        on_progress: told now and then which share is done, 0 to 1.
    """
    images = _images(footprints, datetime.fromisoformat(taken_at))
    faults: list[str] = []
    sums: dict[int, int] = {}
    wrong: list[str] = []
    tiles = 0
    try:
        with open_archive(archive) as opened:
            whole_above = None
            for zoom, found, read in read_zooms(opened, faults):
                tiles += read
                cells, kinds = found.tables(zoom)
                sums[zoom] = int(cells["count"].sum())
                expected_cells, expected_kinds = _recount(images, zoom)
                wrong += _differing(zoom, cells.drop("covered"), expected_cells)
                wrong += _differing(zoom, kinds, expected_kinds)
                wrong += _uncovered(zoom, cells, whole_above)
                whole_above = cells
                on_progress((zoom + 1) / (ZOOM_MAX + 1))
            metadata = density_metadata(
                snapshot=snapshot,
                taken_at=taken_at,
                images=len(images),
                excluded=excluded,
                years=sorted(images["year"].drop_nulls().unique().to_list()),
            )
            return [
                _wholeness(faults, tiles),
                _as_asked(opened, metadata, tiles),
                _counted(sums, len(images), sum(excluded.values()), catalogued),
                _truth(wrong, sums),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _images(footprints: Path, taken_at: datetime) -> pl.DataFrame:
    found = [no_images()]
    for batch in read_batches(footprints, COLUMNS):
        areas = shapely.from_wkb(batch["geometry"].to_numpy())
        found.append(placed(batch, areas, taken_at=taken_at))
    return pl.concat(found, rechunk=True)


def _recount(images: pl.DataFrame, zoom: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the cells of a zoom should say, straight from the images."""
    here = images.with_columns(pl.col("cell") // 4 ** (ZOOM_MAX - zoom))
    cells = here.group_by("cell").agg(
        pl.len().cast(pl.Int64).alias("count"),
        *(pl.min(side).round(DEGREE_DECIMALS) for side in SIDES[:2]),
        *(pl.max(side).round(DEGREE_DECIMALS) for side in SIDES[2:]),
        pl.max("newest").dt.strftime(MOMENT),
    )
    by_kind = [
        here.filter(pl.col(kind).is_not_null())
        .group_by("cell", pl.col(kind).alias("kind"))
        .agg(pl.len().cast(pl.Int64).alias("count"))
        for kind in KIND_COLUMNS
    ]
    kinds = pl.concat(by_kind)
    named = {kind: kind_name(kind) for kind in kinds["kind"].unique().to_list()}
    kinds = kinds.with_columns(pl.col("kind").replace_strict(named, return_dtype=pl.String()))
    return cells.sort("cell"), kinds.sort("cell", "kind")


def _differing(zoom: int, found: pl.DataFrame, expected: pl.DataFrame) -> Iterator[str]:
    if found.equals(expected.select(found.columns)):
        return
    wrong = [
        one.join(other, on=found.columns, how="anti", nulls_equal=True)
        for one, other in ((found, expected), (expected, found))
    ]
    said, instead = (next(each.iter_rows(named=True), None) for each in wrong)
    yield f"z{zoom}: {max(map(len, wrong))} cells are not as counted anew, first {said}, not {instead}"


def _uncovered(zoom: int, cells: pl.DataFrame, above: pl.DataFrame | None) -> Iterator[str]:
    """Shares that cannot be: no share at all, or more of four cells than of the one that they make up."""
    if not cells["covered"].is_between(0.0, 1.0).all():
        yield f"z{zoom}: a covered share is not between 0 and 1"
    if above is None:
        return
    half = 0.5 * 10.0**-DECIMALS  # rounded away
    areas = [
        cells_km2(each["cell"].to_numpy(), at)
        for each, at in ((cells, zoom + FINER), (above, zoom + FINER - 1))
    ]
    least = cells.select(pl.col("cell") // 4, km2=(pl.col("covered") - half) * areas[0])
    most = above.select("cell", most=(pl.col("covered") + half) * areas[1])
    both = least.group_by("cell").agg(pl.sum("km2")).join(most, on="cell")
    if (both["km2"] > both["most"] * (1.0 + 1e-9)).any():
        yield f"z{zoom}: cells are covered where the one that holds them is not"


def _wholeness(faults: Sequence[str], tiles: int) -> Verdict:
    name = "archive_is_whole"
    if faults:
        return Verdict.failing(name, f"{len(faults)} tiles are broken, first {'; '.join(faults[:NAMED])}")
    return Verdict.passing(name, f"all {tiles:,} tiles hold cells of the grid", tiles=tiles)


def _as_asked(archive: Archive, metadata: Mapping[str, Any], tiles: int) -> Verdict:
    name, header = "archive_is_as_asked", archive.header
    expected = {
        "tile type": (is_vector(archive), True),
        "tile compression": (header["tile_compression"].name, "GZIP"),
        "zooms": ((header["min_zoom"], header["max_zoom"]), (0, ZOOM_MAX)),
        "addressed tiles": (header["addressed_tiles_count"], tiles),
        **{what: (archive.metadata.get(what), asked) for what, asked in metadata.items()},
    }
    wrong = [
        f"{what}: {found!r}, not {asked!r}" for what, (found, asked) in expected.items() if found != asked
    ]
    if wrong:
        return Verdict.failing(name, "; ".join(wrong))
    return Verdict.passing(name, f"z0-{ZOOM_MAX}, {tiles:,} tiles, layer {LAYER!r}")


def _counted(sums: Mapping[int, int], images: int, excluded: int, catalogued: int) -> Verdict:
    name, numbers = "every_image_is_counted", {"images": images, "excluded": excluded}
    wrong = [f"{count} at z{zoom}" for zoom in range(ZOOM_MAX + 1) if (count := sums.get(zoom, 0)) != images]
    if wrong:
        return Verdict.failing(name, f"of {images} images are counted: {', '.join(wrong)}", **numbers)
    if images + excluded != catalogued:
        text = f"{images} images are counted and {excluded} excluded, but the catalogue holds {catalogued}"
        return Verdict.failing(name, text, **numbers)
    text = f"all {images:,} images are counted once at each zoom; {excluded:,} are excluded"
    return Verdict.passing(name, text, **numbers)


def _truth(wrong: Sequence[str], sums: Mapping[int, int]) -> Verdict:
    name = "cells_hold_what_lies_there"
    if wrong:
        return Verdict.failing(name, "; ".join(wrong[:NAMED]))
    return Verdict.passing(name, f"the cells of {len(sums)} zooms say what a count anew says")

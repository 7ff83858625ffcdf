"""The audit of a density archive: every tile is read as a map reads it, and compared with a fresh count.

Where tiles were taken over, only those whose content may have changed are read; the others are compared byte
for byte with the archive they came from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oam_mosaic_assets.core.archive import Archive, BrokenArchive, is_vector, open_archive
from oam_mosaic_assets.core.audit import NAMED, Bounds, Verdict
from oam_mosaic_assets.core.density import FINER, ZOOM_MAX
from oam_mosaic_assets.core.density_reading import read_spans
from oam_mosaic_assets.core.density_recount import (
    Differences,
    bounds_of_cells,
    differences_between,
    placed_images,
    recounted,
)
from oam_mosaic_assets.core.density_spool import PlacedImages
from oam_mosaic_assets.core.density_tables import DECIMALS
from oam_mosaic_assets.core.density_tiles import LAYER, density_metadata
from oam_mosaic_assets.core.ground import SHEET_ZOOM, cells_km2
from oam_mosaic_assets.core.ground_audit import FEW, covered_again
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.takeover import differences, differing_tiles

DENSITY_CHECKS: Final[Mapping[str, str]] = {
    "archive_is_whole": "Every tile can be parsed, and holds cells of the grid as polygon and point.",
    "archive_is_as_asked": "Header and metadata follow the contract, and are those of this snapshot.",
    "every_image_is_counted": "Counts match the footprints at each zoom; with the excluded, the catalogue.",
    "cells_hold_what_lies_there": "Each cell matches a fresh count; some covered shares, the footprints.",
}
"""Names of the judgements, in the order they are made, and what each says."""

LOOKED_AT: Final = 4
"""Cells of each span whose covered share is worked out again, if it may have changed; chosen by digest."""


def examine_density(
    archive: Path,
    footprints: Path,
    *,
    snapshot: str,
    taken_at: str,
    excluded: Mapping[str, int],
    catalogued: int,
    before: Before | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Judge an archive against the footprints that it counts.

    Args:
        archive: the PMTiles archive.
        footprints: the GeoParquet.
        snapshot: the digest of the snapshot.
        taken_at: its moment, ISO 8601.
        excluded: how many images of the catalogue are counted nowhere, by reason.
        catalogued: how many images the catalogue has in all.
        before: the audited archive that tiles were taken over from; None reads all.
        on_progress: called now and then with the share done, 0 to 1.
    """
    try:
        with ExitStack() as held:
            opened = held.enter_context(open_archive(archive))
            folder = Path(held.enter_context(TemporaryDirectory(dir=archive.parent)))
            images = placed_images(footprints, datetime.fromisoformat(taken_at), _within(folder, "images"))
            case = _Case(opened, images, snapshot)
            if before is not None:
                case.follow(before, footprints, held.enter_context(open_archive(before.archive)), folder)
            case.read(on_progress)
            looked_at = case.cover(footprints)
            metadata = density_metadata(
                snapshot=snapshot,
                taken_at=taken_at,
                images=images.images,
                excluded=excluded,
                years=images.years(),
            )
            return [
                _wholeness(case.faults, case.tiles, before),
                _as_asked(opened, metadata, case.tiles, bounds_of_cells(images)),
                _counted(case.sums, images.images, sum(excluded.values()), catalogued),
                _truth(case.wrong, case.sums, looked_at, before),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _within(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


def _of(source: Source, tiles: Stretches) -> tuple[Source, Source]:
    """The source's entries for these tiles, and those for all others."""
    inside, outside = tiles.cut(source.entries)
    return Source(source.descriptor, inside), Source(source.descriptor, outside)


class _Case:
    """An archive while it is read, and what is found in it."""

    def __init__(self, archive: Archive, images: PlacedImages, snapshot: str) -> None:
        self.archive = archive
        self.images = images
        self.faults: list[str] = []
        self.wrong: list[str] = []
        self.tiles = 0
        self.sums: Counter[int] = Counter()
        self._changed: Differences | None = None
        self._were: dict[int, pl.DataFrame] = {}
        self._chance = np.random.default_rng([*snapshot.encode()])
        self._chosen: list[pl.DataFrame] = []

    def follow(self, before: Before, footprints: Path, archive: Archive, folder: Path) -> None:
        """Read only where something changed since; compare the rest byte for byte with what it was."""
        then = datetime.fromisoformat(archive.metadata["snapshot_taken_at"])
        images = placed_images(before.footprints, then, _within(folder, "before"))
        changed = differences_between(before.footprints, footprints, images, self.images)
        now, was = (Source.of_archive(each) for each in (self.archive, archive))
        elsewhere = [_of(each, changed.tiles)[1] for each in (now, was)]
        near = differing_tiles(*(_of(each, changed.rounded)[0] for each in elsewhere))
        tiles = Stretches.union([changed.tiles, near])
        self.faults += differences(now, was, besides=tiles)
        self.tiles += int(_of(now, tiles)[1].entries.run_length.sum())
        self._changed = replace(changed, tiles=tiles)
        # tiles taken over count as before: all images then, less those in the tiles that are read
        self.sums.update(dict.fromkeys(range(ZOOM_MAX + 1), images.images))
        for span in read_spans(archive, self.faults, tiles):
            cells, _ = span.found.tables(span.zoom)
            self.sums[span.zoom] -= int(cells["count"].sum())
            above = self._were.get(span.zoom, cells.clear()[["cell", "covered"]])
            self._were[span.zoom] = pl.concat([above, cells[["cell", "covered"]]])

    def read(self, on_progress: Callable[[float], None]) -> None:
        """Read the tiles, and compare them with a fresh count."""
        only = None if self._changed is None else self._changed.tiles
        above: list[pl.DataFrame] = []
        here: list[pl.DataFrame] = []
        zoom = 0
        for span in read_spans(self.archive, self.faults, only):
            if span.zoom > zoom:
                above, here, zoom = here, [], span.zoom
                on_progress(zoom / (ZOOM_MAX + 1))
            cells, kinds = span.found.tables(zoom)
            self.tiles += span.tiles
            self.sums[zoom] += int(cells["count"].sum())
            expected_cells, expected_kinds = recounted(self.images, span, only)
            self.wrong += _differing(zoom, cells.drop("covered"), expected_cells)
            self.wrong += _differing(zoom, kinds, expected_kinds)
            shares = cells[["cell", "covered"]]
            here.append(shares)
            self.wrong += _uncovered(zoom, shares, pl.concat(above) if above else None)
            stays = self._stays(zoom, shares)
            self.wrong += self._covered_otherwise(zoom, shares.filter(stays))
            few = shares.filter(~stays & (cells["count"] <= FEW).to_numpy())
            some = self._chance.choice(len(few), min(LOOKED_AT, len(few)), replace=False)
            self._chosen.append(few[some].with_columns(zoom=zoom))

    def cover(self, footprints: Path) -> int:
        """Work out the covered shares of some cells again, and return of how many."""
        some = pl.concat(self._chosen)
        if not len(some):
            return 0
        found = covered_again(footprints, some["zoom"].to_numpy() + FINER, some["cell"].to_numpy())
        # beyond the rounding of what is stated, areas are accurate to some seven digits
        differs = np.abs(some["covered"].to_numpy() - found) > 10.0**-DECIMALS
        for which in np.flatnonzero(differs).tolist():
            said = some.row(which, named=True)
            self.wrong.append(
                f"z{said['zoom']}: images cover {found[which]:.{DECIMALS}f} of cell {said['cell']}, "
                f"not {said['covered']}"
            )
        return int((~np.isnan(found)).sum())

    def _stays(self, zoom: int, cells: pl.DataFrame) -> NDArray[np.bool_]:
        """For each cell, whether no image changed that covers part of its sheets."""
        if self._changed is None:
            return np.zeros(len(cells), np.bool_)
        below = 2 * (zoom + FINER - SHEET_ZOOM)
        # for a cell that is larger than a sheet, whether any sheet in it changed
        ground = np.logical_or.reduce(self._changed.ground.reshape(-1, 1 << max(-below, 0)), axis=1)
        stays: NDArray[np.bool_] = ~ground[cells["cell"].to_numpy() >> max(below, 0)]
        return stays

    def _covered_otherwise(self, zoom: int, cells: pl.DataFrame) -> Iterator[str]:
        """Covered shares that changed although they cannot have."""
        if not len(cells):
            return
        both = cells.join(self._were[zoom], on="cell", suffix="_before")
        changed = both.filter(pl.col("covered") != pl.col("covered_before"))
        if len(changed):
            yield f"z{zoom}: {len(changed)} cells have another covered share, but no image there changed"


def _differing(zoom: int, found: pl.DataFrame, expected: pl.DataFrame) -> Iterator[str]:
    if found.equals(expected.select(found.columns)):
        return
    wrong = [
        one.join(other, on=found.columns, how="anti", nulls_equal=True)
        for one, other in ((found, expected), (expected, found))
    ]
    said, instead = (next(each.iter_rows(named=True), None) for each in wrong)
    yield f"z{zoom}: {max(map(len, wrong))} cells differ from a fresh count, first {said}, not {instead}"


def _uncovered(zoom: int, cells: pl.DataFrame, above: pl.DataFrame | None) -> Iterator[str]:
    """Impossible shares: not between 0 and 1, or more area in four cells than in the one they make up."""
    if not cells["covered"].is_between(0.0, 1.0).all():
        yield f"z{zoom}: a covered share is not between 0 and 1"
    if above is None:
        return
    half = 0.5 * 10.0**-DECIMALS  # may be lost in rounding
    areas = [
        cells_km2(each["cell"].to_numpy(), at)
        for each, at in ((cells, zoom + FINER), (above, zoom + FINER - 1))
    ]
    least = cells.select(pl.col("cell") // 4, km2=(pl.col("covered") - half) * areas[0])
    most = above.select("cell", most=(pl.col("covered") + half) * areas[1])
    both = least.group_by("cell").agg(pl.sum("km2")).join(most, on="cell")
    if (both["km2"] > both["most"] * (1.0 + 1e-9)).any():
        yield f"z{zoom}: cells cover more ground than the one that contains them"


def _wholeness(faults: Sequence[str], tiles: int, before: Before | None) -> Verdict:
    name = "archive_is_whole"
    if faults:
        return Verdict.failing(name, f"{len(faults)} faults, first {'; '.join(faults[:NAMED])}")
    taken_over = "" if before is None else f", or are byte for byte those of {before.build}"
    return Verdict.passing(name, f"all {tiles:,} tiles hold cells of the grid{taken_over}", tiles=tiles)


def _as_asked(archive: Archive, metadata: Mapping[str, Any], tiles: int, bounds: Bounds) -> Verdict:
    name, header = "archive_is_as_asked", archive.header
    expected = {
        "tile type": (is_vector(archive), True),
        "tile compression": (header["tile_compression"].name, "GZIP"),
        "zooms": ((header["min_zoom"], header["max_zoom"]), (0, ZOOM_MAX)),
        "clustered": (header["clustered"], True),
        "bounds": (archive.bounds, tuple(round(each, 7) for each in bounds)),
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
        return Verdict.failing(
            name, f"there are {images} images, but {', '.join(wrong)} are counted", **numbers
        )
    if images + excluded != catalogued:
        text = f"{images} images are counted and {excluded} excluded, but the catalogue holds {catalogued}"
        return Verdict.failing(name, text, **numbers)
    text = f"all {images:,} images are counted once at each zoom; {excluded:,} are excluded"
    return Verdict.passing(name, text, **numbers)


def _truth(wrong: Sequence[str], sums: Mapping[int, int], looked_at: int, before: Before | None) -> Verdict:
    name = "cells_hold_what_lies_there"
    if wrong:
        return Verdict.failing(name, "; ".join(wrong[:NAMED]))
    where = "" if before is None else " where something changed"
    shares = f", and the covered shares of {looked_at} of them match the footprints" if looked_at else ""
    return Verdict.passing(name, f"the cells of {len(sums)} zooms match a fresh count{where}{shares}")

"""The audit of an archive that takes over tiles from an audited one: unchanged tiles are not decoded again.

Every tile where nothing changed is compared with the one before, byte for byte. The others are decoded, and
so are those of some images chosen by digest, in case the comparison of the snapshots went wrong. The tiles
that a change reaches are determined with `placement`, not with the code that chose which tiles to draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import Final

import numpy as np

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.archive import Archive, BrokenArchive, open_archive
from oam_mosaic_assets.core.aside import Aside, here
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.changes import WIDENED, Changes, changes_between, deepest_zooms
from oam_mosaic_assets.core.directory import Directory, Numbers, joined
from oam_mosaic_assets.core.drawn import Drawn, read_drawn
from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.image_ids import ImageIds
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.placement import (
    chosen_by_digest,
    places_of,
    tiles_reached,
)
from oam_mosaic_assets.core.said import said_of
from oam_mosaic_assets.core.snapshot import Names, areas_of, as_drawn
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.takeover import differences
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.core.truth import Changed, LowZoom, examine_low_zooms

SAMPLED: Final = 50
"""Images that are checked at the last zoom whether they changed or not; chosen by digest."""

WORTH_ASIDE: Final = 4096
"""With fewer tiles in which something may have changed, a process takes longer to start than it saves."""

OUTLINED: Final = 20
"""Changed images whose outlines are compared at the zooms before the last, chosen by digest."""


def reexamine(
    archive: Path,
    footprints: Path,
    plan: TilingPlan,
    before: Before,
    *,
    snapshot: str,
    extent: audit.Bounds,
    aside: Aside = here,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Judge an archive as `examination.examine` does, and reach the same verdicts.

    Args:
        archive: the PMTiles archive.
        footprints: the GeoParquet that it shows.
        plan: the plan of the archive and of the audited one before it.
        before: the build that tiles were taken over from.
        snapshot: the digest of the snapshot.
        extent: the bounds of all its footprints.
        aside: runs part of the work, less than half of it.
        on_progress: called after each zoom with the share of zooms that are done, 0 to 1.
    """
    names = Names(footprints)
    changes = changes_between(before.footprints, footprints, plan.columns)
    try:
        with open_archive(archive) as now, open_archive(before.archive) as then:
            if (now.header["min_zoom"], now.header["max_zoom"]) != (plan.zoom_min, plan.zoom_max):
                return [Verdict.failing("archive_is_as_asked", "its zooms are not those planned")]
            reading = _Reading(now, names, footprints, plan, changes, snapshot)
            changed = Changed(reading.affected, changes.names)
            begun = aside if len(reading.affected) >= WORTH_ASIDE else here
            of_low_zooms = begun(_low_zooms, archive, footprints, plan, changed)
            faults = differences(
                *(Source.of_archive(each, archive.parent) for each in (now, then)), besides=reading.affected
            )
            found, undrawn, placed = reading.seen(on_progress)
            low_zooms = of_low_zooms()
            drawn = reading.together(found, {each.zoom: each.to_draw for each in low_zooms})
            verdicts = [reading.completeness(drawn, undrawn), audit.first_failure(placed)]
            return [
                _wholeness(drawn, faults, before.build),
                audit.judge_header(now, plan, snapshot, drawn, extent=extent),
                *verdicts,
                audit.judge_low_zooms(low_zooms),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _low_zooms(archive: Path, footprints: Path, plan: TilingPlan, changed: Changed) -> list[LowZoom]:
    with open_archive(archive) as opened:
        return examine_low_zooms(opened, footprints, plan, changed)


def _wholeness(drawn: Drawn, faults: Sequence[str], build: str) -> Verdict:
    verdict = audit.judge_wholeness(drawn)
    if faults and verdict.passed:
        text = f"it differs from {build} where nothing changed: {'; '.join(faults)}"
        return Verdict.failing(verdict.name, text)
    if verdict.passed:
        return replace(verdict, text=f"{verdict.text}, or are byte for byte those of {build}")
    return verdict


class _Reading:
    """One archive, read where something changed and where the images chosen by digest lie."""

    def __init__(
        self,
        archive: Archive,
        names: Names,
        footprints: Path,
        plan: TilingPlan,
        changes: Changes,
        snapshot: str,
    ) -> None:
        self.names, self.footprints, self.plan = names, footprints, plan
        self.ids = ImageIds(names)
        self.changed = np.sort(self.ids.find([*changes.names]))
        sampled = np.array(chosen_by_digest(names, snapshot, SAMPLED), np.int64)
        self.read_drawn = partial(
            read_drawn,
            archive,
            layer=plan.layer,
            fields=plan.fields,
            whole=plan.whole,
            said=said_of(footprints, plan, [*names[np.union1d(self.changed, sampled)]]),
            scratch=archive.path.parent,
        )
        self.outlined = dict.fromkeys(range(plan.whole_from, plan.zoom_max), self._some(OUTLINED, snapshot))
        self.outlined[plan.zoom_max] = np.union1d(sampled, self._some(audit.COMPARED_OUTLINES, snapshot))
        self.zooms = range(plan.whole_from, plan.zoom_max + 1)
        self.affected = self._reached(changes.areas)
        reached = [
            tiles_reached(as_drawn(areas, plan.thinnest), plan.zoom_max)
            for _, areas in areas_of(footprints, sampled)
        ]
        self.looked_at = Stretches.of(np.concatenate([self.affected.tile_ids, *reached]))
        self.tiles, parts = Counter[int](), list[Directory]()
        for zoom, directories in archive.by_zoom():
            for each in directories:
                self.tiles[zoom] += int(each.run_length.sum())
                parts.append(self.looked_at.cut(each)[0])
        self.entries = joined(parts)

    def _some(self, count: int, snapshot: str) -> Numbers:
        """Up to `count` of the images that changed, chosen by digest."""
        some: Numbers = self.changed[chosen_by_digest(self.names[self.changed], snapshot, count)]
        return some

    def seen(self, on_progress: Callable[[float], None]) -> tuple[list[Drawn], list[str], list[Verdict]]:
        """What each zoom draws, which changed images are missing, and whether images are in their place."""
        low, read = Stretches.of_zooms(0, self.plan.whole_from - 1).cut(self.entries)
        first = self.zooms[0]
        deepest = deepest_zooms(self.footprints, self.looked_at, self.plan, first)
        found = [self.read_drawn(ids=self.ids, entries=[low])]
        undrawn: list[str] = []
        placed = []
        for number, zoom in enumerate(self.zooms):
            drawn, nearby = self._read(read, zoom, np.flatnonzero(deepest >= zoom))
            found.append(drawn)
            is_drawn = np.zeros(len(self.names), np.bool_)
            if len(drawn.seen):
                is_drawn[nearby[drawn.seen]] = True
            missing = self.names[self.changed[~is_drawn[self.changed]]]
            undrawn += [f"{name} at z{zoom}" for name in missing]
            placed.append(self._placement(drawn, zoom, nearby))
            on_progress((number + 1) / len(self.zooms))
        return found, undrawn, placed

    def _read(self, read: Directory, zoom: int, images: Numbers) -> tuple[Drawn, Numbers]:
        """What the tiles of a zoom draw of these images, which are numbered by their position here."""
        of_zoom, _ = Stretches.of_zooms(zoom, zoom).cut(read)
        ids = ImageIds(self.names[images])
        outlined = np.flatnonzero(np.isin(images, self.outlined[zoom])).tolist()
        return self.read_drawn(
            ids=ids, outlined=outlined, entries=[of_zoom], zoom=zoom, in_order=True
        ), images

    def _placement(self, drawn: Drawn, zoom: int, images: Numbers) -> Verdict:
        thinnest = self.plan.thinnest_at(zoom)
        given = (as_drawn(areas, thinnest) for _, areas in areas_of(self.footprints, images))
        outlined = np.flatnonzero(np.isin(images, self.outlined[zoom])).tolist()
        places = places_of(given, drawn, zoom, outlined, within=self.looked_at)
        return audit.judge_placement(self.names[images], places, zoom)

    def _reached(self, areas: Geometries) -> Stretches:
        """The tiles of all zooms in which these areas may change anything."""
        reached = [np.zeros(0, np.int64)]
        for zoom in range(self.plan.zoom_min, self.plan.zoom_max + 1):
            given = as_drawn(areas, self.plan.thinnest_at(max(zoom, self.plan.whole_from)))
            reached.append(tiles_reached(given, zoom, 0.0 if zoom in self.zooms else WIDENED))
        return Stretches.of(np.concatenate(reached))

    def together(self, found: Sequence[Drawn], images: Mapping[int, int]) -> Drawn:
        """What is known about the whole archive; zooms that show all images count all of them.

        Args:
            found: what was found at each zoom.
            images: number of images to be drawn as themselves, by low zoom.
        """
        return replace(
            reduce(Drawn.then, found),
            tiles=self.tiles,
            images={**images, **dict.fromkeys(self.zooms, len(self.names))},
        )

    def completeness(self, drawn: Drawn, undrawn: Sequence[str]) -> Verdict:
        """Whether all images are drawn."""
        name = "every_image_is_drawn"
        by_zoom = {str(zoom): images for zoom, images in drawn.images.items()}
        if undrawn:
            first = list(undrawn[: audit.NAMED])
            text = f"{len(undrawn)} times an image that changed is not drawn, first {first}"
            return Verdict.failing(name, text, images_by_zoom=by_zoom)
        if drawn.strangers:
            strangers = sorted(drawn.strangers)[: audit.NAMED]
            text = f"{len(drawn.strangers)} ids are drawn where they have no image, first {strangers}"
            return Verdict.failing(name, text, images_by_zoom=by_zoom)
        text = f"all {len(self.names):,} images are drawn; {len(self.changed):,} changed and were looked for"
        return Verdict.passing(name, text, images_by_zoom=by_zoom)

"""The audit of an archive that takes over what did not change from an audited one.

Every tile where nothing changed is compared with the one before, byte for byte; in the others, so is every
feature of an image that did not change. What is drawn of those that changed is compared with the footprints,
and so are some images chosen by digest. That no other image changed is checked row by row, and the tiles that
a change reaches are determined with `placement`, not with the code that chose which tiles to draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np

from oam_mosaic_assets.core import audit
from oam_mosaic_assets.core.archive import Archive, BrokenArchive, of_one_zoom, open_archive
from oam_mosaic_assets.core.aside import Aside, here
from oam_mosaic_assets.core.audit import Verdict
from oam_mosaic_assets.core.changes import WIDENED, Changes, changes_between
from oam_mosaic_assets.core.directory import Directory, Numbers, joined
from oam_mosaic_assets.core.drawn import NOTHING_DRAWN, Drawn, read_drawn
from oam_mosaic_assets.core.grid import Geometries
from oam_mosaic_assets.core.image_ids import ImageIds
from oam_mosaic_assets.core.merging import Source
from oam_mosaic_assets.core.placement import (
    chosen_by_digest,
    comparable,
    outlines_of,
    places_of,
    tiles_reached,
)
from oam_mosaic_assets.core.retained import Side, differing_features, differing_rows
from oam_mosaic_assets.core.said import Said, said_of
from oam_mosaic_assets.core.snapshot import Names, areas_of, as_drawn
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.core.takeover import differences
from oam_mosaic_assets.core.tiling import TilingPlan
from oam_mosaic_assets.core.truth import Changed, LowZoom, examine_low_zooms

SAMPLED: Final = 50
"""Images that are checked at the last zoom whether they changed or not; chosen by digest."""

_TOGETHER: Final = 2**16
"""Entries of a directory that are looked at in one batch."""

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
        aside: does about half of the work.
        on_progress: called with the share of the work that is done here, 0 to 1.
    """
    changes = changes_between(before.footprints, footprints, plan.columns)
    try:
        with open_archive(archive) as now, open_archive(before.archive) as then:
            if (now.header["min_zoom"], now.header["max_zoom"]) != (plan.zoom_min, plan.zoom_max):
                return [Verdict.failing("archive_is_as_asked", "its zooms are not those planned")]
            all_now = Source.of_archive(now, archive.parent)
            reading = _Reading.of(now, all_now.entries, before.archive, footprints, plan, changes, snapshot)
            others = aside(_low_zooms_and_rows, reading)
            last = reading.seen(now, then, range(plan.whole_from, plan.zoom_max + 1))
            on_progress(0.7)
            all_then = Source.of_archive(then, archive.parent)
            faults = differences(all_now, all_then, besides=reading.affected)
            first, low_zooms = others()
            faults += first.differing + last.differing
            on_progress(1.0)
            drawn = reading.together([first, last], {each.zoom: each.to_draw for each in low_zooms})
            return [
                _wholeness(drawn, faults, before.build),
                audit.judge_header(now, plan, snapshot, drawn, extent=extent),
                reading.completeness(drawn, [*first.undrawn, *last.undrawn]),
                audit.first_failure([*first.placed, *last.placed]),
                audit.judge_low_zooms(low_zooms),
            ]
    except BrokenArchive as error:
        return [Verdict.failing("archive_is_whole", f"the archive is broken: {error}")]


def _wholeness(drawn: Drawn, faults: Sequence[str], build: str) -> Verdict:
    verdict = audit.judge_wholeness(drawn)
    if faults and verdict.passed:
        text = f"it differs from {build} where nothing changed: {'; '.join(faults)}"
        return Verdict.failing(verdict.name, text)
    if verdict.passed:
        return replace(verdict, text=f"{verdict.text}, or are byte for byte those of {build}")
    return verdict


class _Seen(NamedTuple):
    """What was found at some zooms.

    Attributes:
        drawn: what the tiles that were read draw.
        undrawn: the changed images that are missing, with the zoom.
        placed: for each zoom that shows all images, the verdict on the placement of some.
        differing: what is drawn otherwise of images that did not change, in words.
    """

    drawn: Drawn
    undrawn: list[str]
    placed: list[Verdict]
    differing: list[str]


def _low_zooms_and_rows(reading: _Reading) -> tuple[_Seen, list[LowZoom]]:
    plan, changed = reading.plan, Changed(reading.affected, reading.changes.names)
    with open_archive(reading.archive) as now, open_archive(reading.before) as then:
        seen = reading.seen(now, then, range(plan.zoom_min, plan.whole_from))
        found = examine_low_zooms(now, reading.footprints, plan, changed)
    others = differing_rows(*reading.changes.places, plan.columns)
    return seen._replace(differing=seen.differing + others), found


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """What is read of an archive: where something changed, and where the images chosen by digest lie.

    Attributes:
        archive: the archive.
        before: the one before.
        footprints: the GeoParquet that it shows.
        plan: what was asked for.
        changes: how the footprints differ from those before.
        affected: the tiles in which something may have changed.
        looked_at: those and the tiles of the images chosen by digest.
        entries: of the tiles to read.
        tiles: the number of all tiles in the archive, by zoom.
        sampled: indices of the images chosen by digest.
        outlined: indices of the images whose outlines are compared, by zoom.
        said: the properties of all these images.
    """

    archive: Path
    before: Path
    footprints: Path
    plan: TilingPlan
    changes: Changes
    affected: Stretches
    looked_at: Stretches
    entries: Directory
    tiles: Counter[int]
    sampled: Numbers
    outlined: Mapping[int, Numbers]
    said: Said

    @classmethod
    def of(
        cls,
        archive: Archive,
        placed: Directory,
        before: Path,
        footprints: Path,
        plan: TilingPlan,
        changes: Changes,
        snapshot: str,
    ) -> Self:
        """What to read of this archive, whose tiles are placed like this in its file, after these changes."""
        names, (_, (_, changed)) = Names(footprints), changes.places

        def some(count: int) -> Numbers:
            chosen: Numbers = changed[chosen_by_digest(names[changed], snapshot, count)]
            return chosen

        sampled = np.array(chosen_by_digest(names, snapshot, SAMPLED), np.int64)
        last = np.union1d(sampled, some(audit.COMPARED_OUTLINES))
        outlined = {
            **comparable(footprints, some(OUTLINED), plan, range(plan.zoom_min, plan.zoom_max)),
            **comparable(footprints, last, plan, [plan.zoom_max]),
        }
        affected = _reached(changes.areas, plan)
        reached = [
            tiles_reached(as_drawn(areas, plan.thinnest), plan.zoom_max)
            for _, areas in areas_of(footprints, sampled)
        ]
        looked_at = Stretches.of(np.concatenate([affected.tile_ids, *reached]))
        tiles, parts = Counter[int](), list[Directory]()
        batches = (placed[start : start + _TOGETHER] for start in range(0, len(placed), _TOGETHER))
        for zoom, each in of_one_zoom(batches):
            tiles[zoom] += int(each.run_length.sum())
            parts.append(looked_at.cut(each)[0])
        return cls(
            archive.path,
            before,
            footprints,
            plan,
            changes,
            affected,
            looked_at,
            joined(parts).shifted(-archive.header["tile_data_offset"]),
            tiles,
            sampled,
            outlined,
            said_of(footprints, plan, [*names[np.union1d(changed, sampled)]]),
        )

    @property
    def changed(self) -> Numbers:
        """Indices of the images that were added or altered."""
        _, (_, changed) = self.changes.places
        return changed

    def seen(self, now: Archive, then: Archive, zooms: range) -> _Seen:
        """What these zooms draw, which changed images are missing, and whether images are in their place."""
        names = Names(self.footprints)
        ids, drawn, undrawn, placed = ImageIds(names), NOTHING_DRAWN, list[str](), list[Verdict]()
        for zoom in zooms:
            is_low = zoom < self.plan.whole_from
            outlined = dict(zip(names[self.outlined[zoom]], self.outlined[zoom].tolist(), strict=True))
            entries, _ = Stretches.of_zooms(zoom, zoom).cut(self.entries)
            read = self._reader(now)
            found = read(ids=ids, outlined=outlined, entries=[entries], zoom=zoom, closely=not is_low)
            drawn = drawn.then(found)
            if is_low:
                placed.append(audit.judge_placement(names, outlines_of(self.footprints, found, zoom), zoom))
                continue
            # the tiles of the images chosen by digest are read at the last zoom
            some = np.union1d(self.changed, self.sampled) if zoom == self.plan.zoom_max else self.changed
            is_drawn = np.zeros(len(names), np.bool_)
            is_drawn[: len(found.seen)] = found.seen
            undrawn += [f"{name!r} at z{zoom}" for name in names[self.changed[~is_drawn[self.changed]]]]
            placed.append(self._placed(found, some, zoom))
        tiles = self.affected.common(Stretches.of_zooms(zooms.start, zooms.stop - 1))
        folder, (name, *_) = self.archive.parent, self.plan.properties
        come, gone = self.changes.names, self.changes.gone
        sides = Side.of(now, folder, tiles, come), Side.of(then, folder, tiles, gone)
        return _Seen(drawn.in_short(), undrawn, placed, differing_features(*sides, tiles, name))

    def _placed(self, drawn: Drawn, images: Numbers, zoom: int) -> Verdict:
        """Whether a zoom draws some images where they lie."""
        of_these = drawn.only(images, zoom)
        given = (
            as_drawn(areas, self.plan.thinnest_at(zoom)) for _, areas in areas_of(self.footprints, images)
        )
        outlined = np.flatnonzero(np.isin(images, self.outlined[zoom])).tolist()
        places = places_of(given, of_these, zoom, outlined, within=self.looked_at)
        which = f"the {len(images):,} images that changed or were chosen by digest"
        return audit.judge_placement(Names(self.footprints)[images], places, zoom, which=which)

    def _reader(self, archive: Archive) -> Callable[..., Drawn]:
        return partial(
            read_drawn,
            archive,
            layer=self.plan.layer,
            fields=self.plan.fields,
            whole=self.plan.whole,
            said=self.said,
            scratch=archive.path.parent,
        )

    def together(self, found: Sequence[_Seen], images: Mapping[int, int]) -> Drawn:
        """What is known about the whole archive; zooms that show all images count all of them.

        Args:
            found: what was found at all zooms, in their order.
            images: number of images to be drawn as themselves, by low zoom.
        """
        whole = range(self.plan.whole_from, self.plan.zoom_max + 1)
        return replace(
            reduce(Drawn.then, (each.drawn for each in found)),
            tiles=self.tiles,
            images={**images, **dict.fromkeys(whole, len(Names(self.footprints)))},
        )

    def completeness(self, drawn: Drawn, undrawn: Sequence[str]) -> Verdict:
        """Whether all images are drawn."""
        name = "every_image_is_drawn"
        by_zoom = {str(zoom): images for zoom, images in drawn.images.items()}
        if undrawn:
            first = ", ".join(undrawn[: audit.NAMED])
            text = f"{len(undrawn)} times an image that changed is not drawn, first {first}"
            return Verdict.failing(name, text, images_by_zoom=by_zoom)
        if drawn.strangers:
            strangers = sorted(drawn.strangers)[: audit.NAMED]
            text = f"{len(drawn.strangers)} ids are drawn where they have no image, first {strangers}"
            return Verdict.failing(name, text, images_by_zoom=by_zoom)
        drawn_now, changed = len(Names(self.footprints)), len(self.changed)
        text = f"all {drawn_now:,} images are drawn; {changed:,} changed and were looked for"
        return Verdict.passing(name, text, images_by_zoom=by_zoom)


def _reached(areas: Geometries, plan: TilingPlan) -> Stretches:
    """The tiles of all zooms in which these areas may change anything."""
    reached = [np.zeros(0, np.int64)]
    for zoom in range(plan.zoom_min, plan.zoom_max + 1):
        given = as_drawn(areas, plan.thinnest_at(max(zoom, plan.whole_from)))
        reached.append(tiles_reached(given, zoom, 0.0 if zoom >= plan.whole_from else WIDENED))
    return Stretches.of(np.concatenate(reached))

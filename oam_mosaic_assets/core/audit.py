"""The judgements that decide whether a staged archive may be published.

Each takes what was found and returns a verdict, worded for pass and for fail. A refusal is of one of two
kinds: a failed audit means that the archive is wrong; a failed guard means that it is right but unusual, and
that a person must confirm it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from oam_mosaic_assets.core.archive import Archive, is_vector
from oam_mosaic_assets.core.drawn import Drawn
from oam_mosaic_assets.core.geometry import TAKEN_DOWN
from oam_mosaic_assets.core.merging import Place
from oam_mosaic_assets.core.placement import Places
from oam_mosaic_assets.core.tiling import PIXELS, TilingPlan
from oam_mosaic_assets.core.truth import LowZoom

Bounds = tuple[float, float, float, float]
"""West, south, east, north, degrees."""

NAMED: Final = 10
"""How many items of a list are named; the rest are only counted."""

_BOUNDS: Final = ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7")

COMPARED_OUTLINES: Final = 200
"""How many images, chosen by digest, have their outline reassembled from tiles and compared."""

CHECKS: Final[Mapping[str, str]] = {
    "archive_is_whole": "Every directory can be decoded, every tile inflated and parsed.",
    "archive_is_as_asked": "Header and metadata match the tiling plan.",
    "every_image_is_drawn": "Every footprint, and nothing else, is drawn at zooms that show all images.",
    "images_lie_where_they_should": "At zooms that show all images, each is drawn in the tiles it reaches.",
    "low_zooms_are_true": "At low zooms, something is drawn within a pixel of each image and nowhere else.",
    "few_images_are_set_aside": "The share of images that cannot be drawn is at most MAX_SET_ASIDE_SHARE.",
    "catalogue_did_not_shrink": "The share of images that the catalogue lost is at most MAX_SHRINK_SHARE.",
}
"""Names of the judgements, in the order they are made, and what each says."""

GUARDS: Final = frozenset({"few_images_are_set_aside", "catalogue_did_not_shrink"})
"""Judgements that a person may overrule."""

DETAILS_CHECKS: Final = {name: text for name, text in CHECKS.items() if name not in GUARDS}
"""The checks of the details archive; guards are left out, for they judge the build's catalogue."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement.

    Attributes:
        name: one of `CHECKS`.
        passed: whether it allows publishing.
        text: why, in a sentence for the maintainer.
        numbers: what the judgement is based on.
    """

    name: str
    passed: bool
    text: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def passing(cls, name: str, text: str, **numbers: Any) -> Verdict:
        """A verdict that allows publishing."""
        return cls(name=name, passed=True, text=text, numbers=numbers)

    @classmethod
    def failing(cls, name: str, text: str, **numbers: Any) -> Verdict:
        """A verdict that prevents it."""
        return cls(name=name, passed=False, text=text, numbers=numbers)

    @property
    def is_guard(self) -> bool:
        """Whether a person may overrule it."""
        return self.name in GUARDS


def as_written(value: Any) -> str:
    """A value as JSON, in which neither true nor 1.0 is 1; to compare what documents say."""
    return json.dumps(value, sort_keys=True)


def first_failure(verdicts: Sequence[Verdict]) -> Verdict:
    """The first failed verdict, or the last verdict if none failed."""
    return next((each for each in verdicts if not each.passed), verdicts[-1])


def judge_wholeness(drawn: Drawn) -> Verdict:
    """Fail when a tile does not inflate, does not parse, or does not hold what was asked for."""
    name, tiles = "archive_is_whole", sum(drawn.tiles.values())
    if drawn.fault_count:
        return Verdict.failing(
            name, f"{drawn.fault_count} of {tiles} tiles are broken, first {'; '.join(drawn.faults)}"
        )
    by_zoom = {str(zoom): count for zoom, count in drawn.tiles.items()}
    return Verdict.passing(name, f"all {tiles:,} tiles inflate and parse", tiles=tiles, tiles_by_zoom=by_zoom)


def judge_header(
    archive: Archive, plan: TilingPlan, snapshot: str, drawn: Drawn, *, extent: Bounds
) -> Verdict:
    """Fail when header or metadata do not match the plan, the directories or the footprints.

    Args:
        archive: the archive.
        plan: what was asked for.
        snapshot: the digest of the snapshot.
        drawn: what its tiles hold.
        extent: of all footprints.
    """
    name, tiles = "archive_is_as_asked", sum(drawn.tiles.values())
    header, metadata = archive.header, archive.metadata
    expected = {
        "tile type": (is_vector(archive), True),
        "tile compression": (header["tile_compression"].name, "GZIP"),
        "zooms": ((header["min_zoom"], header["max_zoom"]), (plan.zoom_min, plan.zoom_max)),
        "zooms with tiles": (
            (min(drawn.tiles, default=None), max(drawn.tiles, default=None)),
            (plan.zoom_min, plan.zoom_max),
        ),
        "addressed tiles": (header["addressed_tiles_count"], tiles),
        "layers": (metadata.get("vector_layers"), plan.vector_layers()),
        "name": (metadata.get("name"), plan.name),
        "description": (metadata.get("description"), plan.description),
        "attribution": (metadata.get("attribution"), plan.attribution),
        "snapshot": (metadata.get("snapshot"), snapshot),
    }
    wrong = [
        f"{what}: {found!r}, not {asked!r}" for what, (found, asked) in expected.items() if found != asked
    ]
    place = Place(zoom_min=plan.zoom_min, zoom_max=plan.zoom_max, bounds=extent).in_header()
    if any(header[each] != place[each] for each in _BOUNDS):
        wrong.append(f"bounds: {archive.bounds}, but those of the footprints are {extent}")
    if wrong:
        return Verdict.failing(name, "; ".join(wrong))
    return Verdict.passing(name, f"z{plan.zoom_min}-{plan.zoom_max}, {tiles:,} tiles, as planned")


def judge_completeness(names: Sequence[str], drawn: Drawn, *, whole_from: int, zoom_max: int) -> Verdict:
    """Fail when a footprint is missing at a zoom from `whole_from` on, or something else is drawn."""
    name = "every_image_is_drawn"
    # if the last zoom has no tiles, `drawn` tells of another
    is_drawn = drawn.seen if zoom_max in drawn.tiles else np.zeros(len(names), np.bool_)
    missing = np.flatnonzero(~is_drawn)
    by_zoom = {str(zoom): images for zoom, images in drawn.images.items()}
    if len(missing):
        first = [names[index] for index in missing[:NAMED].tolist()]
        text = f"{len(missing)} of {len(names)} images not drawn at z{zoom_max}, first {first}"
        return Verdict.failing(name, text, images_by_zoom=by_zoom)
    lacking = {zoom: len(names) - drawn.images.get(zoom, 0) for zoom in range(whole_from, zoom_max)}
    if any(lacking.values()):
        each = ", ".join(f"{count} at z{zoom}" for zoom, count in lacking.items() if count)
        return Verdict.failing(
            name, f"some of {len(names)} images are not drawn: {each}", images_by_zoom=by_zoom
        )
    if drawn.strangers:
        strangers = sorted(drawn.strangers)[:NAMED]
        text = f"{len(drawn.strangers)} ids are drawn that belong to no image, first {strangers}"
        return Verdict.failing(name, text, images_by_zoom=by_zoom)
    text = f"all {len(names):,} images are drawn at z{whole_from}-{zoom_max}"
    return Verdict.passing(name, text, images_by_zoom=by_zoom)


def judge_low_zooms(found: Sequence[LowZoom]) -> Verdict:
    """Fail when a low zoom is bare where images lie, drawn where none lie, or counts images wrongly.

    Args:
        found: what was found at the zooms before the plan's `whole_from`.
    """
    name, wrong = "low_zooms_are_true", []
    for each in found:
        said = f"z{each.zoom}: "
        if each.faults:
            wrong.append(f"{said}{len(each.faults)} tiles are broken, first {each.faults[0]}")
        for what, pixels in (
            ("runs of pixels are empty where images are", each.bare),
            ("runs of pixels are drawn where none are", each.astray),
            ("pixels are counted otherwise than they hold images", each.miscounted),
        ):
            if pixels:
                x, y = pixels[0]
                place = f"{each.zoom}/{x // PIXELS}/{y // PIXELS}"
                wrong.append(f"{said}{len(pixels)} {what}, first in {place}")
        for what, images in (("not drawn", each.undrawn), ("drawn though too small", each.needless)):
            if len(images):
                wrong.append(f"{said}{len(images)} images are {what}, first {[*images[:NAMED]]}")
        if each.counted != each.to_count:
            wrong.append(f"{said}{each.counted} images are counted, not {each.to_count}")
    numbers = {
        "counted_by_zoom": {str(each.zoom): each.counted for each in found},
        "largest_low_tile": max((each.largest for each in found), default=0),
    }
    if wrong:
        return Verdict.failing(name, "; ".join(wrong[:NAMED]), **numbers)
    if not found:
        return Verdict.passing(name, "every zoom shows all images", **numbers)
    text = f"z{found[0].zoom}-{found[-1].zoom} show every image to within a pixel, or count it"
    return Verdict.passing(name, text, **numbers)


def judge_placement(names: Sequence[str], places: Places, zoom: int, *, which: str = "") -> Verdict:
    """Fail when an image is not drawn where its footprint lies.

    Args:
        names: ids of these images.
        places: how the zoom draws them.
        zoom: of these tiles.
        which: these images in words; empty if they are all.
    """
    name, found = "images_lie_where_they_should", []
    for what, tiles in (("missing from", places.missing), ("wrongly drawn in", places.stray)):
        if tiles:
            image, x, y = tiles[0]
            first = f"{names[image]!r} in {zoom}/{x}/{y}"
            found.append(f"{len(tiles)} times an image is {what} a tile, first {first}")
    if places.differing:
        named = [names[image] for image in places.differing[:NAMED]]
        count = f"{len(places.differing)} of {places.outlined}"
        found.append(f"{count} outlines differ from their footprints at z{zoom}: {named}")
    if found:
        return Verdict.failing(name, "; ".join(found), outlines_compared=places.outlined)
    said = which or f"all {len(names):,} images"
    text = f"{said} are drawn in the tiles they reach; {places.outlined} outlines match"
    return Verdict.passing(name, text, outlines_compared=places.outlined)


def judge_set_aside(*, catalogued: int, set_aside: Mapping[str, int], most: float) -> Verdict:
    """Hold the build back when too large a share of the catalogue cannot be drawn.

    Args:
        catalogued: images read, including those outside the box that was asked for.
        set_aside: images not drawn, by reason; those taken down on purpose do not count.
        most: the largest share, 0 to 1, that is published without a person's confirmation.
    """
    name, undrawn = "few_images_are_set_aside", {**set_aside}
    undrawn.pop(TAKEN_DOWN, None)
    count = sum(undrawn.values())
    share = count / catalogued if catalogued else 0.0
    reasons = ", ".join(f"{reason} {number}" for reason, number in undrawn.items()) or "none"
    said, allowed = _apart(share, most, decimals=2)
    text = f"{count:,} of {catalogued:,} images ({said}) set aside: {reasons}"
    if share > most:
        return Verdict.failing(
            name,
            f"{text}; more than the {allowed} that MAX_SET_ASIDE_SHARE allows",
            set_aside=count,
            share=share,
        )
    return Verdict.passing(name, text, set_aside=count, share=share)


def _apart(share: float, most: float, *, decimals: int) -> tuple[str, str]:
    """Both as percentages, with more decimals if they would look the same."""
    said, allowed = f"{share:.{decimals}%}", f"{most:.{decimals}%}"
    return _apart(share, most, decimals=decimals + 1) if share > most and said == allowed else (said, allowed)


def judge_shrinkage(
    *, catalogued: int, before: int | None, most: float, another: str | None = None
) -> Verdict:
    """Hold the build back when the catalogue lost too many of its images since the last published build.

    Args:
        catalogued: images in the snapshot.
        before: images in the catalogue of the last published build; None if there is none.
        most: the largest share, 0 to 1, that may be lost without a person's confirmation.
        another: the source of the last published build, if its size says nothing about this catalogue's.
    """
    name = "catalogue_did_not_shrink"
    if another is not None:
        text = f"{catalogued:,} images; not compared: the published mosaic is of another source, {another}"
        return Verdict.passing(name, text, images=catalogued)
    if before is None:
        return Verdict.passing(
            name, f"{catalogued:,} images; nothing was published before", images=catalogued
        )
    lost = (before - catalogued) / before if before else 0.0
    text = f"{catalogued:,} images in the catalogue, {before:,} when the published mosaic was made"
    if lost > most:
        said, allowed = _apart(lost, most, decimals=1)
        text = f"{text}: {said} fewer, more than the {allowed} that MAX_SHRINK_SHARE allows"
        return Verdict.failing(name, text, images=catalogued, images_before=before)
    return Verdict.passing(name, text, images=catalogued, images_before=before)

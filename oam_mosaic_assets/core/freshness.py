"""Judging whether the public mosaic can still be trusted: present, unchanged and recent enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from oam_mosaic_assets.core.release import Pointer

AHEAD_HOURS: Final = 0.25
"""How far the catalogue's clock may be ahead of this machine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The current catalogue compared with the public mosaic.

    Attributes:
        catalogued: images in the catalogue.
        lacking: images of the catalogue that the mosaic neither shows nor has set aside.
        departed: images of the mosaic, those set aside included, that are no longer in the catalogue.
        only_counted: why only numbers were compared, so that additions and deletions cancel out; empty if
            ids were compared.
    """

    catalogued: int
    lacking: int
    departed: int
    only_counted: str = ""

    def __str__(self) -> str:
        if self.lacking or self.departed:
            text = (
                f"{self.lacking:,} of the catalogue's images not in it yet, "
                f"{self.departed:,} of its own no longer in the catalogue"
            )
        elif self.only_counted:
            text = "the catalogue still has as many images"
        else:
            text = "no images have since been added to the catalogue or removed from it"
        return f"{text} (only counted: {self.only_counted})" if self.only_counted else text


def compare_counts(catalogued: int, pointer: Pointer, *, why: str) -> Comparison:
    """Compare the numbers of images, for when their ids cannot be compared."""
    more = catalogued - pointer.images - pointer.set_aside
    return Comparison(catalogued=catalogued, lacking=max(0, more), departed=max(0, -more), only_counted=why)


@dataclass(frozen=True, slots=True)
class Freshness:
    """A judgement.

    Attributes:
        passed: all is well.
        is_late_only: a build is overdue, its age is unknown because a clock is wrong, or a takedown is not
            finished, but what is public is intact and not stale.
        text: the judgement in words, with age and missing images.
        numbers: what the judgement is based on.
    """

    passed: bool
    is_late_only: bool
    text: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def judge_freshness(
    pointer: Pointer | None,
    *,
    differences: Sequence[str],
    comparison: Comparison | None,
    now: datetime,
    warn_hours: float,
    fail_hours: float,
    held: str = "",
    not_gone: int = 0,
) -> Freshness:
    """Judge by when the mosaic was last known to agree with the catalogue, not by when it was uploaded.

    Args:
        pointer: what is public; None if there is no pointer.
        differences: how the objects under the public keys differ from what was published.
        comparison: with the current catalogue; None if there was none.
        now: UTC.
        warn_hours: age at which the mosaic is late.
        fail_hours: age at which it is stale.
        held: why no build may become public; empty if one may.
        not_gone: images that were taken down, but may still be public or kept.
    """
    if pointer is None:
        text = "; ".join(differences) or "nothing has been published here yet"
        return Freshness(passed=False, is_late_only=False, text=text)
    age = pointer.age_hours(now)
    is_ahead = age < -AHEAD_HOURS
    known_age = "" if is_ahead else f"is {_hours(max(age, 0.0))} old and "
    texts = [*differences, f"{pointer.build} {known_age}shows {pointer.images:,} images"]
    numbers: dict[str, Any] = {"age_hours": round(age, 2), "images": pointer.images, "build": pointer.build}
    if comparison is not None:
        numbers["catalogued"] = comparison.catalogued
        numbers["lacking"] = comparison.lacking
        numbers["departed"] = comparison.departed
        texts.append(str(comparison))
    if held:
        texts.append(held)
    if not_gone:  # their ids are told only to those who may read the private list
        texts.append(
            f"images on the takedown list that may still be public or kept here: {not_gone:,} "
            "(oam-mosaic takedown --list)"
        )
    if age >= fail_hours:
        texts.insert(0, f"the mosaic is stale: no build for {_hours(age)} (allowed: {fail_hours:g} h)")
    elif age >= warn_hours:
        texts.insert(0, f"the mosaic is late: a build was due {_hours(age - warn_hours)} ago")
    if is_ahead:
        texts.insert(0, f"its snapshot is {_hours(-age)} ahead of this machine's clock: set the clock")
    stale = bool(differences) or age >= fail_hours
    is_warning = age >= warn_hours or is_ahead or not_gone > 0
    return Freshness(
        passed=not stale and not is_warning,
        is_late_only=not stale and is_warning,
        text="; ".join(texts),
        numbers=numbers,
    )


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"

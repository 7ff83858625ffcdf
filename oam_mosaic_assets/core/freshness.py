"""The judgement whether the public mosaic can still be trusted: there, unchanged, and young enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from oam_mosaic_assets.core.release import Pointer


@dataclass(frozen=True, slots=True)
class Freshness:
    """A judgement.

    Attributes:
        passed: all is well.
        is_late_only: a build is due, but what is public is whole and not yet stale.
        text: in words, with age and missing images.
        numbers: what it was judged by.
    """

    passed: bool
    is_late_only: bool
    text: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def judge_freshness(
    pointer: Pointer | None,
    *,
    differences: Sequence[str],
    catalogued: int | None,
    now: datetime,
    warn_hours: float,
    fail_hours: float,
) -> Freshness:
    """Judge by the snapshot last compared with the catalogue, not by when something was uploaded.

    Args:
        pointer: what is public; None where nothing is.
        differences: what lies under the public keys and is not what was published.
        catalogued: images in the catalogue now; None where it could not be asked.
        now: UTC.
        warn_hours: age at which the mosaic is late.
        fail_hours: age at which it is stale.
    """
    if pointer is None:
        return Freshness(passed=False, is_late_only=False, text="nothing was ever published here")
    age = pointer.age_hours(now)
    shown = pointer.images + pointer.set_aside
    texts = [*differences, f"{pointer.build} is {_hours(age)} old and shows {pointer.images:,} images"]
    numbers: dict[str, Any] = {"age_hours": round(age, 2), "images": pointer.images, "build": pointer.build}
    if catalogued is not None:
        numbers["catalogued"] = catalogued
        numbers["lacking"] = max(0, catalogued - shown)
        if catalogued > shown:
            texts.append(f"{catalogued - shown:,} images of the catalogue are not in it yet")
        elif catalogued < shown:
            texts.append(f"{shown - catalogued:,} of its images have left the catalogue")
        else:
            texts.append("the catalogue holds no more")
    if age >= fail_hours:
        texts.insert(0, f"the mosaic is stale: no build for {_hours(age)}, {fail_hours:g} h are allowed")
    elif age >= warn_hours:
        texts.insert(0, f"the mosaic is late: a build was due {_hours(age - warn_hours)} ago")
    stale = bool(differences) or age >= fail_hours
    return Freshness(
        passed=not stale and age < warn_hours,
        is_late_only=not stale and age >= warn_hours,
        text="; ".join(texts),
        numbers=numbers,
    )


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"

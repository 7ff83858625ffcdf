"""Other changes than those that were found are noticed, and nothing is where there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from oam_mosaic_assets.core import reexamination, snapshot
from oam_mosaic_assets.core.changes import Changes, changes_between
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.retained import differing_rows
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, PLAIN, footprint, made_from, snapshot_of
from oam_mosaic_assets_tests.core.test_reexamination import failures

ROWS = [
    footprint(f"{number:02}", number, 0.0, number + 1.0, 1.0, title=f"{number}", acquired_to=NOW)
    for number in range(30)
]


def moved(rows: list[Footprint], at: int) -> list[Footprint]:
    return [*rows[:at], replace(rows[at], geometry=ROWS[0].geometry.buffer(0.1)), *rows[at + 1 :]]


CHANGES: dict[str, Callable[[int], list[Footprint]]] = {
    "moved": lambda at: moved(ROWS, at),
    "dated": lambda at: [
        *ROWS[:at],
        replace(ROWS[at], acquired_to=NOW - timedelta(days=at + 1)),
        *ROWS[at + 1 :],
    ],
    "retold": lambda at: [*ROWS[:at], replace(ROWS[at], title="Another"), *ROWS[at + 1 :]],
    "gone": lambda at: [*ROWS[:at], *ROWS[at + 1 :]],
    "added": lambda at: [*ROWS, replace(ROWS[at], id=f"{at:02} again")],
}


@pytest.mark.parametrize("at", [0, 29])
@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("batch", [7, 1024])
def test_a_change_that_was_not_found_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, at: int, batch: int
) -> None:
    monkeypatch.setattr(snapshot, "BATCH", batch)
    snapshot_of(ROWS, tmp_path / "then")
    snapshot_of(CHANGES[kind](at), tmp_path / "now")
    then, now = (tmp_path / each / "footprints.parquet" for each in ("then", "now"))
    found = changes_between(then, now, ("title",))
    assert found.images == 1
    assert differing_rows(*found.places, ("title",)) == []
    none = np.zeros(0, np.int64)
    (said,) = differing_rows((then, none), (now, none), ("title",))
    assert "differ in more images than was found" in said


def test_what_is_not_drawn_may_differ(tmp_path: Path) -> None:
    snapshot_of(ROWS, tmp_path / "then")
    snapshot_of(CHANGES["retold"](3), tmp_path / "now")
    then, now = (tmp_path / each / "footprints.parquet" for each in ("then", "now"))
    none = np.zeros(0, np.int64)
    assert differing_rows((then, none), (now, none), ("id",)) == []


def test_the_audit_refuses_a_mosaic_if_a_change_was_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if both the build and the audit had missed that an image moved."""
    near = footprint("near", 10.1, 10.1, 10.3, 10.3, acquired_to=NOW)
    first = made_from(IMAGES, tmp_path / "first")
    town = replace(PLAIN[1], geometry=near.geometry)
    images = [near, *(town if each.id == town.id else each for each in IMAGES)]
    hidden = made_from([near, *IMAGES], tmp_path / "hidden", before=first.before)

    snapshot_of(images, tmp_path / "moved")
    footprints = tmp_path / "moved" / "footprints.parquet"

    def missing_it(*_: object) -> Changes:
        found = changes_between(first.footprints, hidden.footprints)
        then, (_, added) = found.places
        return replace(found, places=(then, (footprints, added)))

    monkeypatch.setattr(reexamination, "changes_between", missing_it)
    monkeypatch.setattr(reexamination, "SAMPLED", 0)
    said = failures(replace(hidden, footprints=footprints), first.before)
    assert "differ in more images than was found" in said["archive_is_whole"]

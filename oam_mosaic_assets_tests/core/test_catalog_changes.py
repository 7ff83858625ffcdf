"""The list of changes leads from one build's images to the next build's; an audit fails if it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from oam_mosaic_assets.core import catalog_changes, catalog_changes_audit
from oam_mosaic_assets.core.catalog_changes import changes_of
from oam_mosaic_assets.core.catalog_changes_audit import examine_changes
from oam_mosaic_assets.core.footprint import Footprint
from oam_mosaic_assets.core.release import as_json
from oam_mosaic_assets_tests.core.scene import NOW, footprint, snapshot_of

STATED = {
    "build": "b",
    "watermark": "of b",
    "snapshot_taken_at": NOW.isoformat(),
    "since": {
        "build": "a",
        "watermark": "of a",
        "snapshot_taken_at": (NOW - timedelta(days=1)).isoformat(),
    },
}
BEFORE = (
    footprint("stays", 1.0, 1.0, 2.0, 2.0),
    footprint("goes", 179.5, 1.0, 180.5, 2.0),
    footprint("is taken down", 5.0, 1.0, 6.0, 2.0),
    footprint("moves", 3.0, 1.0, 4.0, 2.0),
    footprint("is renamed", 7.0, 1.0, 8.0, 2.0, title="one"),
)
NOW_THERE = (
    BEFORE[0],
    footprint("moves", 3.0, 1.0, 4.0, 3.0),
    footprint("is renamed", 7.0, 1.0, 8.0, 2.0, title="two"),
    footprint("comes", 9.0, 1.0, 10.0, 2.0, acquired_to=NOW - timedelta(days=1)),
)


def tables(folder: Path, before: tuple[Footprint, ...] = BEFORE) -> tuple[Path, Path]:
    snapshot_of(before, folder / "before")
    snapshot_of(NOW_THERE, folder / "now")
    return folder / "before/footprints.parquet", folder / "now/footprints.parquet"


def failures(
    folder: Path,
    document: dict[str, Any],
    taken_down: set[str],
    *,
    is_first: bool = False,
    nameless: tuple[str, ...] = (),
) -> dict[str, str]:
    path, before = folder / "changes.json", folder / "images_before.parquet"
    path.write_bytes(as_json(document))
    rows = pl.scan_parquet(folder / "before/footprints.parquet").select("id", "digest", "geometry")
    known = rows.with_columns(pl.when(~pl.col("id").is_in(nameless)).then(pl.col("id", "digest")))
    (known.limit(0) if is_first else known).sink_parquet(before)
    stated = {**STATED, "since": None} if is_first else STATED
    found = examine_changes(
        path, before, folder / "now/footprints.parquet", taken_down=taken_down, stated=stated
    )
    return {each.name: each.text for each in found if not each.passed}


def test_each_change_is_listed_with_its_extents(tmp_path: Path) -> None:
    before, now = tables(tmp_path)
    found = changes_of(before, now, taken_down=(), stated=STATED)
    assert found["counts"] == {"added": 1, "changed": 2, "removed": 2, "unnamed": 0}
    assert found["added"] == [{"id": "comes", "bbox": [9.0, 1.0, 10.0, 2.0]}]
    assert found["changed"] == [
        {"id": "is renamed", "bbox": [7.0, 1.0, 8.0, 2.0], "bbox_before": [7.0, 1.0, 8.0, 2.0]},
        {"id": "moves", "bbox": [3.0, 1.0, 4.0, 3.0], "bbox_before": [3.0, 1.0, 4.0, 2.0]},
    ]
    across = {"id": "goes", "bbox": [179.5, 1.0, -179.5, 2.0]}
    assert found["removed"] == [across, {"id": "is taken down", "bbox": [5.0, 1.0, 6.0, 2.0]}]
    assert found["complete"] is True
    assert failures(tmp_path, found, set()) == {}


def test_what_was_taken_down_is_counted_and_not_named(tmp_path: Path) -> None:
    before, now = tables(tmp_path)
    found = changes_of(before, now, taken_down={"is taken down"}, stated=STATED)
    assert "is taken down" not in json.dumps(found)
    assert found["counts"] == {"added": 1, "changed": 2, "removed": 1, "unnamed": 1}
    assert found["complete"] is False, "whoever follows must read all"
    assert failures(tmp_path, found, {"is taken down"}) == {}
    assert failures(tmp_path, found, {"is taken down"}, nameless=("is taken down",)) == {}
    assert failures(tmp_path, found, set(), nameless=("is taken down",)) == {}, "it was put back meanwhile"
    found["counts"]["unnamed"] = 0
    assert "0 unnamed, not 1" in str(failures(tmp_path, found, set(), nameless=("is taken down",)))


def test_without_a_build_before_nothing_is_listed(tmp_path: Path) -> None:
    before, now = tables(tmp_path)
    found = changes_of(None, now, taken_down=(), stated={**STATED, "since": None})
    assert (found["complete"], found["added"]) == (False, [])
    assert failures(tmp_path, found, set(), is_first=True) == {}
    assert before.exists()
    assert "it wrongly says since: None" in failures(tmp_path, found, set())["changes_are_true"]
    found = changes_of(before, now, taken_down=(), stated=STATED)
    assert "it wrongly says since" in failures(tmp_path, found, set(), is_first=True)["changes_are_true"]


def test_too_many_changes_are_counted_and_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, now = tables(tmp_path)
    for module in (catalog_changes, catalog_changes_audit):
        monkeypatch.setattr(module, "LISTED", 4)
    for table in (before, now):  # with very many changes, extents would fill memory
        pl.read_parquet(table).with_columns(geometry=pl.lit(b"unread")).write_parquet(table)
    found = changes_of(before, now, taken_down=(), stated=STATED)
    assert found["counts"] == {"added": 1, "changed": 2, "removed": 2, "unnamed": 0}
    assert (found["complete"], found["added"], found["changed"], found["removed"]) == (False, [], [], [])
    assert failures(tmp_path, found, set()) == {}


def _forget(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda said: said[name].pop()


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        (_forget("added"), "changes_are_true", "it lists 0 added, not 1"),
        (_forget("changed"), "changes_are_true", "it lists 1 changed, not 2"),
        (_forget("removed"), "changes_are_true", "it lists 0 removed, not 1"),
        (
            lambda said: said["added"].append({"id": "stays", "bbox": [1.0] * 4}),
            "changes_are_true",
            "it lists 2 added",
        ),
        (lambda said: said["counts"].update(added=7), "changes_are_true", "it counts 7 added"),
        (lambda said: said["counts"].update(unnamed=0), "changes_are_true", "it counts 0 unnamed, not 1"),
        *(
            (change, "changes_are_true", f"it says {name}: ")
            for name in STATED
            for change in (
                lambda said, name=name: said.update({name: "another"}),
                lambda said, name=name: said.pop(name),
            )
        ),
        (
            lambda said: said["since"].update(watermark="another"),
            "changes_are_true",
            "'watermark': 'another'",
        ),
        (lambda said: said.update(complete=True), "changes_are_true", "it wrongly says complete: True"),
        *(
            (change, "changes_are_true", "does not hold exactly the id and the extents")
            for change in (
                lambda said: said["added"][0].update(bbox=[9.0, 1.0, 200.0, 2.0]),
                lambda said: said["added"][0].update(bbox=[9.0, 1.0, 10.0, 2.1]),
                lambda said: said["added"][0].update(bbox=[9.0, bool("a truth"), 10.0, 2.0]),
                lambda said: said["added"][0].pop("bbox"),
                lambda said: said["added"][0].update(title="a title"),
                lambda said: said["changed"][1].update(bbox_before=[3.0, 1.0, 4.0, 3.0]),
                lambda said: said["changed"][1].update(bbox=[3.0, 1.0, 4.0, 2.0]),
                lambda said: said["changed"][1].pop("bbox_before"),
                lambda said: said["removed"][0].update(bbox=[-179.5, 1.0, 179.5, 2.0]),
                lambda said: said["removed"][0].pop("bbox"),
            )
        ),
        (lambda said: said.pop("added"), "changes_are_true", "it is not a list of changes"),
        (
            lambda said: said["removed"].append({"id": "is taken down", "bbox": [5.0, 1.0, 6.0, 2.0]}),
            "nobody_taken_down_is_named",
            "1 images that were taken down are named",
        ),
    ],
)
def test_another_list_fails(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], check: str, said: str
) -> None:
    before, now = tables(tmp_path)
    wrong = changes_of(before, now, taken_down={"is taken down"}, stated=deepcopy(STATED))
    change(wrong)
    assert said in failures(tmp_path, wrong, {"is taken down"})[check]

"""A tippecanoe that is missing, fails or is killed does no harm to the mosaic; nor does a full disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from oam_mosaic_assets.assets.stac_footprints import ANEW_TAG
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets_tests.chain import Site, quick_folder, some_items, write_items
from oam_mosaic_assets_tests.disks import a_small_disk, fill
from oam_mosaic_assets_tests.faults.conftest import IMAGES

ANEW = {ANEW_TAG: "yes"}
"""Forces a build: tippecanoe is not even started when nothing has changed."""


def test_a_tippecanoe_that_is_missing_leaves_the_mosaic(site: Site) -> None:
    before = site.published()

    outcome = site.run({"TIPPECANOE": str(site.folder / "tippecanoe")}, tags=ANEW)

    assert not outcome.success
    assert outcome.kind == "TippecanoeMissing"
    assert f"The program {site.folder / 'tippecanoe'} could not be started" in outcome.text
    assert "Set TIPPECANOE to the path of a working tippecanoe" in outcome.text
    assert outcome.exit_code == 2
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_tippecanoe_that_fails_leaves_the_mosaic(site: Site) -> None:
    before = site.published()

    outcome = site.run(
        {"TIPPECANOE": a_tippecanoe(site.folder, 'exec "$real" "$@" --full-detail=99')}, tags=ANEW
    )

    assert not outcome.success
    assert outcome.kind == "TilingFailed"
    assert "tippecanoe failed with exit code" in outcome.text
    assert "detail" in outcome.text
    assert "last output" in outcome.text
    assert outcome.exit_code == 1
    assert site.stays_whole() == before
    site.recovers(before)


def test_a_tippecanoe_that_is_killed_half_way_leaves_the_mosaic(site: Site) -> None:
    before = site.published()
    half_way = 'head -c 5000 /dev/urandom >"${1#--output=}"; kill -KILL $$'

    outcome = site.run({"TIPPECANOE": a_tippecanoe(site.folder, half_way)}, tags=ANEW)

    assert not outcome.success
    assert outcome.kind == "TilingFailed"
    assert "tippecanoe was killed by signal SIGKILL" in outcome.text
    assert "The kernel kills processes when memory runs out" in outcome.text
    assert site.stays_whole() == before
    site.recovers(before)


def test_an_archive_that_lacks_an_image_leaves_the_mosaic(site: Site) -> None:
    before = site.published()
    without_the_last = 'for last; do :; done; sed -i "\\$d" "$last"; exec "$real" "$@"'

    outcome = site.run({"TIPPECANOE": a_tippecanoe(site.folder, without_the_last)}, tags=ANEW)

    assert not outcome.success
    assert "1 of 30 images not drawn at z10" in outcome.failed_checks["every_image_is_drawn"]
    assert site.stays_whole() == before
    site.recovers(before)


@pytest.mark.parametrize(
    ("room", "said"),
    [
        (4, "No space is left on the disk"),
        (20, "No space is left on the disk"),
        (160, "tippecanoe ran out of"),
    ],
    ids=["while reading", "while sorting", "while tiling"],
)
def test_a_full_scratch_disk_leaves_the_mosaic(site: Site, room: int, said: str) -> None:
    before = site.published()
    with a_small_disk() as disk:
        fill(disk, room)

        outcome = site.run({"MOSAIC_SCRATCH": str(disk / "scratch")}, tags=ANEW)

        assert not outcome.success
        assert outcome.kind == "DiskFull", outcome.log
        assert said in outcome.text
        assert "MOSAIC_SCRATCH" in outcome.text
        assert outcome.exit_code == 1
        assert not list((disk / "scratch").iterdir())
        assert site.stays_whole() == before

        (disk / "filler").unlink()
        assert site.run({"MOSAIC_SCRATCH": str(disk / "scratch")}).success
    site.recovers(before)


@pytest.mark.parametrize(
    ("room", "key"),
    [(20, "mosaic/staging/"), (88, "mosaic/builds/")],
    ids=["while staging", "while publishing"],
)
def test_a_full_store_leaves_the_mosaic(instance: dg.DagsterInstance, room: int, key: str) -> None:
    with a_small_disk() as disk, quick_folder() as folder:
        settings = {"STAC_ITEMS": str(folder / "items.ndjson"), "MOSAIC_STORE": str(disk / "store")}
        site = Site(settings, instance, folder)
        write_items(site.items, some_items(IMAGES))
        before = site.published()
        fill(disk, room)

        outcome = site.run(tags=ANEW)

        assert not outcome.success
        assert outcome.kind == "DiskFull", outcome.log
        assert f"cannot write {key}" in outcome.text
        assert "Free some space, or choose a folder on a larger disk" in outcome.text
        assert site.stays_whole() == before

        (disk / "filler").unlink()
        site.recovers(before)


def a_tippecanoe(folder: Path, script: str) -> str:
    """A program that reports tippecanoe's version and otherwise runs the script."""
    program = folder / "a-tippecanoe"
    program.write_text(
        f'#!/bin/sh\nreal=\'{find_tippecanoe()}\'\n[ "$1" = --version ] && exec "$real" "$@"\n{script}\n'
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(("environment", "outcome"), [("true", pytest.fail), ("", pytest.skip)])
def test_where_the_gate_runs_no_full_disk_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, outcome: Any
) -> None:
    (tmp_path / "mount").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CI", environment)

    with pytest.raises(outcome.Exception, match="no file system can be mounted here"), a_small_disk():
        pass

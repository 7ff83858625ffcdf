"""Findings about folders, disks and this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oam_mosaic_assets.gateways.diagnosis.checkup import examine
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State, exit_code
from oam_mosaic_assets.gateways.diagnosis.machine import (
    WHOLE_CATALOGUE_BYTES,
    examine_machine,
)
from oam_mosaic_assets.gateways.diagnosis.room import (
    ArchiveSize,
    examine_folder,
    examine_home,
    examine_room,
    examine_store_folder,
)
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.disks import a_small_disk, fill

PROBES = "mosaic/staging/doctor-"
KEY = f"{PROBES}1/probe"


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def stated(folder: Path, **more: str) -> Settings:
    """The settings of an installation that keeps everything in one folder."""
    places = {"MOSAIC_STORE": "store", "MOSAIC_SCRATCH": "scratch", "DAGSTER_HOME": "dagster"}
    return Settings.read({name: str(folder / place) for name, place in places.items()} | more)


def beyond_ok(findings: list[Finding]) -> dict[str, State]:
    return {each.subject: each.state for each in findings if each.state is not State.OK}


def test_a_newcomers_machine_is_well_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    findings = list(examine(stated(tmp_path)))

    assert beyond_ok(findings) == {}
    assert everything_in(tmp_path) == []


def test_a_store_that_is_there_is_tried_itself_and_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mosaic").mkdir()
    (tmp_path / "mosaic" / "latest.json").write_text("kept")

    assert examine_store_folder(tmp_path, KEY, PROBES).state is State.OK
    assert [each.name for each in everything_in(tmp_path)] == [".lock", "mosaic", "latest.json"]

    (tmp_path / "mosaic" / "staging").write_text("in the way")
    refused = examine_store_folder(tmp_path, KEY, PROBES)
    assert refused.state is State.WRONG
    assert "cannot write mosaic/staging/doctor-1/probe" in refused.text


def test_what_a_killed_examination_left_goes_with_a_later_one(tmp_path: Path) -> None:
    ours, old, young = (
        tmp_path / "store" / "mosaic" / "staging" / name
        for name in ("20260115T030000Z-a", "doctor-2", "doctor-3")
    )
    for each in (ours, old, young):
        each.mkdir(parents=True)
        (each / "probe").touch()
    for each in (ours, old):
        os.utime(each / "probe", (0, 0))

    assert beyond_ok(list(examine(stated(tmp_path)))) == {}

    assert [each.exists() for each in (ours, old, young)] == [True, False, True]


@pytest.mark.parametrize("place", ["MOSAIC_STORE", "MOSAIC_SCRATCH", "DAGSTER_HOME"])
def test_a_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path, place: str) -> None:
    (tmp_path / "a-file").touch()
    findings = list(examine(stated(tmp_path, **{place: str(tmp_path / "a-file" / "below")})))

    (wrong,) = (each for each in findings if each.state is State.WRONG)
    assert f"{tmp_path}/a-file/below cannot be used: Not a directory" in wrong.text
    assert place in wrong.hint
    assert exit_code(findings) == 2


def test_a_file_in_the_place_of_the_store_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    refused = examine_store_folder(tmp_path / "a-file", KEY, PROBES)

    assert (refused.state, refused.text) == (State.WRONG, f"{tmp_path}/a-file is a file, not a folder")
    assert "MOSAIC_STORE" in refused.hint


@pytest.mark.parametrize("place", ["MOSAIC_STORE", "MOSAIC_SCRATCH", "DAGSTER_HOME"])
def test_a_full_disk_is_named_with_its_setting(tmp_path: Path, place: str) -> None:
    with a_small_disk() as disk:
        fill(disk, 0)
        findings = list(examine(stated(tmp_path, **{place: str(disk / "below")})))
        assert [each.name for each in disk.iterdir()] == ["filler"]

    (wrong,) = (each for each in findings if each.state is State.WRONG)
    assert "No space left on device" in wrong.text
    assert str(disk) in wrong.text
    assert place in wrong.hint
    assert exit_code(findings) == 2


def test_a_disk_that_is_too_small_for_a_build_is_told_before_it_is_full(tmp_path: Path) -> None:
    with a_small_disk() as disk:
        findings = list(examine(stated(tmp_path, MOSAIC_SCRATCH=str(disk / "below"))))

    assert beyond_ok(findings) == {"scratch room": State.WRONG}
    (wrong,) = (each for each in findings if each.state is State.WRONG)
    assert wrong.text == "1.0 MB free; a build needs about 60 MB (estimated from 2,000 images)"
    assert "MOSAIC_SCRATCH" in wrong.hint


@pytest.mark.parametrize(
    ("archive", "state"), [(50_000, State.OK), (500_000, State.WARNING), (5_000_000, State.WRONG)]
)
def test_room_is_compared_with_what_a_build_needs(archive: int, state: State) -> None:
    with a_small_disk() as disk:
        (finding,) = examine_room("scratch room", disk, ArchiveSize(archive, ""), archives=10, setting="X")

    assert finding.state is state


@pytest.mark.parametrize(
    ("published", "images", "size", "basis"),
    [
        (1_000_000, 5, 1_000_000, "the last build has 1.0 MB"),
        (None, 1000, 2_980_000, "estimated from 1,000 images"),
        (None, None, 67_920_160, "as measured with 22,792 images"),
    ],
)
def test_what_is_known_best_says_how_large_an_archive_will_be(
    published: int | None, images: int | None, size: int, basis: str
) -> None:
    assert ArchiveSize.expected(published=published, images=images) == ArchiveSize(size, basis)


@pytest.mark.usefixtures("nobody")
def test_a_folder_of_somebody_else_is_named() -> None:
    finding = examine_folder("scratch", Path("/usr/share/scratch"), setting="MOSAIC_SCRATCH")

    assert finding.state is State.WRONG
    assert "/usr/share/scratch cannot be used: Permission denied" in finding.text


def test_a_tippecanoe_that_is_missing_is_named(tmp_path: Path) -> None:
    findings = list(examine(stated(tmp_path, TIPPECANOE=str(tmp_path / "tippecanoe"))))

    assert beyond_ok(findings) == {"tippecanoe": State.WRONG}
    (wrong,) = (each for each in findings if each.state is State.WRONG)
    assert str(tmp_path / "tippecanoe") in wrong.text
    assert "TIPPECANOE" in wrong.hint


# Memory


def test_too_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = WHOLE_CATALOGUE_BYTES - 1
    monkeypatch.setattr("oam_mosaic_assets.gateways.diagnosis.machine.memory_limit", lambda: limit)
    finding = examine_machine()

    assert finding.state is State.WARNING
    assert "of memory (the limit of its cgroup)" in finding.text


def test_a_home_that_names_another_storage_need_not_be_writable(tmp_path: Path) -> None:
    missing = tmp_path / "file" / "home"
    (tmp_path / "file").touch()
    assert examine_home(missing).state is State.WRONG

    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\nstorage:\n  postgres: {}\n")
    finding = examine_home(tmp_path)
    assert finding.state is State.OK
    assert "configures a storage of its own" in finding.text

    (tmp_path / "dagster.yaml").write_bytes(b"telemetry:  # caf\xe9\n")
    finding = examine_home(tmp_path)
    assert finding.state is State.WRONG
    assert finding.text == f"{tmp_path / 'dagster.yaml'} is not UTF-8"

"""The audit of coverage passes what is right, and says what is wrong with the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oam_mosaic_assets.core import splice
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.coverage import CoveragePlan, tiles_above, tiles_below
from oam_mosaic_assets.core.coverage_audit import EXACT_CHECKS, WHOLE_CHECKS
from oam_mosaic_assets.core.directory import Directory
from oam_mosaic_assets.core.grid import first_tile_id
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.pixels import Numbers
from oam_mosaic_assets.core.splice import Before
from oam_mosaic_assets.core.stretches import Stretches
from oam_mosaic_assets.gateways import coverage
from oam_mosaic_assets_tests.core.archives import assembled, pieces_of, with_short_repeats
from oam_mosaic_assets_tests.core.pictures import Covered, covered, judged
from oam_mosaic_assets_tests.core.scene import IMAGES, NOW, PLAIN, footprint

EXACT = CoveragePlan(way="exact", zoom_max=10)
WHOLE = CoveragePlan(way="whole", zoom_max=10)

MORE = footprint("one more", 11.25, 10.15, 11.45, 10.35, acquired_to=NOW)

MOVED = replace(PLAIN[3], geometry=footprint("x", 30.004, -19.996, 30.404, -19.696).geometry)
"""Moved slightly: at the first zooms it is in the same tiles as before."""

AFTER = (MORE, *PLAIN[:3], MOVED, *IMAGES[4:])


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Covered:
    return covered(IMAGES, tmp_path_factory.mktemp("exact") / "it", EXACT)


@pytest.fixture(scope="module")
def after(exact: Covered, tmp_path_factory: pytest.TempPathFactory) -> Covered:
    """One image was added and one moved; the rest is taken over."""
    return covered(AFTER, tmp_path_factory.mktemp("after") / "it", EXACT, before=exact.before)


def failures(
    made: Covered,
    archive: Path | None = None,
    *,
    before: Before | None = None,
    plan: CoveragePlan | None = None,
) -> dict[str, str]:
    verdicts = judged(made, archive, before=before, plan=plan)
    assert [each.name for each in verdicts] == [*EXACT_CHECKS][: len(verdicts)]
    return {each.name: each.text for each in verdicts if not each.passed}


def rewritten(made: Covered, path: Path, change: Callable[[Directory], Directory]) -> Path:
    """The archive with changed entries, written as the builds write theirs."""
    assert made.snapshot.bounds is not None
    with open_archive(made.archive) as archive:
        source = Source.of_archive(archive)
        write_archive(
            path,
            [Source(source.descriptor, change(source.entries))],
            Place(zoom_min=made.plan.zoom_min, zoom_max=made.plan.zoom_max, bounds=made.snapshot.bounds),
            archive.metadata,
            tile_type=archive.header["tile_type"],
            tile_compression=archive.header["tile_compression"],
        )
    return path


def block_of(made: Covered, lon: float, lat: float) -> Numbers:
    box = footprint("somewhere", lon, lat, lon + 1e-6, lat + 1e-6)
    return coverage.blocks_reached(np.array([box.geometry]), made.plan)


def test_what_is_right_passes(exact: Covered, after: Covered, tmp_path: Path) -> None:
    assert failures(exact) == {}
    assert failures(after) == {}
    assert failures(after, before=exact.before) == {}
    assert failures(covered(IMAGES, tmp_path / "whole", WHOLE)) == {}
    assert failures(covered(IMAGES, tmp_path / "webp", replace(EXACT, format="webp"))) == {}
    assert [*EXACT_CHECKS][: len(WHOLE_CHECKS)] == [*WHOLE_CHECKS]


@pytest.mark.parametrize("zooms", [(9, 10), (10, 10), (0, 3)])
def test_what_is_right_at_other_zooms_passes(tmp_path: Path, zooms: tuple[int, int]) -> None:
    plan = CoveragePlan(way="exact", zoom_min=zooms[0], zoom_max=zooms[1])
    assert failures(covered(IMAGES, tmp_path / "it", plan)) == {}


def test_a_block_that_was_lost_is_found(exact: Covered, tmp_path: Path) -> None:
    lost = block_of(exact, 30.1, -19.9)

    def without(entries: Directory) -> Directory:
        return tiles_below(lost, EXACT).cut(entries)[1]

    def without_a_trace(entries: Directory) -> Directory:
        lonely = [tiles_above(lost, zoom, EXACT)[0] for zoom in range(2, EXACT.block_zoom)]
        return Stretches.union([tiles_below(lost, EXACT), Stretches.of(np.array(lonely))]).cut(entries)[1]

    for change in (without, without_a_trace):
        found = failures(exact, rewritten(exact, tmp_path / change.__name__, change))
        assert "missing where images are" in found["tiles_are_those_of_images"]


def test_a_block_that_was_not_drawn_again_is_found(
    exact: Covered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = block_of(exact, 30.1, -19.9)
    drawn = coverage.blocks_reached
    monkeypatch.setattr(coverage, "blocks_reached", lambda *given: np.setdiff1d(drawn(*given), stale))
    made = covered(AFTER, tmp_path / "it", EXACT, before=exact.before)

    said = failures(made, before=exact.before)["pixels_are_those_of_images"]
    assert re.search(
        r"z10 in 5/18/17: .* are empty, though there are images, first \(\d+, \d+\) in image 'a hill';", said
    )


def test_a_block_that_lost_its_image_and_still_shows_it_is_found(
    exact: Covered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "LARGEST_SHARE", 100.0)  # however many are gone
    monkeypatch.setattr(coverage, "blocks_reached", lambda *_: np.zeros(0, np.int64))
    made = covered(IMAGES[1:4], tmp_path / "it", EXACT, before=exact.before)

    for before in (exact.before, None):
        found = failures(made, before=before)
        assert "drawn where none are" in found["tiles_are_those_of_images"]


@pytest.mark.parametrize("zoom", range(6, 11))
def test_a_range_of_bytes_that_was_shifted_is_found(exact: Covered, tmp_path: Path, zoom: int) -> None:
    def shifted(entries: Directory) -> Directory:
        first, after = np.searchsorted(entries.tile_id, [first_tile_id(zoom), first_tile_id(zoom + 1)])
        some = np.arange(first, after)
        offset, length = entries.offset.copy(), entries.length.copy()
        offset[some], length[some] = np.roll(offset[some], 1), np.roll(length[some], 1)
        return Directory(entries.tile_id, entries.run_length, length, offset)

    found = failures(exact, rewritten(exact, tmp_path / "shifted.pmtiles", shifted))
    assert "pixels_are_those_of_images" in found


def test_what_was_taken_over_wrongly_is_found(exact: Covered, after: Covered, tmp_path: Path) -> None:
    def shifted(entries: Directory) -> Directory:
        some = np.flatnonzero(entries.tile_id >= first_tile_id(10))[-6:]
        offset, length = entries.offset.copy(), entries.length.copy()
        offset[some], length[some] = np.roll(offset[some], 1), np.roll(length[some], 1)
        return Directory(entries.tile_id, entries.run_length, length, offset)

    found = failures(after, rewritten(after, tmp_path / "shifted.pmtiles", shifted), before=exact.before)
    assert "tiles are different" in found["archive_is_whole"]


def test_a_picture_that_is_broken_or_another_is_found(exact: Covered, tmp_path: Path) -> None:
    pieces = pieces_of(exact.archive)
    entry = pieces.of_zoom(10)[3]
    right = pieces.packed(entry)
    for number, wrong in enumerate([right[:-20] + b"\0" + right[-19:], right[:60], b"", right + b"more"]):
        pieces = pieces_of(exact.archive)
        pieces.replace(pieces.of_zoom(10)[3], wrong or b"\0")
        found = failures(exact, assembled(pieces, tmp_path / f"{number}.pmtiles"))
        assert "1 faults, first 10/" in found["archive_is_whole"]
    another = replace(EXACT, colour=(1, 2, 3))
    assert "not a PNG of the planned size and palette" in failures(exact, plan=another)["archive_is_whole"]


@pytest.mark.parametrize("plan", [EXACT, WHOLE], ids=["exact", "whole"])
def test_tiles_that_share_a_picture_but_not_all_of_it_are_found(plan: CoveragePlan, tmp_path: Path) -> None:
    made = covered(IMAGES, tmp_path / "it", plan)
    found = failures(made, with_short_repeats(made.archive, tmp_path / "short.pmtiles"))
    assert found["archive_is_whole"]


def test_whole_tiles_that_are_not_covered_all_over_are_found(exact: Covered) -> None:
    found = failures(exact, plan=WHOLE)
    assert "it is not fully covered" in found["archive_is_whole"]
    assert "metadata" in found["archive_is_as_asked"]


def test_another_header_is_found(exact: Covered, tmp_path: Path) -> None:
    for name, value in (("max_lon_e7", 0), ("max_zoom", 9), ("clustered", False)):
        pieces = pieces_of(exact.archive)
        pieces.header[name] = value
        assert failures(exact, assembled(pieces, tmp_path / f"{name}.pmtiles"))["archive_is_as_asked"]


def test_what_is_no_archive_is_told(exact: Covered, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(exact.archive.read_bytes()[:1000])
    assert "broken" in failures(exact, tmp_path / "cut")["archive_is_whole"]

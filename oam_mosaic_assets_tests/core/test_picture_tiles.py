"""An archive of pictures as `oam-mosaic validate` reads it: every tile counted, every broken one named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pmtiles.tile import Compression, TileType

from oam_mosaic_assets.cli import main
from oam_mosaic_assets.core.archive import open_archive
from oam_mosaic_assets.core.coverage import CoveragePlan
from oam_mosaic_assets.core.merging import Place, Source, write_archive
from oam_mosaic_assets.core.picture_tiles import read_pictures
from oam_mosaic_assets_tests.core.archives import assembled, pieces_of, with_short_repeats
from oam_mosaic_assets_tests.core.pictures import Covered, bits_of, covered
from oam_mosaic_assets_tests.core.scene import PLAIN


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Covered:
    return covered(PLAIN, tmp_path_factory.mktemp("exact") / "it", CoveragePlan(way="exact", zoom_max=10))


def test_every_tile_is_counted(exact: Covered, capsys: pytest.CaptureFixture[str]) -> None:
    with open_archive(exact.archive) as archive:
        found = read_pictures(archive)
    zooms = [zoom for zoom, _, _ in bits_of(exact.archive)]
    assert found.tiles == {zoom: zooms.count(zoom) for zoom in range(11)}
    assert (found.sizes, found.faults) == ({(256, 256)}, [])
    assert main(["validate", str(exact.archive)]) == 0
    assert "256 x 256 pixels" in capsys.readouterr().out


def test_a_broken_picture_is_named(
    exact: Covered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = pieces_of(exact.archive)
    entry = pieces.of_zoom(10)[0]
    pieces.replace(entry, pieces.packed(entry)[:70])
    broken = assembled(pieces, tmp_path / "broken.pmtiles")

    assert main(["validate", str(broken)]) == 3
    assert "10/" in capsys.readouterr().out


def test_a_picture_that_is_whole_only_where_it_is_named_first_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = covered(PLAIN, tmp_path / "it", CoveragePlan(way="whole", zoom_max=10))
    short = with_short_repeats(whole.archive, tmp_path / "short.pmtiles")
    assert main(["validate", str(short)]) == 3
    assert "truncated" in capsys.readouterr().out


def test_tiles_of_no_known_kind_are_a_fault(
    exact: Covered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = tmp_path / "unknown.pmtiles"
    with open_archive(exact.archive) as archive:
        write_archive(
            unknown,
            [Source.of_archive(archive)],
            Place(zoom_min=0, zoom_max=10, bounds=archive.bounds),
            archive.metadata,
            tile_type=TileType.UNKNOWN,
            tile_compression=Compression.NONE,
        )

    assert main(["validate", str(unknown)]) == 3
    assert "tiles of type UNKNOWN cannot be read" in capsys.readouterr().out

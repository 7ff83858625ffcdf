"""Images found by their ids, and ids found by their images."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from oam_mosaic_assets.core.image_ids import AnyIds, ImageIds
from oam_mosaic_assets.core.snapshot import ROW_GROUP, Names
from oam_mosaic_assets_tests.core.scene import Scene


def test_images_are_found_by_their_ids() -> None:
    names = [f"image {number}" for number in range(1000)]
    ids = ImageIds(names)
    assert len(ids) == len(names)
    assert ids.find(names[::-1]).tolist() == list(range(1000))[::-1]
    assert ids.find(["", "image 7", "image 1000", "image 7"]).tolist() == [-1, 7, -1, 7]
    assert ids.find([]).tolist() == []


def test_among_no_images_none_is_found() -> None:
    assert ImageIds([]).find(["an image"]).tolist() == [-1]


def test_where_any_id_is_an_images_each_gets_an_index_of_its_own() -> None:
    ids = AnyIds()
    assert ids.find(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert ids.find(["c", "a"]).tolist() == [2, 1]
    assert len(ids) == 3


def test_the_names_of_a_snapshot_are_those_of_its_images(scene: Scene) -> None:
    names = Names(scene.footprints)
    every = list(names)
    assert len(names) == len(every) == len(set(every))
    assert names[3] == every[3]
    assert names[-1] == every[-1]
    assert [*names[1:4]] == every[1:4]
    assert [*names[np.array([0, 2, 5])][1:]] == [every[2], every[5]]
    assert [*names[np.zeros(0, np.int64)]] == []
    with pytest.raises(IndexError):
        names[len(names)]


def test_names_are_read_across_row_groups(tmp_path: Path) -> None:
    every = [f"image {number:06}" for number in range(2 * ROW_GROUP + 10)]
    pl.DataFrame({"id": every}).write_parquet(tmp_path / "footprints.parquet")
    names = Names(tmp_path / "footprints.parquet")
    assert [*names] == every
    some = np.array([0, ROW_GROUP - 1, ROW_GROUP, 2 * ROW_GROUP + 9])
    assert [*names[some]] == [every[each] for each in some]

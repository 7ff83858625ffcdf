"""Numbers sorted in memory and in files."""

from pathlib import Path

import numpy as np
import pytest

from oam_mosaic_assets.core import sorting
from oam_mosaic_assets.core.sorting import Sorting


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 25_000])
def test_numbers_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(sorting, "_RUN", 1000)
    monkeypatch.setattr(sorting, "_STEP", 10)
    numbers = np.random.default_rng(count).integers(0, max(1, count // 3), count)
    gathered = Sorting(tmp_path)
    for some in np.array_split(numbers, 1 + count // 70):
        gathered.add(some)
    found = gathered.finished()
    assert np.array_equal(found, np.sort(numbers))
    assert list(tmp_path.iterdir()) == []
    assert isinstance(found.base, np.memmap) == (count >= 1000)


def test_equal_numbers_of_several_runs_all_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_RUN", 100)
    monkeypatch.setattr(sorting, "_STEP", 10)
    gathered = Sorting(tmp_path)
    for _ in range(7):
        gathered.add(np.full(60, 5))
    assert gathered.finished().tolist() == [5] * 420

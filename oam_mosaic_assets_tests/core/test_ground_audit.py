"""Shares that are worked out again agree with the grid; very many images take neither time nor memory."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from oam_mosaic_assets.core import ground_audit
from oam_mosaic_assets.core.density import FINER
from oam_mosaic_assets.core.density_tables import DECIMALS
from oam_mosaic_assets.core.ground_audit import covered_again
from oam_mosaic_assets_tests.core.density_world import CATALOGUE, Grid, grid_of


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return grid_of(CATALOGUE, tmp_path_factory.mktemp("grid"))


def test_two_ways_find_the_same_shares(grid: Grid) -> None:
    cells = pl.concat(
        each.sample(min(len(each), 40), seed=1) for each in pl.read_parquet(grid.cells).partition_by("zoom")
    )
    found = covered_again(
        grid.footprints, cells["zoom"].to_numpy().astype(np.int64) + FINER, cells["cell"].to_numpy()
    )
    assert found == pytest.approx(cells["covered"].to_numpy(), abs=0.51 * 10**-DECIMALS)


def test_the_tile_with_most_pieces_is_given_up(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = pl.read_parquet(grid.cells).filter(zoom=0).sort("count")
    fewest, most = cells[0], cells[-1]
    monkeypatch.setattr(ground_audit, "HELD", 1_000)
    some = np.array([most["cell"].item(), fewest["cell"].item()])
    found = covered_again(grid.footprints, np.array([FINER, FINER]), some)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(fewest["covered"].item(), abs=10**-DECIMALS)

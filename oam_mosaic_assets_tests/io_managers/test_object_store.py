"""Which build a step works on, if several runs have made its input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.gateways.folder_store import FolderStore
from oam_mosaic_assets.io_managers.object_store import ObjectStoreIOManager
from oam_mosaic_assets_tests.chain import dagster_instance

FOOTPRINTS = dg.AssetKey("stac_footprints")


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dagster_instance() as opened:
        yield opened


def made(instance: dg.DagsterInstance, build: str) -> str:
    """A run that makes the footprints of a build; returns its id."""

    @dg.op
    def footprints() -> None:
        made = dg.AssetMaterialization(FOOTPRINTS, metadata={"build": build})
        dg.OpExecutionContext.get().log_event(made)

    @dg.job
    def chain() -> None:
        footprints()

    return chain.execute_in_process(instance=instance).run_id


def test_a_run_goes_on_with_its_own_build_or_with_that_of_the_run_it_retries(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    manager = ObjectStoreIOManager(FolderStore(tmp_path), Keys())

    def build_of(run: Any) -> str:
        context: Any = SimpleNamespace(
            has_asset_key=True,
            asset_key=FOOTPRINTS,
            instance=instance,
            step_context=SimpleNamespace(dagster_run=run),
        )
        return manager._build_of(context)

    killed = made(instance, "the first")
    retry = create_run_for_test(instance, parent_run_id=killed, root_run_id=killed)
    again = create_run_for_test(instance, parent_run_id=retry.run_id, root_run_id=killed)
    assert build_of(retry) == "the first"
    made(instance, "another's")

    assert build_of(instance.get_run_by_id(killed)) == "the first"
    assert build_of(retry) == "the first"
    assert build_of(again) == "the first", "the retry between them made nothing"
    assert build_of(create_run_for_test(instance)) == "another's", "the newest"

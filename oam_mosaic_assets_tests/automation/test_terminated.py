"""A run that a maintainer terminates in the UI leaves nothing behind, as one that a signal stops."""

from __future__ import annotations

import time

from oam_mosaic_assets.gateways.from_settings import store_of
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.live_dagster import environment_of, running_dagster
from oam_mosaic_assets_tests.chain import (
    is_running,
    nothing_left_behind,
    quick_folder,
    slow_tippecanoe,
    some_items,
    write_items,
)


def test_a_run_that_is_terminated_leaves_nothing_staged_and_no_tippecanoe() -> None:
    with quick_folder() as folder:
        write_items(folder / "items.ndjson", some_items(30))
        number = folder / "number"
        environment = environment_of(
            folder, STAC_ITEMS=str(folder / "items.ndjson"), TIPPECANOE=slow_tippecanoe(folder, number)
        )
        settings = Settings.read(environment)
        store, keys = store_of(settings), settings.keys
        with running_dagster(folder, environment) as dagster:
            run = dagster.launch("global_mosaic")
            deadline = time.monotonic() + 120
            while not number.exists() or not number.read_text().endswith("\n"):
                assert time.monotonic() < deadline, dagster.said()
                time.sleep(0.1)
            assert list(store.keys(keys.staging_root))

            dagster.terminate(run)
            assert dagster.finished(run) == "CANCELED"
            while list(settings.mosaic_scratch.iterdir()) and time.monotonic() < deadline:
                time.sleep(0.1)  # the run's process takes its things away after it has said so

        assert not is_running(int(number.read_text()))
        nothing_left_behind(store, keys, settings.mosaic_scratch)

"""What Dagster starts by itself, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.errors import SettingsError
from oam_mosaic_assets.settings import Settings

TICK = datetime(2026, 1, 15, 3, tzinfo=UTC)


def schedule(name: str, **environment: str) -> dg.ScheduleDefinition:
    """The schedule that these settings produce."""
    found = build_definitions(Settings.read(environment)).resolve_schedule_def(name)
    assert isinstance(found, dg.ScheduleDefinition)
    return found


@pytest.mark.parametrize("name", ["daily_mosaic", "hourly_freshness", "daily_tidying"])
def test_schedules_run_without_anybody_starting_them_and_in_utc(name: str) -> None:
    found = schedule(name)
    assert found.default_status is dg.DefaultScheduleStatus.RUNNING
    assert found.execution_timezone == "UTC"
    assert found.description


def test_the_mosaic_is_made_every_24_hours_unless_the_settings_say_otherwise() -> None:
    assert schedule("daily_mosaic").cron_schedule == "0 3 * * *"
    assert schedule("daily_mosaic", MOSAIC_CRON="15 */6 * * *").cron_schedule == "15 */6 * * *"


def test_what_is_public_is_looked_at_every_hour() -> None:
    assert schedule("hourly_freshness").cron_schedule == "30 * * * *"


@pytest.mark.parametrize("cron", ["0 3 * *", "0 3 * * * *", "61 3 * * *", "at three", "a b c d e"])
def test_a_wrong_cron_expression_is_a_settings_error_that_names_its_variable(cron: str) -> None:
    with pytest.raises(SettingsError, match="MOSAIC_CRON"):
        build_definitions(Settings.read({"MOSAIC_CRON": cron}))


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("daily_mosaic", "global_mosaic"),
        ("hourly_freshness", "mosaic_freshness"),
        ("daily_tidying", "old_runs"),
    ],
)
def test_a_tick_asks_for_one_run_of_its_job(instance: dg.DagsterInstance, name: str, job: str) -> None:
    found = schedule(name)
    assert found.job_name == job
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=TICK) as context:
        tick = found.evaluate_tick(context)
    assert tick.skip_message is None
    assert tick.run_requests is not None
    (request,) = tick.run_requests
    assert not request.asset_selection, "the job says what runs"


def test_the_daily_job_makes_all_and_the_hourly_one_only_looks() -> None:
    definitions = build_definitions(Settings.read({}))
    daily = definitions.resolve_job_def("global_mosaic").asset_layer
    hourly = definitions.resolve_job_def("mosaic_freshness").asset_layer
    assert {key.to_user_string() for key in daily.executable_asset_keys} == {
        "stac_footprints",
        "footprints_geojson",
        "global_mosaic_pmtiles",
        "details_geojson",
        "details_pmtiles",
        "exact_coverage_pmtiles",
        "whole_coverage_pmtiles",
        "density_cells",
        "density_pmtiles",
        "catalog_statistics",
        "catalog_changes",
        "published_mosaic",
    }
    assert not hourly.executable_asset_keys
    assert {key.name for key in hourly.asset_graph.asset_check_keys} == {"mosaic_is_fresh"}


def test_dagsters_own_freshness_policy_has_the_hours_of_the_settings() -> None:
    settings = Settings.read({"FRESH_WARN_HOURS": "2", "FRESH_FAIL_HOURS": "3.5"})
    policies = {
        spec.key.to_user_string(): spec.freshness_policy
        for spec in build_definitions(settings).resolve_all_asset_specs()
    }
    published = policies.pop("published_mosaic")
    assert isinstance(published, TimeWindowFreshnessPolicy)
    assert published.warn_window is not None
    assert published.warn_window.to_timedelta() == timedelta(hours=2)
    assert published.fail_window.to_timedelta() == timedelta(hours=3.5)
    assert set(policies.values()) == {None}, "what is staged and taken away again cannot be stale"

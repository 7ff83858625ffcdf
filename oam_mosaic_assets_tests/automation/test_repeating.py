"""Repeating: which failed builds are started again, when, how often, and that nobody is alerted before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from oam_mosaic_assets.automation import repeating
from oam_mosaic_assets.automation.conditions import RETRY_GRACE, conditions_of
from oam_mosaic_assets.automation.repeating import AGAIN_AFTER, CHANGE_TAG, repeat_failed_build
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import Site, dagster_instance, quick_folder, some_items, write_items

BY_SCHEDULE = {"dagster/schedule_name": "daily_mosaic"}
AWAY = {"PG_DSN": "postgresql://nobody@127.0.0.1:9/none", "STAC_ITEMS": ""}
WRONG = {"STAC_ITEMS": "missing.ndjson"}


@pytest.fixture
def site() -> Iterator[Site]:
    """An installation with records of its own, as the newest build counts."""
    with quick_folder() as folder, dagster_instance() as instance:
        made = Site({"STAC_ITEMS": str(folder / "items.ndjson")}, instance, folder)
        write_items(made.items, some_items(3))
        yield made


def tick(site: Site) -> dg.RunRequest | str:
    """What the sensor asks for, or why it asks for nothing."""
    with dg.build_sensor_context(instance=site.instance) as context:
        found = repeat_failed_build.evaluate_tick(context)
    return found.run_requests[0] if found.run_requests else str(found.skip_message)


def asked(site: Site) -> dg.RunRequest:
    found = tick(site)
    assert isinstance(found, dg.RunRequest), found
    return found


def alerts(site: Site, *, later: timedelta = timedelta(0)) -> list[str]:
    """The conditions that stand, as of some time from now."""
    return [each.key for each in conditions_of(site.instance, now=datetime.now(UTC) + later)]


def test_a_build_of_the_schedule_that_a_server_failed_is_repeated_and_nobody_is_woken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert site.run(tags=BY_SCHEDULE).success
    before = site.stays_whole()
    write_items(site.items, some_items(4))
    assert site.run(AWAY, tags=BY_SCHEDULE).kind == "CatalogueUnavailable"
    assert "failed; it is repeated at" in str(tick(site))
    assert alerts(site) == []

    monkeypatch.setattr(repeating, "AGAIN_AFTER", timedelta(0))
    assert site.run(tags=asked(site).tags).success
    assert site.stays_whole().images == before.images + 1
    assert "not one to be repeated" in str(tick(site))
    assert alerts(site, later=timedelta(hours=1)) == []


def test_the_third_failure_is_the_last_and_then_somebody_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeating, "AGAIN_AFTER", timedelta(0))
    assert site.run(AWAY, tags=BY_SCHEDULE).kind == "CatalogueUnavailable"
    keys = set()
    for _ in range(2):
        assert alerts(site) == []
        request = asked(site)
        keys.add(request.run_key)
        assert site.run(AWAY, tags=request.tags).kind == "CatalogueUnavailable"
    assert len(keys) == 2, "or Dagster would take the second for the first"
    assert "not one to be repeated" in str(tick(site))
    assert alerts(site) == ["build"]


def test_where_the_sensor_is_switched_off_the_alert_comes_a_little_later(site: Site) -> None:
    assert site.run(AWAY, tags=BY_SCHEDULE).kind == "CatalogueUnavailable"
    assert alerts(site, later=AGAIN_AFTER) == []
    assert alerts(site, later=AGAIN_AFTER + RETRY_GRACE) == ["build"]


@pytest.mark.parametrize(
    ("environment", "tags", "kind"),
    [(WRONG, BY_SCHEDULE, "CatalogueRefused"), (AWAY, {}, "CatalogueUnavailable")],
    ids=["needs_a_person", "was_started_by_one"],
)
def test_what_a_person_must_mend_or_has_seen_fail_is_not_repeated(
    site: Site, environment: dict[str, str], tags: dict[str, str], kind: str
) -> None:
    assert site.run(environment, tags=tags).kind == kind
    assert "not one to be repeated" in str(tick(site))
    assert alerts(site) == ["build"]


def test_a_build_that_a_person_made_since_takes_its_place(site: Site) -> None:
    assert site.run(AWAY, tags=BY_SCHEDULE).kind == "CatalogueUnavailable"
    assert site.run().success
    assert "not one to be repeated" in str(tick(site))


def test_a_repeat_is_still_for_the_change_that_was_followed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeating, "AGAIN_AFTER", timedelta(0))
    assert site.run(AWAY, tags={CHANGE_TAG: "this one"}).kind == "CatalogueUnavailable"
    again = asked(site)
    assert again.tags[CHANGE_TAG] == "this one"
    assert site.run(AWAY, tags=again.tags).kind == "CatalogueUnavailable"
    assert asked(site).tags == again.tags


def test_it_runs_from_the_start() -> None:
    sensor = build_definitions(Settings.read({})).resolve_sensor_def("repeat_failed_build")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING

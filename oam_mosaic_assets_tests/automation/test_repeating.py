"""Repeating: which failed builds are started again, when, how often, and that nobody is alerted before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from oam_mosaic_assets.automation import repeating
from oam_mosaic_assets.automation.conditions import RETRY_GRACE, conditions_of
from oam_mosaic_assets.automation.repeating import (
    AGAIN_AFTER,
    CHANGE_TAG,
    REPEATS_TAG,
    repeat_failed_build,
)
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.errors import StoreRefused, StoreUnavailable
from oam_mosaic_assets.resources.failures import failure_of
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
    assert "failed; it is repeated soon after" in str(tick(site))
    assert alerts(site) == []

    monkeypatch.setattr(repeating, "AGAIN_AFTER", timedelta(0))
    assert site.run(tags=asked(site).tags).success
    assert site.stays_whole().images == before.images + 1
    assert "did not fail" in str(tick(site))
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
    assert "it is not repeated" in str(tick(site))
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
    assert "it is not repeated" in str(tick(site))
    assert alerts(site) == ["build"]


def test_a_build_that_a_person_made_since_takes_its_place(site: Site) -> None:
    assert site.run(AWAY, tags=BY_SCHEDULE).kind == "CatalogueUnavailable"
    assert site.run().success
    assert "did not fail" in str(tick(site))


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


def test_what_a_person_executes_once_more_is_theirs_though_it_has_the_tags(site: Site) -> None:
    first = site.run(AWAY, tags=BY_SCHEDULE).run_id
    assert site.run(AWAY, tags=BY_SCHEDULE | once_more(first)).kind == "CatalogueUnavailable"
    assert "it is not repeated" in str(tick(site))
    assert alerts(site) == ["build"]


def test_a_retry_of_a_repeat_that_died_is_no_attempt_of_its_own(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeating, "AGAIN_AFTER", timedelta(0))
    assert site.run(AWAY, tags=BY_SCHEDULE).kind == "CatalogueUnavailable"
    repeat = site.run(AWAY, tags=asked(site).tags)
    died = site.instance.get_run_by_id(repeat.run_id)
    assert died is not None
    retried = {**died.tags, **once_more(repeat.run_id), "dagster/retry_number": "1"}
    assert site.run(AWAY, tags=retried).kind == "CatalogueUnavailable"
    assert asked(site).tags[REPEATS_TAG] == died.tags[REPEATS_TAG]


@pytest.mark.parametrize("first", ["may pass", "needs a person"])
def test_nothing_is_repeated_while_anything_needs_a_person(site: Site, first: str) -> None:
    @dg.op
    def passes() -> None:
        raise failure_of(StoreUnavailable("It is away."))

    @dg.op
    def stays() -> None:
        raise failure_of(StoreRefused("A right is missing."))

    @dg.job(name="global_mosaic", executor_def=dg.in_process_executor)
    def both() -> None:
        for each in (passes, stays) if first == "may pass" else (stays, passes):
            each()

    both.execute_in_process(instance=site.instance, tags=BY_SCHEDULE, raise_on_error=False)
    assert "it is not repeated" in str(tick(site))


def test_a_look_of_the_schedule_that_a_server_failed_is_told_at_once(site: Site) -> None:
    assert site.run().success
    hourly = {"dagster/schedule_name": "hourly_freshness"}
    away = {"S3_BUCKET": "none", "S3_ENDPOINT": "http://127.0.0.1:9", "MOSAIC_STORE": ""}
    keys = {"S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"}
    assert site.run({**away, **keys}, job="mosaic_freshness", tags=hourly).kind == "StoreUnavailable"
    assert alerts(site) == ["freshness"]


def once_more(run: str) -> dict[str, str]:
    """The tags of a run that executes another one once more."""
    return {"dagster/parent_run_id": run, "dagster/root_run_id": run}

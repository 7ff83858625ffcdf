"""The sensor `alerts`, ticked over real runs as by the daemon: one alert per condition, one when it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, ROOT_RUN_ID_TAG
from dagster._core.test_utils import create_run_for_test

from oam_mosaic_assets.automation import conditions
from oam_mosaic_assets.checks import mosaic_freshness
from oam_mosaic_assets.core.freshness import Freshness
from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.errors import StoreRefused
from oam_mosaic_assets.gateways.alerts import Email
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.resources.failures import failure_of
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.forked import run_forked
from oam_mosaic_assets_tests.automation.live_dagster import environment_of, running_daemon, until
from oam_mosaic_assets_tests.chain import Site, dagster_instance, quick_folder, some_items, write_items
from oam_mosaic_assets_tests.gateways.catalogue.scripted_api import Answer, ScriptedApi, scripted_api
from oam_mosaic_assets_tests.servers.smtp import MailServer, running_smtp

SECRET = "T0ps3cr3t"
HOOK, SLACK = f"/hook/{SECRET}", f"/slack/{SECRET}"
BROKEN = {"STAC_ITEMS": "missing.ndjson"}
PUBLISHED = dg.AssetKey("published_mosaic")


@dataclass(slots=True)
class Watched:
    """An installation whose alerts go to real servers, with this class playing the daemon.

    Attributes:
        cursor: the only state that outlives a tick.
        said: the skip message of each tick.
    """

    site: Site
    web: ScriptedApi
    mail: MailServer
    cursor: str | None = None
    said: list[str] = field(default_factory=list)

    def tick(self, times: int = 1) -> list[str]:
        """Tick as a freshly started daemon does; returns what the webhook received, as `event condition`."""
        before = len(self.told())
        for _ in range(times):
            sensor = build_definitions(self.site.settings).resolve_sensor_def("alerts")
            with dg.build_sensor_context(instance=self.site.instance, cursor=self.cursor) as context:
                data = sensor.evaluate_tick(context)
            assert data.run_requests in (None, [])
            self.cursor = data.cursor
            self.said.append(data.skip_message or "")
        return [f"{each['event']} {each['condition']}" for each in self.told()[before:]]

    def told(self, path: str = HOOK) -> list[dict[str, Any]]:
        """Everything posted to a webhook."""
        return [json.loads(body) for _, asked, _, body in self.web.asked if asked == path]


@contextmanager
def servers() -> Iterator[tuple[ScriptedApi, MailServer]]:
    yes = Answer("ok")
    with scripted_api(Answer({}), others={HOOK: yes, SLACK: yes}) as web, running_smtp() as mail:
        yield web, mail


def alert_settings(web: ScriptedApi, mail: MailServer) -> dict[str, str]:
    return {
        "ALERT_WEBHOOK_URL": web.address + HOOK,
        "ALERT_SLACK_URL": web.address + SLACK,
        "ALERT_SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
        "ALERT_EMAIL_FROM": "mosaic@example.org",
        "ALERT_EMAIL_TO": "ann@example.org",
        "ALERT_UI_URL": "https://dagster.example.org/",
    }


@pytest.fixture
def watched() -> Iterator[Watched]:
    with dagster_instance() as instance, quick_folder() as folder, servers() as (web, mail):
        environment = {"STAC_ITEMS": str(folder / "items.ndjson"), **alert_settings(web, mail)}
        site = Site(environment, instance, folder)
        write_items(site.items, some_items(30))
        yield Watched(site, web, mail)


def test_a_build_that_fails_twice_is_one_alert_and_its_recovery_another(watched: Watched) -> None:
    first = watched.site.run(BROKEN)
    assert not first.success
    assert watched.tick(3) == ["opened build"]
    assert not watched.site.run(BROKEN).success
    assert watched.tick(3) == []
    assert watched.site.run().success
    assert watched.tick(3) == ["resolved build"]

    opened, resolved = watched.told()
    assert "missing.ndjson" in opened["text"]
    assert opened["what_to_do"]
    assert opened["link"] == f"https://dagster.example.org/runs/{first.run_id}"
    assert resolved["since"] == opened["since"]
    assert [each["text"].partition("\n")[0] for each in watched.told(SLACK)] == [
        "The build failed.",
        "The build succeeds again.",
    ]
    assert [letter["Subject"] for letter in watched.mail.letters] == [
        "OpenAerialMap mosaic: The build failed",
        "OpenAerialMap mosaic: The build succeeds again",
    ]


def test_a_channel_that_is_down_is_tried_again_until_it_takes_the_alert_once(watched: Watched) -> None:
    watched.site.run(BROKEN)
    watched.web.others[HOOK] = Answer("no", 503)
    watched.mail.is_down = True
    watched.tick(2)
    assert len(watched.told()) == 2, "tried at each tick"
    assert len(watched.told(SLACK)) == 1, "the one that is up is told once"
    assert "ALERT_WEBHOOK_URL did not accept the alert: 503" in watched.said[-1]
    assert "ALERT_SMTP_URL did not accept the alert" in watched.said[-1]

    watched.web.others[HOOK] = Answer("ok")
    watched.mail.is_down = False
    assert watched.tick(3) == ["opened build"]
    assert len(watched.told(SLACK)) == len(watched.mail.letters) == 1


def test_channels_that_are_slow_to_fail_keep_no_other_from_its_alert(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oam_mosaic_assets.gateways.alerts.SECONDS", 2.0)
    monkeypatch.setattr("oam_mosaic_assets.automation.alerting.SENDING_SECONDS", 0.5)
    watched.site.run(BROKEN)
    watched.web.others[HOOK] = watched.web.others[SLACK] = Answer("ok", seconds=4)
    watched.tick()
    for variable in ("ALERT_WEBHOOK_URL", "ALERT_SLACK_URL"):
        assert f"{variable} did not accept the alert: ReadTimeout" in watched.said[-1]
    assert len(watched.mail.letters) == 1

    watched.web.others[HOOK] = watched.web.others[SLACK] = Answer("ok")
    watched.tick(2)
    assert len(watched.told()) == len(watched.told(SLACK)) == 2
    assert len(watched.mail.letters) == 1


def test_a_channel_that_fails_in_an_unforeseen_way_does_not_let_the_others_be_told_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError(SECRET)

    watched.site.run(BROKEN)
    with monkeypatch.context() as patch:
        patch.setattr(Email, "send", broken)
        watched.tick(3)
    assert len(watched.told()) == len(watched.told(SLACK)) == 1
    assert "RuntimeError" in watched.said[-1]
    assert SECRET not in "".join(watched.said)

    watched.tick(2)
    assert len(watched.mail.letters) == len(watched.told()) == 1


def test_nothing_secret_is_said_or_remembered(
    watched: Watched, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    watched.site.run(BROKEN)
    watched.web.others[HOOK] = watched.web.others[SLACK] = Answer(SECRET, 403)
    watched.tick()
    shown = "".join(capfd.readouterr()) + caplog.text + str(watched.cursor) + "".join(watched.said)
    assert "ALERT_SLACK_URL" in shown
    assert SECRET not in shown


class Unreachable:
    """A catalogue that fails in a way the code does not foresee."""

    origin = "nowhere"

    def snapshot(self) -> None:
        raise RuntimeError(f"password={SECRET}")


def test_an_error_of_another_kind_is_named_and_not_quoted(watched: Watched) -> None:
    watched.site.run(catalogue=Unreachable())
    watched.tick()
    (alert,) = watched.told()
    assert alert["text"] == "The step stac_footprints failed with RuntimeError."
    assert SECRET not in str(alert)


def test_a_build_that_waits_is_one_alert_until_a_person_publishes_it(watched: Watched) -> None:
    site = watched.site
    site.published()
    write_items(site.items, some_items(20))
    held = site.run()
    assert watched.tick(2) == ["opened held"]
    (alert,) = watched.told()
    assert alert["build"] == held.build
    assert f"oam-mosaic publish {held.build} --confirm REASON" in alert["what_to_do"]
    assert "catalogue_did_not_shrink" in alert["text"]

    site.run(BROKEN)
    assert watched.tick(2) == ["opened build"], "it still waits"
    tags = {"oam-mosaic/build": held.build, "oam-mosaic/confirm": "right"}
    assert site.run(job="publish_held_build", tags=tags).success
    assert watched.tick(2) == ["resolved held"], "the chain was not tried again"
    assert site.run().success
    assert watched.tick(2) == ["resolved build"]


def test_a_build_that_a_person_published_and_rolled_back_waits_for_nobody(watched: Watched) -> None:
    site = watched.site
    site.published()
    write_items(site.items, some_items(20))
    held = site.run()
    assert watched.tick(2) == ["opened held"]
    tags = {"oam-mosaic/build": held.build, "oam-mosaic/confirm": "right"}
    assert site.run(job="publish_held_build", tags=tags).success
    assert watched.tick(2) == ["resolved held"]
    assert site.command("rollback", "--reason", "it was wrong") == 0
    assert watched.tick(2) == []


def test_a_build_that_waits_is_not_forgotten_however_many_fail_after_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are the logs of all these read, each of which is a file."""
    monkeypatch.setattr(conditions, "AT_A_TIME", 2)
    watched.site.published()
    write_items(watched.site.items, some_items(20))
    watched.site.run()
    assert watched.tick() == ["opened held"]
    for _ in range(5):
        crash(watched.site.instance)
    read, read_log = list[str](), watched.site.instance.all_logs
    monkeypatch.setattr(
        watched.site.instance, "all_logs", lambda run, **of: read.append(run) or read_log(run, **of)
    )
    assert watched.tick(2) == ["opened build"], "it still waits"
    assert len(read) == 2 * 3, "the newest two, and the one that waits"


def test_a_build_that_its_publication_held_back_is_not_forgotten_either(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "AT_A_TIME", 2)
    watched.site.store.put_bytes("global-mosaic.pmtiles", b"another's", Headers("application/octet-stream"))
    assert watched.site.run().kind == "HeldBack"
    for _ in range(5):
        crash(watched.site.instance)
    assert watched.tick() == ["opened build", "opened held"]


def test_a_stale_mosaic_is_one_alert_however_often_it_is_looked_at(watched: Watched) -> None:
    site = watched.site
    pointer = site.published()
    assert watched.tick() == []
    older = (datetime.now(UTC) - timedelta(hours=40)).isoformat()
    content = replace(pointer, checked_at=older).to_json()
    site.store.put_bytes(site.keys.pointer, content, Headers("application/json"), public=True)
    for expected in (["opened freshness"], []):
        assert not site.run(job="mosaic_freshness").success
        assert watched.tick(3) == expected
    assert "the mosaic is stale: no build for 40.0 h" in watched.told()[0]["text"]
    assert watched.told()[0]["build"] == pointer.build
    assert site.run().success
    assert watched.tick(2) == ["resolved freshness"]


def test_a_failed_audit_is_told_though_it_ended_a_step_beside_it(watched: Watched) -> None:
    @dg.op
    def audited() -> None:
        dg.OpExecutionContext.get().log_event(
            dg.AssetCheckEvaluation(
                asset_key=PUBLISHED,
                check_name="no_image_is_missing",
                passed=False,
                severity=dg.AssetCheckSeverity.ERROR,
                blocking=True,
                description="one is missing",
                metadata={"build": "20260115T030000Z-3f9c2a7d41be", "what to do": "Build again."},
            )
        )
        raise failure_of(StoreRefused("what was staged is gone", hint="Materialise the chain."))

    @dg.job(name="global_mosaic")
    def chain() -> None:
        audited()

    assert not chain.execute_in_process(instance=watched.site.instance, raise_on_error=False).success

    assert watched.tick(2) == ["opened build"]
    (alert,) = watched.told()
    assert alert["text"] == "no_image_is_missing: one is missing"
    assert alert["what_to_do"] == "Build again."


def test_a_mosaic_that_cannot_be_looked_at_is_an_alert(watched: Watched) -> None:
    watched.site.published()
    watched.site.run(job="mosaic_freshness", releases=object())
    assert watched.tick(2) == ["opened freshness"]
    assert watched.told()[0]["text"].startswith("It could not be checked. ")
    watched.site.run(job="mosaic_freshness")
    assert watched.tick(2) == ["resolved freshness"]


def test_a_mosaic_that_is_only_late_is_none(watched: Watched) -> None:
    watched.site.published()
    watched.site.run({"FRESH_WARN_HOURS": "0.02", "FRESH_FAIL_HOURS": "90"}, job="mosaic_freshness")
    assert watched.tick() == []


def test_a_build_whose_mosaic_is_at_once_not_as_published_is_one_alert(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = Freshness(passed=False, is_late_only=False, text="the clock is wrong")
    with monkeypatch.context() as patch:
        patch.setattr(mosaic_freshness, "judge_freshness", lambda *_, **__: stale)
        assert not watched.site.run().success
    assert watched.tick(2) == ["opened freshness"]


@pytest.mark.parametrize(
    ("before", "afterwards", "told"),
    [(False, True, []), (True, False, ["opened freshness"])],
    ids=["in order at the end", "wrong at the end"],
)
def test_the_look_at_the_end_of_a_build_counts_though_another_run_looked_meanwhile(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, *, before: bool, afterwards: bool, told: list[str]
) -> None:
    site = watched.site
    site.published()
    hourly = iter([True])

    def judged(*_: Any, **__: Any) -> Freshness:
        if next(hourly, False):  # in the build, which began earlier, but looks later
            site.run(job="mosaic_freshness")
            return Freshness(passed=afterwards, is_late_only=False, text="as the build leaves it")
        return Freshness(passed=before, is_late_only=False, text="while the build is made")

    write_items(site.items, some_items(31))
    monkeypatch.setattr(mosaic_freshness, "judge_freshness", judged)
    assert site.run().success == afterwards
    assert watched.tick(2) == told


def policy_says(instance: dg.DagsterInstance, state: FreshnessState) -> None:
    """Record a state of the freshness policy, as the daemon does."""
    instance._report_runless_asset_event(
        FreshnessStateChange(
            key=PUBLISHED,
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=time.time(),
        )
    )


def test_dagsters_own_policy_speaks_where_nothing_looks_at_the_store(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.site.published()
    policy_says(watched.site.instance, FreshnessState.FAIL)
    assert watched.tick() == [], "the store was looked at, and says otherwise"
    monkeypatch.setattr(conditions, "LOOKS_WITHIN", timedelta())
    assert watched.tick(2) == ["opened freshness"]
    policy_says(watched.site.instance, FreshnessState.PASS)
    assert watched.tick(2) == ["resolved freshness"]


ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("oam-mosaic"), "__repository__"), "global_mosaic"
)


def crash(instance: dg.DagsterInstance, before: dg.DagsterRun | None = None, **facts: Any) -> dg.DagsterRun:
    """A run whose process died, as the daemon records it; `before` is the run it retried."""
    if before is not None:
        root = before.root_run_id or before.run_id
        facts |= {"parent_run_id": before.run_id, "root_run_id": root, "tags": {ROOT_RUN_ID_TAG: root}}
    run = create_run_for_test(instance, job_name="global_mosaic", status=dg.DagsterRunStatus.STARTED, **facts)
    if before is not None:
        instance.add_run_tags(before.run_id, {AUTO_RETRY_RUN_ID_TAG: run.run_id})
    instance.report_run_failed(run)
    return cast("dg.DagsterRun", run)


def test_a_run_that_dagster_will_start_again_is_no_alert_until_its_retries_are_used_up(
    watched: Watched,
) -> None:
    instance = watched.site.instance
    first = crash(instance, remote_job_origin=ORIGIN)
    assert watched.tick(2) == []
    second = crash(instance, first, remote_job_origin=ORIGIN)
    assert watched.tick(2) == []
    crash(instance, second, remote_job_origin=ORIGIN)
    assert watched.tick(2) == ["opened build"]
    crash(instance, remote_job_origin=ORIGIN)
    assert watched.tick(2) == [], "it is still the same"


def test_a_retry_whose_build_the_run_before_it_has_published_is_no_alert(watched: Watched) -> None:
    """The earlier run had been recorded as failed while it was still working."""
    instance = watched.site.instance
    watched.site.published()
    (publisher,) = instance.get_runs(dg.RunsFilter(job_name="global_mosaic"))
    crash(instance, publisher)
    assert watched.tick(2) == []
    crash(instance)
    assert watched.tick(2) == ["opened build"]


def test_a_retry_that_never_came_is_not_waited_for(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(watched.site.instance, remote_job_origin=ORIGIN)
    monkeypatch.setattr(conditions, "RETRY_GRACE", timedelta())
    assert watched.tick(2) == ["opened build"]


def test_a_run_of_the_command_line_is_never_retried_and_told_at_once(watched: Watched) -> None:
    crash(watched.site.instance)
    assert watched.tick(2) == ["opened build"]


def test_a_run_that_somebody_terminates_says_nothing(watched: Watched) -> None:
    instance = watched.site.instance

    def terminate() -> None:
        run = create_run_for_test(instance, job_name="global_mosaic", status=dg.DagsterRunStatus.CANCELING)
        instance.report_run_canceled(run)

    terminate()
    assert watched.tick() == []
    crash(instance)
    assert watched.tick() == ["opened build"]
    terminate()
    assert watched.tick(2) == [], "it is not well again"


def test_a_part_that_somebody_makes_by_hand_settles_nothing(watched: Watched) -> None:
    instance = watched.site.instance
    crash(instance)
    assert watched.tick() == ["opened build"]
    part = frozenset({dg.AssetKey("stac_footprints")})
    status = dg.DagsterRunStatus.SUCCESS
    create_run_for_test(instance, job_name="global_mosaic", status=status, asset_selection=part)
    assert watched.tick() == []
    create_run_for_test(instance, job_name="global_mosaic", status=status, asset_selection=part | {PUBLISHED})
    assert watched.tick() == ["resolved build"]


def test_there_is_no_sensor_where_no_channel_is_set_up() -> None:
    def sensor(**environment: str) -> dg.SensorDefinition | None:
        found = build_definitions(Settings.read(environment)).get_repository_def().sensor_defs
        return next((each for each in found if each.name == "alerts"), None)

    assert sensor() is None
    alerts = sensor(ALERT_SLACK_URL="https://hooks.example.org/x")
    assert alerts is not None
    assert alerts.default_status is dg.DefaultSensorStatus.RUNNING
    assert alerts.minimum_interval_seconds == 60


def build(environment: Mapping[str, str], folder: Path) -> int:
    """Run `oam-mosaic build`; returns its exit code."""
    return run_forked(["build"], environment=environment, folder=folder).returncode


def wait_until_remembered(home: str, log: Path) -> None:
    """Wait until the daemon has stored what it told; if it ends before that, the next one cannot know."""

    def is_remembered() -> bool:
        kept = (each.instigator_data for each in instance.all_instigator_state())
        return any(isinstance(each, SensorInstigatorData) and each.cursor for each in kept)

    with dg.DagsterInstance.from_config(home) as instance:
        until(is_remembered, log.read_text)


def test_a_daemon_tells_what_it_finds_and_the_next_one_tells_only_what_is_new() -> None:
    with quick_folder() as folder, servers() as (web, mail):
        items = folder / "items.ndjson"
        environment = environment_of(folder, STAC_ITEMS=str(items), **alert_settings(web, mail))
        log = folder / "dagster-daemon.log"
        for _ in range(2):
            assert build(environment, folder) != 0
        with running_daemon(folder, environment):
            until(lambda: (len(mail.letters), len(web.asked)) == (1, 2), log.read_text)
            wait_until_remembered(environment["DAGSTER_HOME"], log)
        write_items(items, some_items(30))
        assert build(environment, folder) == 0
        with running_daemon(folder, environment):
            until(lambda: (len(mail.letters), len(web.asked)) == (2, 4), log.read_text)
        kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    posted = [json.loads(body) for _, path, _, body in web.asked if path == HOOK]
    assert [each["event"] for each in posted] == ["opened", "resolved"]
    assert len(web.asked) == 4
    assert len(mail.letters) == 2
    assert SECRET.encode() not in kept

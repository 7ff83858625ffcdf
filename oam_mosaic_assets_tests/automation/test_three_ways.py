"""The chain as started by the command, the daemon's tick and the UI: Dagster shows the same each time."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from oam_mosaic_assets.core.audit import CHECKS
from oam_mosaic_assets.gateways.from_settings import store_of
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.live_dagster import (
    LOCATION,
    LiveDagster,
    environment_of,
    program,
    running_daemon,
    running_webserver,
    until,
)
from oam_mosaic_assets_tests.chain import (
    another_tippecanoe,
    is_running,
    nothing_left_behind,
    public_mosaic_is_whole,
    quick_folder,
    slow_tippecanoe,
    some_items,
    write_items,
)

IMAGES = 30
CHAIN = ["stac_footprints", "footprints_geojson", "global_mosaic_pmtiles", "published_mosaic"]
EVERY_CHECK = {("global_mosaic_pmtiles", name) for name in CHECKS} | {("published_mosaic", "mosaic_is_fresh")}


@dataclass(frozen=True, slots=True)
class Installation:
    """A running Dagster, and the environment it shares with the command."""

    dagster: LiveDagster
    environment: dict[str, str]

    def build(self) -> subprocess.CompletedProcess[str]:
        """Run `oam-mosaic build` to its end."""
        return subprocess.run(
            [program("oam-mosaic"), "build"],
            env=self.environment,
            cwd=self.dagster.folder,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def public_mosaic(self) -> str:
        """Check that the public mosaic is whole; returns its build."""
        settings = Settings.read(self.environment)
        return public_mosaic_is_whole(store_of(settings), settings.keys).build


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """A running webserver and daemon, with a schedule that ticks every minute and that nobody started."""
    with quick_folder() as folder:
        # one image has no geometry, so that there is something to set aside
        items = [*some_items(IMAGES - 1), {**some_items(1, first=IMAGES)[0], "geometry": None}]
        write_items(folder / "items.ndjson", items)
        (folder / "tippecanoe").symlink_to(find_tippecanoe())
        environment = environment_of(
            folder,
            STAC_ITEMS=str(folder / "items.ndjson"),
            TIPPECANOE=str(folder / "tippecanoe"),
            MOSAIC_CRON="* * * * *",
            MAX_SET_ASIDE_SHARE="0.1",
        )
        with running_webserver(folder, environment) as dagster:
            # at their times, they would start runs of their own, and one evaluates a check
            for schedule in ("hourly_freshness", "daily_tidying"):
                stop(dagster, schedule)
            with running_daemon(folder, environment):
                yield Installation(dagster, environment)


def stop(dagster: LiveDagster, schedule: str) -> None:
    """Stop a schedule, as the UI's switch does."""
    state = dagster.ask(
        """
        query Schedule($selector: ScheduleSelector!) {
          scheduleOrError(scheduleSelector: $selector) { ... on Schedule { scheduleState { id } } }
        }
        """,
        selector={**LOCATION, "scheduleName": schedule},
    )["scheduleOrError"]["scheduleState"]["id"]
    stopped = dagster.ask(
        """
        mutation Stop($schedule: String!) {
          stopRunningSchedule(id: $schedule) { ... on ScheduleStateResult { scheduleState { status } } }
        }
        """,
        schedule=state,
    )
    assert stopped["stopRunningSchedule"]["scheduleState"]["status"] == "STOPPED"


@pytest.fixture(scope="module")
def ticked_run(installation: Installation) -> str:
    """The run started by the schedule's first tick; the schedule is then stopped, as more would interfere."""
    dagster = installation.dagster
    run = dagster.wait_for_run(schedule_name="daily_mosaic")
    stop(dagster, "daily_mosaic")
    for each in dagster.runs(schedule_name="daily_mosaic"):
        dagster.finished(each)
    return run


def test_the_daemon_starts_it_at_the_schedules_tick(installation: Installation, ticked_run: str) -> None:
    assert installation.dagster.finished(ticked_run) == "SUCCESS"
    the_run_shows_the_chain(installation.dagster, ticked_run)


@pytest.mark.usefixtures("ticked_run")
def test_the_command_starts_it_and_the_ui_shows_it(installation: Installation) -> None:
    built = installation.build()
    assert built.returncode == 0, built.stderr
    named = re.search(r"run +([0-9a-f-]{36})", built.stderr)
    assert named is not None, built.stderr
    assert installation.dagster.finished(named[1]) == "SUCCESS"
    the_run_shows_the_chain(installation.dagster, named[1])
    assert installation.public_mosaic() in built.stderr


@pytest.mark.usefixtures("ticked_run")
@pytest.mark.parametrize(("job", "assets"), [("__ASSET_JOB", CHAIN), ("global_mosaic", None)])
def test_the_ui_starts_it(installation: Installation, job: str, assets: list[str] | None) -> None:
    """By `Materialize all` on the asset graph, and by `Materialize` on the job's page."""
    run = installation.dagster.launch(job, assets)
    assert installation.dagster.finished(run) == "SUCCESS", installation.dagster.said()
    the_run_shows_the_chain(installation.dagster, run)


@pytest.mark.usefixtures("ticked_run")
def test_a_run_that_is_terminated_leaves_nothing_staged_and_no_tippecanoe(installation: Installation) -> None:
    """Just like a run stopped by a signal."""
    dagster, folder = installation.dagster, installation.dagster.folder
    settings = Settings.read(installation.environment)
    store, keys, scratch = store_of(settings), settings.keys, settings.mosaic_scratch
    before = public_mosaic_is_whole(store, keys)
    number, items = folder / "number", folder / "items.ndjson"
    usual = items.read_text()
    # otherwise there would be nothing to tile
    write_items(items, [*usual.splitlines(), *some_items(1, first=IMAGES + 1)])
    with another_tippecanoe(folder / "tippecanoe", slow_tippecanoe(folder, number)):
        run = dagster.launch("global_mosaic")
        until(lambda: number.exists() and number.read_text().endswith("\n"), dagster.said)
        assert list(store.keys(keys.staging_root))
        dagster.terminate(run)
        assert dagster.finished(run) == "CANCELED"
    items.write_text(usual)
    # the run's process reports its end before it cleans up
    until(lambda: not list(scratch.iterdir()), dagster.said)
    assert not is_running(int(number.read_text()))
    nothing_left_behind(store, keys, scratch)
    assert public_mosaic_is_whole(store, keys) == before


@pytest.mark.usefixtures("ticked_run")
def test_a_command_while_a_run_is_at_work_leaves_the_newer_build_public(installation: Installation) -> None:
    """Dagster queues its own runs, not the command's; they publish in turn, never the older one last."""
    dagster = installation.dagster
    run = dagster.launch("global_mosaic")
    dagster.started(run)
    built = installation.build()
    published = re.findall(r"^Published (\S+):", built.stderr, re.MULTILINE)
    assert (built.returncode == 0) == bool(published), built.stderr
    if dagster.finished(run) == "SUCCESS":
        published.append(build_of(dagster, run))
    else:
        assert failure_of(dagster, run) == "PublicationLost"
    assert installation.public_mosaic() == max(published)


def the_run_shows_the_chain(dagster: LiveDagster, run: str) -> None:
    """Check lineage, materialisations, checks and the mosaic's metadata, all as the UI queries them."""
    assets = {asset["assetKey"]["path"][-1]: asset for asset in assets_of(dagster)}
    upstream = {name: {key["path"][-1] for key in each["dependencyKeys"]} for name, each in assets.items()}
    assert upstream == {
        "stac_footprints": set(),
        "footprints_geojson": {"stac_footprints"},
        "global_mosaic_pmtiles": {"footprints_geojson", "stac_footprints"},
        "published_mosaic": {"global_mosaic_pmtiles", "stac_footprints"},
    }
    for name in CHAIN:
        assert [each["runId"] for each in assets[name]["assetMaterializations"]] == [run], name
    evaluations = {
        (name, check["name"]): check["executionForLatestMaterialization"]
        for name, asset in assets.items()
        for check in asset["assetChecksOrError"]["checks"]
    }
    assert evaluations.keys() == EVERY_CHECK
    for check, execution in evaluations.items():
        assert (execution["runId"], execution["status"]) == (run, "SUCCEEDED"), check
        assert execution["evaluation"]["success"], check
    entries = assets["published_mosaic"]["assetMaterializations"][0]["metadataEntries"]
    the_mosaic_is_described({entry["label"]: entry for entry in entries})


def the_mosaic_is_described(entries: dict[str, Any]) -> None:
    """Check that the metadata tells a maintainer what was published and shows how it looks."""
    assert entries["address"]["url"].endswith("/global-mosaic.pmtiles")
    assert entries["images"]["intValue"] == IMAGES - 1
    assert '"no_geometry": 1' in entries["set aside by reason"]["jsonString"]
    for number in ("tiles", "bytes"):
        assert entries[number]["intValue"] > 0
    assert entries["seconds"]["floatValue"] > 0
    assert re.fullmatch(r"[0-9a-f]{64}", entries["sha256"]["text"])
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{12}", entries["build"]["text"])
    picture = re.search(r"\(data:image/png;base64,([^)]+)\)", entries["coverage"]["mdStr"])
    assert picture is not None
    assert base64.b64decode(picture[1], validate=True).startswith(b"\x89PNG")
    assert len(entries["coverage"]["mdStr"]) < 100_000


def assets_of(dagster: LiveDagster) -> list[dict[str, Any]]:
    """What the asset pages show."""
    found: list[dict[str, Any]] = dagster.ask(
        """
        {
          assetNodes(group: {groupName: "coverage", repositoryName: "__repository__",
                             repositoryLocationName: "oam-mosaic"}) {
            assetKey { path }
            dependencyKeys { path }
            assetMaterializations(limit: 1) {
              runId
              metadataEntries {
                label
                ... on IntMetadataEntry { intValue }
                ... on FloatMetadataEntry { floatValue }
                ... on TextMetadataEntry { text }
                ... on UrlMetadataEntry { url }
                ... on JsonMetadataEntry { jsonString }
                ... on MarkdownMetadataEntry { mdStr }
              }
            }
            assetChecksOrError {
              ... on AssetChecks {
                checks { name executionForLatestMaterialization { runId status evaluation { success } } }
              }
            }
          }
        }
        """
    )["assetNodes"]
    return found


def build_of(dagster: LiveDagster, run: str) -> str:
    """The build published by a run."""
    events = dagster.ask(
        """
        query Run($run: ID!) {
          runOrError(runId: $run) { ... on Run { assetMaterializations {
            assetKey { path } metadataEntries { label ... on TextMetadataEntry { text } } } } }
        }
        """,
        run=run,
    )["runOrError"]["assetMaterializations"]
    published = next(each for each in events if each["assetKey"]["path"] == ["published_mosaic"])
    entries = {each["label"]: each for each in published["metadataEntries"]}
    return str(entries["build"]["text"])


def failure_of(dagster: LiveDagster, run: str) -> str:
    """The kind of error that made a step fail."""
    events = dagster.ask(
        """
        query Logs($run: ID!) {
          logsForRun(runId: $run) { ... on EventConnection { events {
            ... on ExecutionStepFailureEvent { failureMetadata {
              metadataEntries { label ... on TextMetadataEntry { text } } } } } } }
        }
        """,
        run=run,
    )["logsForRun"]["events"]
    (failure,) = [event["failureMetadata"] for event in events if event.get("failureMetadata")]
    return {entry["label"]: str(entry.get("text")) for entry in failure["metadataEntries"]}["kind"]

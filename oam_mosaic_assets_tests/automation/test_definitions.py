"""The definitions load in Dagster, without a warning, and show no secret in the UI."""

from __future__ import annotations

import gc
import subprocess
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy  # not exported publicly

from oam_mosaic_assets.definitions import build_definitions
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.live_dagster import (
    LOCATION,
    WORKSPACE,
    environment_of,
    program,
    running_webserver,
)
from oam_mosaic_assets_tests.chain import Site, quick_folder

SECRETS = {
    "PG_DSN": "postgresql://reader:pg-S3cr3t@127.0.0.1:1/eoapi",
    "S3_ACCESS_KEY": "AKIA-S3CR3T",
    "S3_SECRET_KEY": "s3-S3cr3t",
    "ALERT_WEBHOOK_URL": "http://127.0.0.1:1/hook-S3cr3t",
    "ALERT_SLACK_URL": "http://127.0.0.1:1/slack-S3cr3t",
    "ALERT_SMTP_URL": "smtp://me:smtp-S3cr3t@127.0.0.1:1",
    "ALERT_EMAIL_FROM": "mosaic@example.org",
    "ALERT_EMAIL_TO": "ann@example.org",
}
NEVER_SHOWN = ["pg-S3cr3t", "AKIA-S3CR3T", "s3-S3cr3t", "hook-S3cr3t", "slack-S3cr3t", "smtp-S3cr3t"]


@pytest.mark.parametrize(
    "environment",
    [{}, {"TEST_MODE": "1"}, {**SECRETS, "S3_BUCKET": "mosaics"}, {"STAC_API_URL": "http://127.0.0.1:1"}],
    ids=["nothing set", "test mode", "production", "an API"],
)
def test_the_definitions_load_whatever_the_settings_ask_for(environment: dict[str, str]) -> None:
    """Loading contacts nothing: neither the catalogue nor the store exists here."""
    dg.Definitions.validate_loadable(build_definitions(Settings.read(environment)))


def test_the_workspace_loads_without_a_warning_of_ours(tmp_path: Path) -> None:
    """Dagster's own warning, that another command will replace this one, is allowed."""
    done = subprocess.run(
        [program("dagster"), "definitions", "validate", "-w", str(WORKSPACE)],
        env=environment_of(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "Validation successful for code location oam-mosaic" in told
    warnings = [line for line in told.splitlines() if "Warning" in line]
    assert [line for line in warnings if "definitions_validate_command" not in line] == []


def test_every_asset_check_and_job_is_described() -> None:
    definitions = build_definitions(Settings.read({}))
    for spec in definitions.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.group_name == "coverage"
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
    graph = definitions.resolve_asset_graph()
    for key in graph.asset_check_keys:
        assert graph.get_check_spec(key).description, key
        assert graph.get_check_spec(key).blocking, key
    for name in ("global_mosaic", "publish_held_build", "rollback", "mosaic_freshness", "old_runs"):
        assert definitions.resolve_job_def(name).description, name


def test_only_publication_has_a_pool_and_embedded_nothing_limits_it(
    site: Site, instance: dg.DagsterInstance
) -> None:
    """A killed run keeps its slot; where nothing frees the slot, every later run would wait for it."""
    graph = build_definitions(Settings.read({})).resolve_asset_graph()
    pools = {key.to_user_string(): graph.get(key).pools for key in graph.materializable_asset_keys}
    assert {name: each for name, each in pools.items() if each} == {"published_mosaic": {"publication"}}
    site.published()
    assert instance.get_concurrency_config().pool_config.default_pool_limit is None
    assert instance.event_log_storage.get_concurrency_keys() == set()


def test_no_secret_is_shown_in_the_ui_or_kept_by_dagster() -> None:
    with quick_folder() as folder:
        environment = environment_of(folder, **SECRETS, S3_BUCKET="mosaics", S3_ENDPOINT="http://127.0.0.1:1")
        failed = subprocess.run(
            [program("oam-mosaic"), "build"],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert failed.returncode == 1, failed.stderr
        with running_webserver(folder, environment) as dagster:
            job = {**LOCATION, "pipelineName": "global_mosaic"}
            shown = str(dagster.ask(EVERYTHING_SHOWN, location=LOCATION, job=job))
        assert "Connection refused" in shown, "the failed run is among it"
        assert "mosaic_plan" in shown, "the resources are among it"
        assert "Sends one alert" in shown, "the sensor is among it"
        kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for secret in NEVER_SHOWN:
        assert secret not in failed.stdout + failed.stderr
        assert secret not in shown
        assert secret.encode() not in kept


EVERYTHING_SHOWN = """
query Everything($location: RepositorySelector!, $job: PipelineSelector!) {
  instance { info }
  sensorsOrError(repositorySelector: $location) {
    ... on Sensors { results { name description metadata { assetKeys { path } } } } }
  allTopLevelResourceDetailsOrError(repositorySelector: $location) {
    __typename
    ... on ResourceDetailsList { results {
      name description resourceType
      configFields { name description configTypeKey isRequired defaultValueAsJson }
      configuredValues { key value type }
    } }
  }
  utilizedEnvVarsOrError(repositorySelector: $location) {
    ... on EnvVarWithConsumersList { results { envVarName } }
  }
  runConfigSchemaOrError(selector: $job) {
    ... on RunConfigSchema {
      rootDefaultYaml
      allConfigTypes { key description ... on CompositeConfigType {
        fields { name description defaultValueAsJson configTypeKey } } }
    }
  }
  assetNodes { assetKey { path } description computeKind
    op { name description metadata { key value } }
    metadataEntries { label description } }
  workspaceOrError { ... on Workspace { locationEntries {
    displayMetadata { key value } locationOrLoadError { ... on PythonError { message } } } } }
  runsOrError { ... on Runs { results {
    runId runConfigYaml tags { key value }
    eventConnection { events {
      ... on MessageEvent { message }
      ... on ExecutionStepFailureEvent {
        error { message stack cause { message stack } }
        failureMetadata { description metadataEntries { label description
          ... on TextMetadataEntry { text } } } }
    } }
  } } }
}
"""


def test_windows_of_freshness_are_whole_seconds_for_the_ui_shows_no_others() -> None:
    settings = Settings.read({"FRESH_WARN_HOURS": "0.017", "FRESH_FAIL_HOURS": "0.0171"})
    (spec,) = build_definitions(settings).resolve_assets_def("published_mosaic").specs
    found = spec.freshness_policy
    assert isinstance(found, TimeWindowFreshnessPolicy)
    assert found.warn_window is not None
    windows = [window.to_timedelta().total_seconds() for window in (found.warn_window, found.fail_window)]
    assert windows == [61.0, 62.0]


def test_a_run_keeps_what_dagster_loaded_out_of_garbage_collections(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    site = Site({"TEST_MODE": "1"}, instance, tmp_path)
    gc.unfreeze()  # as if no earlier run of this process had done so
    gc.set_threshold(700)
    assert site.run().success
    assert gc.get_freeze_count() > 100_000

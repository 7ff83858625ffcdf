"""The files for Kubernetes and for Dagster's chart.

Manifests are validated against Kubernetes' own schema. No package contains the chart's schema, so its values
were checked against it by hand; docs/deployment.md describes how. Here, those parts of the values that are
Kubernetes objects are validated against Kubernetes' schema, and what they set in `dagster.yaml` is compared
with our own file.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from typing import Any, Final

import dagster as dg
import kubernetes_validate
import pytest
import yaml

from oam_mosaic_assets.assets.imagery_blocks import imagery_blocks
from oam_mosaic_assets.automation.chain import IN_PARTS
from oam_mosaic_assets.core.release import Keys
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.deployment.production import DEPLOY, command_of

VERSIONS: Final = ("1.31", "1.37")
KUBERNETES: Final = DEPLOY / "kubernetes"
CRONJOB: Final[dict[str, Any]] = yaml.safe_load((KUBERNETES / "cronjob.yaml").read_text())
CELERY: Final[dict[str, Any]] = yaml.safe_load((KUBERNETES / "celery.yaml").read_text())
IMAGERY: Final[dict[str, Any]] = yaml.safe_load((KUBERNETES / "imagery.yaml").read_text())
VALUES: Final[dict[str, Any]] = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
IN_PODS: Final[dict[str, Any]] = yaml.safe_load((KUBERNETES / "values-pods.yaml").read_text())
SERVE: Final[list[dict[str, Any]]] = [*yaml.safe_load_all((KUBERNETES / "serve.yaml").read_text())]
INSTANCE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
CODE: Final[dict[str, Any]] = VALUES["dagster-user-deployments"]["deployments"][0]
PODS: Final = {
    "code server": CODE,
    "webserver": VALUES["dagsterWebserver"],
    "daemon": VALUES["dagsterDaemon"],
}


def snake(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)


def valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def pod_of(values: dict[str, Any]) -> dict[str, Any]:
    """The pod that the chart makes of such values, limited to what it copies unchanged."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a-pod"},
        "spec": {
            "securityContext": values["podSecurityContext"],
            "containers": [
                {
                    "name": "a-container",
                    "image": "{repository}:{tag}".format(**values["image"]),
                    "imagePullPolicy": values["image"]["pullPolicy"],
                    "envFrom": [{"secretRef": secret} for secret in values["envSecrets"]],
                    "securityContext": values["securityContext"],
                    "resources": values["resources"],
                    "volumeMounts": values["volumeMounts"],
                }
            ],
            "volumes": values["volumes"],
        },
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asset", [imagery_blocks, *IN_PARTS.values()], ids=lambda each: each.node_def.name)
def test_a_step_asks_for_what_kubernetes_knows(asset: dg.AssetsDefinition, version: str) -> None:
    for step in asset.node_def.iterate_op_defs():
        container = json.loads(step.tags["dagster-k8s/config"])["container_config"]
        assert container["resources"]["requests"]["memory"]
        valid(pod_of(CODE | container), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_cronjob_is_what_kubernetes_takes(version: str) -> None:
    valid(CRONJOB, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_tile_server_is_what_kubernetes_takes_and_is_given_no_key(version: str) -> None:
    for document in SERVE:
        valid(document, version)
    pod = SERVE[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = Settings.read({each["name"]: each["value"] for each in container["env"]})
    assert settings.keys == Keys(products=settings.mosaic_products)
    assert settings.s3_access_key is None
    ports = tuple(each["containerPort"] for each in container["ports"])
    assert ports == tuple(each["port"] for each in SERVE[1]["spec"]["ports"]) == settings.serve_ports
    assert container["args"] == command_of("martin")
    patience = container["startupProbe"]  # to delete a full cache took up to 135 seconds on a busy disk
    assert patience["periodSeconds"] * patience["failureThreshold"] >= 300


@pytest.mark.parametrize("version", VERSIONS)
def test_the_job_that_reads_images_is_what_kubernetes_takes(version: str) -> None:
    valid(IMAGERY, version)


def test_the_job_that_reads_images_is_given_the_store_and_what_concerns_imagery_alone() -> None:
    """Strangers' files are decoded there."""
    (container,) = IMAGERY["spec"]["template"]["spec"]["containers"]
    assert "envFrom" not in container
    of_the_secret = {each["name"]: each["valueFrom"] for each in container["env"] if "valueFrom" in each}
    for name, value in of_the_secret.items():
        assert value == {"secretKeyRef": {"name": "oam-mosaic", "key": name, "optional": True}}
    concerned = {name for name in Settings.model_fields if name.startswith(("s3_", "imagery_"))}
    concerned -= {"imagery_budget_gb", "imagery_budget_hours"}  # of builds
    concerned |= {"mosaic_publish", "mosaic_prefix", "mosaic_products", "test_mode"}
    assert {*of_the_secret} == {name.upper() for name in concerned}
    assert {each["name"] for each in container["env"]} - {*of_the_secret} == {"STAC_API_URL"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_workers_of_celery_are_what_kubernetes_takes(version: str) -> None:
    valid(CELERY, version)


def test_workers_are_told_of_the_instance_what_its_file_asks_for() -> None:
    (container,) = CELERY["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    asked = INSTANCE["storage"]["postgres"]["postgres_db"]
    assert {each["env"] for each in asked.values() if isinstance(each, dict)} == {*told} - {"DAGSTER_HOME"}
    compose = yaml.safe_load((DEPLOY.parent / "compose.yaml").read_text())
    assert told["DAGSTER_HOME"] == compose["x-dagster"]["environment"]["DAGSTER_HOME"]


def test_what_a_pod_of_workers_starts_and_its_signal_reaches_is_celery_itself() -> None:
    """`dagster-celery worker start` writes to its read-only home, and keeps the signal from Celery."""
    (container,) = CELERY["spec"]["template"]["spec"]["containers"]
    program, *arguments = container["args"]
    assert program == "celery"
    assert arguments[:3] == ["-A", "dagster_celery.app", "worker"]
    assert {"--concurrency=1", "--prefetch-multiplier=1"} <= {*arguments}
    said = " ".join((DEPLOY.parent / "docs" / "deployment.md").read_text().split())
    assert f"`{' '.join(container['args'])}`" in said


def test_where_runs_are_pods_they_may_ask_for_pods_and_get_what_the_code_server_has() -> None:
    launcher = IN_PODS["runLauncher"]
    assert launcher["type"] == "K8sRunLauncher"
    assert [*launcher["config"]] == ["k8sRunLauncher"]
    assert IN_PODS["rbacEnabled"] is IN_PODS["dagster-user-deployments"]["rbacEnabled"] is True
    assert CODE["includeConfigInLaunchedRuns"]["enabled"] is True


def test_the_pods_of_that_job_share_all_partitions() -> None:
    spec = IMAGERY["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    (*_, script) = container["args"]
    shares = [
        subprocess.run(
            ["sh", "-c", script.replace("exec oam-mosaic", "echo")],
            env={"JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[-1]
        for index in range(spec["completions"])
    ]
    assert shares == [f"{each}/{spec['completions']}" for each in range(1, spec["completions"] + 1)]


def test_a_misspelt_field_would_be_seen() -> None:
    misspelt = copy.deepcopy(CRONJOB)
    misspelt["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(misspelt, VERSIONS[-1])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", PODS)
def test_the_charts_pods_are_what_kubernetes_takes(name: str, version: str) -> None:
    valid(pod_of(PODS[name]), version)


def test_every_container_is_hardened_limited_and_has_where_to_write() -> None:
    job = CRONJOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = job["containers"]
    served = SERVE[0]["spec"]["template"]["spec"]
    worker = CELERY["spec"]["template"]["spec"]
    hardened = [
        (job["securityContext"], container, job["volumes"]),
        (served["securityContext"], served["containers"][0], served["volumes"]),
        (worker["securityContext"], worker["containers"][0], worker["volumes"]),
        *((each["podSecurityContext"], each, each["volumes"]) for each in PODS.values()),
    ]
    for pod, each, volumes in hardened:
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] == pod["fsGroup"] == 10001
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["mountPath"] for mount in each["volumeMounts"]} == {"/data", "/tmp"}  # noqa: S108
        assert {volume["name"] for volume in volumes} == {mount["name"] for mount in each["volumeMounts"]}
        assert all("sizeLimit" in volume["emptyDir"] for volume in volumes)
        assert {"cpu", "memory"} <= {*each["resources"]["limits"]}
    for each in (container, worker["containers"][0], CODE):
        assert each["resources"]["limits"]["cpu"] == "2"
        assert each["resources"]["limits"]["memory"] == "2Gi"


def test_the_cronjob_runs_one_build_at_a_time_and_tries_again_where_that_may_help() -> None:
    spec, job = CRONJOB["spec"], CRONJOB["spec"]["jobTemplate"]["spec"]
    assert (spec["schedule"], spec["timeZone"]) == (Settings().mosaic_cron, "Etc/UTC")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert job["activeDeadlineSeconds"] == INSTANCE["run_monitoring"]["max_runtime_seconds"]
    assert job["backoffLimit"] == INSTANCE["run_retries"]["max_retries"]
    assert job["template"]["spec"]["containers"][0]["args"] == command_of("mosaicker")


def test_the_chart_is_told_what_deploy_dagster_yaml_says() -> None:
    more = VALUES["additionalInstanceConfig"]
    assert more == {name: INSTANCE[name] for name in ("nux", "run_monitoring", "run_retries", "concurrency")}
    # the chart must not write these itself, or they would be in the file twice
    daemon = VALUES["dagsterDaemon"]
    assert not any(daemon[part]["enabled"] for part in ("runMonitoring", "runRetries", "runCoordinator"))
    launcher = VALUES["runLauncher"]["config"]["customRunLauncher"]
    assert {**INSTANCE["run_launcher"], "config": {}} == launcher
    logs = VALUES["computeLogManager"]["config"]["s3ComputeLogManager"]
    assert {snake(name): value for name, value in logs.items()} == INSTANCE["compute_logs"]["config"]
    retention = VALUES["retention"]
    assert retention["schedule"]["purgeAfterDays"] == INSTANCE["retention"]["schedule"]["purge_after_days"]
    assert retention["sensor"]["purgeAfterDays"] == INSTANCE["retention"]["sensor"]["purge_after_days"]
    database = INSTANCE["storage"]["postgres"]["postgres_db"]
    assert VALUES["postgresql"]["postgresqlScheme"] == database["scheme"]
    assert VALUES["telemetry"] == INSTANCE["telemetry"]


def test_the_chart_starts_the_code_server_as_the_compose_file_does() -> None:
    started = ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", str(CODE["port"])]  # noqa: S104
    module = CODE["dagsterApiGrpcArgs"][:2]
    assert [*started, *module] == command_of("code-server")
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
    assert CODE["name"] == workspace["load_from"][0]["grpc_server"]["location_name"]


def test_the_webservers_listen_where_a_user_may_and_are_looked_at_there() -> None:
    webserver = VALUES["dagsterWebserver"]
    port = webserver["service"]["port"]
    assert port >= 1024
    assert webserver["readinessProbe"]["httpGet"]["port"] == port
    assert ["-p", str(port)] == command_of("webserver")[-2:]


def test_nothing_of_ours_may_ask_the_cluster_for_anything() -> None:
    assert VALUES["rbacEnabled"] is False
    assert VALUES["dagster-user-deployments"]["rbacEnabled"] is False, "the subchart reads its own alone"


def test_of_an_image_whose_tag_moves_no_node_keeps_an_old_one() -> None:
    """Where nothing is said, Kubernetes always asks for `latest`."""
    image, launcher = CODE["image"], IN_PODS["runLauncher"]["config"]["k8sRunLauncher"]
    assert image["tag"] != "latest" or image["pullPolicy"] == launcher["imagePullPolicy"] == "Always"
    for path in KUBERNETES.iterdir():
        for latest in re.findall(r"image: \S+:latest\n.*", path.read_text()):
            assert "imagePullPolicy" not in latest, path.name


def test_no_secret_is_written_down() -> None:
    written = re.compile(r"(?i)(password|secret_?key|access_?key): *['\"]?\w")
    for path in KUBERNETES.iterdir():
        assert not written.search(path.read_text()), path.name

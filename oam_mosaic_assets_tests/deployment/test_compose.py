"""`compose.yaml` conforms to the specification and agrees with the image and the settings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oam_mosaic_assets.serving.documents import Addresses
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.automation.live_dagster import program
from oam_mosaic_assets_tests.chain import REPOSITORY
from oam_mosaic_assets_tests.deployment.production import COMPOSE, DEPLOY

EXAMPLE = (REPOSITORY / ".env.example").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HIDDEN = "T0ps3cr3t"
SECRETS = {
    **dict.fromkeys(re.findall(r"^#?(\w+)=.*change-me", EXAMPLE, re.MULTILINE), HIDDEN),
    "STAC_API_URL": HIDDEN,  # may hold a password as well
    "AWS_ACCESS_KEY_ID": HIDDEN,
    "AWS_SECRET_ACCESS_KEY": HIDDEN,
    "AWS_SESSION_TOKEN": HIDDEN,
}
OURS = {name for name, service in SERVICES.items() if "build" in service}
ONCE = {"mosaicker", "catalogue", "sample", "bucket"}
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::?(-|\+)([^{}]*))?\}")


def exampled() -> list[str]:
    """The variables in `.env.example`, in its order and with any duplicates."""
    return re.findall(r"^#?([A-Z][A-Z0-9_]*)=", EXAMPLE, re.MULTILINE)


def interpolated(value: Any, environment: dict[str, str]) -> Any:
    """A value as compose interpolates it: each variable from the environment, or else its default.

    With a `+`, it is the other way round: the value stated here if the variable has one. A default may have
    variables itself.
    """
    if isinstance(value, dict):
        return {key: interpolated(each, environment) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, environment) for each in value]
    if not isinstance(value, str):
        return value

    def meant(found: re.Match[str]) -> str:
        name, sign, other = found.groups()
        if sign == "+":
            return str(other) if environment.get(name) else ""
        return environment.get(name, other or "")

    inside_out = VARIABLE.sub(meant, value)
    return inside_out if inside_out == value else interpolated(inside_out, environment)


def settings_of(service: str, **stated: str) -> Settings:
    """The settings that a service reads if `.env` contains these."""
    environment = {**stated, **interpolated(SERVICES[service]["environment"], stated)}
    return Settings.read(environment)


def test_it_is_what_the_compose_specification_allows() -> None:
    checked = subprocess.run(
        [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", REPOSITORY / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_example_shows_every_setting_once_and_no_secret() -> None:
    shown = exampled()
    assert len(shown) == len({*shown})
    assert {*shown} >= {name.upper() for name in Settings.model_fields}
    for name, value in re.findall(r"^#?(\w*(?:PASSWORD|SECRET_KEY|ACCESS_KEY))=(.*)$", EXAMPLE, re.MULTILINE):
        assert value == "change-me", name


def test_the_example_changes_nothing_as_it_is() -> None:
    assert not re.findall(r"^[^#\s]", EXAMPLE, re.MULTILINE)


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    text = re.sub(r"\s#.*", "", (REPOSITORY / "compose.yaml").read_text())
    assert "${" not in interpolated(text, {}), "a form that the test cannot read"
    assert {*re.findall(r"(?<!\$)\$\{(\w+)", text)} <= {*exampled()}


@pytest.mark.parametrize("service", ["mosaicker", "code-server", "webserver", "daemon"])
def test_without_an_env_file_the_sources_and_stores_are_those_of_development(service: str) -> None:
    settings = settings_of(service)
    assert settings.source == "pgstac"
    assert settings.pghost in SERVICES
    assert settings.publishes_to_s3
    assert settings.endpoint_url == "http://s3.localhost:9000"
    assert SERVICES["s3"]["networks"]["default"]["aliases"] == ["s3.localhost"]


def test_the_tile_server_has_the_place_of_the_others_but_no_key_or_password() -> None:
    stated = {"S3_ACCESS_KEY": "a key", "S3_SECRET_KEY": "a secret", "PGPASSWORD": "a password"}
    stated |= {"ALERT_SMTP_URL": "smtp://mail", "ALERT_EMAIL_FROM": "a@b.org", "ALERT_EMAIL_TO": "c@d.org"}
    settings = settings_of("martin", **stated, SERVE_RASTER_PORT="1234")
    assert settings.keys == settings_of("mosaicker").keys
    assert settings.s3_access_key is settings.s3_secret_key is settings.pgpassword is None
    environment = {**SECRETS, **interpolated(SERVICES["martin"]["environment"], SECRETS)}
    assert not [name for name, value in environment.items() if HIDDEN in value]
    inside = [int(port.rpartition(":")[2]) for port in SERVICES["martin"]["ports"]]
    assert tuple(inside) == settings.serve_ports
    assert settings.serve_address == "0.0.0.0"  # noqa: S104


def test_the_tile_server_hands_out_addresses_that_reach_it() -> None:
    """At the ports outside the container, unless a proxy's addresses are stated."""
    stated = {"SERVE_VECTOR_PORT": "1234", "SERVE_RASTER_URL": "https://raster.example.org"}
    addresses = Addresses.of(settings_of("martin", **stated))
    ports = interpolated(SERVICES["martin"]["ports"], stated)
    vector, _, viewer = (f"http://{port.rpartition(':')[0]}" for port in ports)
    assert (addresses.vector, addresses.viewer) == (vector, viewer)
    assert vector == "http://127.0.0.1:1234"
    assert addresses.raster == "https://raster.example.org"


@pytest.mark.parametrize(
    ("stated", "source"),
    [
        ({"PG_DSN": f"postgresql://reader:{HIDDEN}@db.example.org/eoapi"}, "pgstac"),
        ({"STAC_API_URL": f"https://reader:{HIDDEN}@example.org/stac"}, "stac_api"),
    ],
)
def test_the_tile_server_knows_which_source_is_set_but_not_how_to_reach_it(
    stated: dict[str, str], source: str
) -> None:
    settings = settings_of("martin", PGHOST="", PGPASSWORD="", **stated)
    assert settings.source == source
    assert HIDDEN not in repr([settings.stac_api_url, settings.pg_dsn and settings.pg_dsn.get_secret_value()])


def test_an_image_is_made_from_one_that_compose_always_knows() -> None:
    (context,) = SERVICES["martin"]["build"]["additional_contexts"].values()
    other = SERVICES[context.removeprefix("service:")]
    assert "profiles" not in other
    assert (other["image"], other["build"]) == (
        SERVICES["mosaicker"]["image"],
        SERVICES["mosaicker"]["build"],
    )


def test_another_source_can_be_named_in_the_env_file() -> None:
    settings = settings_of("mosaicker", PGHOST="", PGPASSWORD="", STAC_API_URL="https://example.org/stac")
    assert settings.source == "stac_api"


def test_folders_in_the_env_file_are_for_use_without_compose() -> None:
    stated = {"DAGSTER_HOME": "data/dagster", "SERVE_VIEWER": "viewer/dist", "MOSAIC_SCRATCH": "data/scratch"}
    settings = settings_of("mosaicker", **stated)
    for folder in (settings.dagster_home, settings.mosaic_scratch):
        assert Path("/data") in folder.parents, "all else is read-only"
    assert f"SERVE_VIEWER={settings.serve_viewer}" in (REPOSITORY / "Dockerfile").read_text()


def test_empty_keys_leave_it_to_the_machines_role() -> None:
    settings = settings_of("mosaicker", S3_ACCESS_KEY="", S3_SECRET_KEY="")
    assert settings.s3_access_key is settings.s3_secret_key is None


def test_the_runs_logs_go_where_the_mosaic_goes() -> None:
    stated = {
        "S3_ENDPOINT": "https://s3.example.org",
        "S3_REGION": "eu-west-3",
        "S3_ACCESS_KEY": "a key",
        "S3_SECRET_KEY": "a secret",
    }
    environment = interpolated(SERVICES["code-server"]["environment"], stated)
    assert {name: value for name, value in environment.items() if name.startswith("AWS_")} == {
        "AWS_ACCESS_KEY_ID": "a key",
        "AWS_SECRET_ACCESS_KEY": "a secret",
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_ENDPOINT_URL_S3": "https://s3.example.org",
    }


def test_whatever_dagsters_configuration_asks_of_the_environment_is_set() -> None:
    asked = {
        name
        for file in ("dagster.yaml", "workspace.yaml")
        for name in re.findall(r"env: (\w+)", (DEPLOY / file).read_text())
    }
    assert asked
    for service in ("code-server", "webserver", "webserver-read-only", "daemon"):
        assert asked <= {*SERVICES[service]["environment"]}, service


def test_every_command_of_ours_is_there_and_every_file_that_it_names() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    in_the_image = {name for line in copied for name in line.split()}
    for name in OURS:
        first, *arguments = SERVICES[name]["command"]
        assert shutil.which(program(first)) or first == "sh", f"{name}: {first}"
        for argument in arguments:
            if argument.startswith("deploy/"):
                assert (REPOSITORY / argument).is_file(), f"{name}: {argument}"
                assert "deploy" in in_the_image
    shell = SERVICES["sample"]["command"][2]
    assert all(place in shell for place in ("/data/items.ndjson", "cp /here/pgstac-backup.dump /data/"))
    assert SERVICES["catalogue"]["entrypoint"][2:] == [
        "/catalogue/pgstac-backup.dump",
        "/catalogue/items.ndjson",
    ]
    mounted = SERVICES["catalogue"]["entrypoint"][1]
    assert (REPOSITORY / mounted.removeprefix("/")).is_file()


def test_the_sample_is_written_again_when_everything_is_started_again(tmp_path: Path) -> None:
    shell = SERVICES["sample"]["command"][2].replace("/here/", f"{tmp_path}/here/")
    shell = shell.replace("/data/", f"{tmp_path}/").replace("oam-mosaic", program("oam-mosaic"))
    for _ in range(2):
        assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0
        assert (tmp_path / "items.ndjson").is_file()


def test_a_dump_that_was_taken_away_gives_way_to_the_sample(tmp_path: Path) -> None:
    here, data = tmp_path / "here", tmp_path / "data"
    shell = SERVICES["sample"]["command"][2].replace("/here/", f"{here}/").replace("/data/", f"{data}/")
    shell = shell.replace("oam-mosaic", program("oam-mosaic"))
    for folder in (here, data):
        folder.mkdir()
    dump = here / "pgstac-backup.dump"
    dump.write_bytes(b"production's")
    for provided in ({dump.name}, {"items.ndjson"}):
        assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0
        assert {path.name for path in data.iterdir()} == provided
        dump.unlink(missing_ok=True)


def test_the_image_is_built_from_one_base_and_from_files_that_its_build_is_given() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    (base,) = {*re.findall(r"^FROM (\S+)", text, re.MULTILINE)} - stages
    assert f'image.base.name="{base}"' in text
    given = {line.removeprefix("!") for line in (REPOSITORY / ".dockerignore").read_text().splitlines()}
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert name.split("/")[0] in given, name
            assert (REPOSITORY / name).exists(), name


def test_every_service_is_hardened_limited_and_watched() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert (service["mem_limit"], service["cpus"]) == ("2g", 2), name
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name
        assert ("healthcheck" in service) == (name not in ONCE), name
        assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"]), name  # noqa: S108
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_what_a_service_waits_for_can_come_to_pass() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert condition == {"condition": wanted}, f"{name} waits for {other}"


def test_the_volumes_are_declared_and_all_are_used() -> None:
    used = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == {*COMPOSE["volumes"]}


def test_the_s3_server_of_development_is_the_one_that_the_tests_run_on() -> None:
    (locked,) = re.findall(r"^moto==(\S+)", (REPOSITORY / "requirements-dev.lock").read_text(), re.MULTILINE)
    assert SERVICES["s3"]["image"] == f"docker.io/motoserver/moto:{locked}"


def test_no_image_but_ours_sees_the_settings() -> None:
    for name in {*SERVICES} - OURS:
        assert not any(mount.startswith(".:") for mount in SERVICES[name].get("volumes", [])), name
        assert "env_file" not in SERVICES[name], name


def test_the_image_takes_what_is_deployed_and_no_settings() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "!deploy" in ignored
    assert not Path(DEPLOY, ".env").exists()

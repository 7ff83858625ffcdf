"""What the documents list matches the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from configparser import ConfigParser
from datetime import timedelta
from pathlib import Path

import pytest

from oam_mosaic_assets import errors
from oam_mosaic_assets.automation import conditions, following
from oam_mosaic_assets.cli import explain
from oam_mosaic_assets.core import catalog_changes, catalog_changes_audit
from oam_mosaic_assets.core.geometry import REASONS
from oam_mosaic_assets.core.imagery.grey import LAST_GREY
from oam_mosaic_assets.gateways import alerts, publisher_lock
from oam_mosaic_assets.gateways.diagnosis import bucket
from oam_mosaic_assets.settings import TEST_BOX
from oam_mosaic_assets_tests.deployment.production import command_of

ROOT = Path(__file__).parents[1]
OPERATION = (ROOT / "docs" / "operation.md").read_text()


def first_column(heading: str) -> set[str]:
    """The names set as code in the first column of the table in a section of docs/operation.md."""
    section = OPERATION.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_operation_says_what_to_do_about_each_kind_of_error() -> None:
    kinds = [kind for group in errors.MosaicError.__subclasses__() for kind in group.__subclasses__()]
    assert first_column("When a run is red") == {kind.__name__ for kind in kinds}


@pytest.mark.parametrize("kind", sorted(first_column("When a run is red")))
def test_the_terminal_says_the_kind_that_operation_lists(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error: errors.MosaicError = getattr(errors, kind)("It happened.", hint="Mend it.")
    assert explain(error) == error.exit_code
    assert capsys.readouterr().err.splitlines()[-1] == f"Kind: {kind} (see docs/operation.md)"


def test_operation_explains_each_reason_why_an_image_is_set_aside() -> None:
    assert first_column("What is set aside") == {*REASONS}


def test_the_configuration_for_other_origins_is_json_and_the_same_in_the_contract_and_in_deploy() -> None:
    contract = (ROOT / "docs" / "contract.md").read_text()
    (stated,) = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", contract, re.DOTALL))
    assert stated == json.loads((ROOT / "deploy" / "s3" / "cors.json").read_text())
    (rule,) = stated["CORSRules"]
    assert rule["AllowedOrigins"] == ["*"]
    assert {"ETag", "Content-Range", "Content-Length"} <= {*rule["ExposeHeaders"]}
    assert "Range" in rule["AllowedHeaders"]


@pytest.mark.parametrize(
    ("at_work", "promised", "document", "promise"),
    [
        (following.INTERVAL_SECONDS, 30, "README.md", "checks for changes twice a minute"),
        (following.LONGEST_WAIT, timedelta(minutes=5), "README.md", "has settled, or after five minutes"),
        (TEST_BOX, (-20, 0, 10, 30), "README.md", "only images that touch the box -20,0,10,30"),
        (catalog_changes.LISTED, 50_000, "docs/contract.md", "more than 50,000 changes, which are then"),
        (catalog_changes_audit.LISTED, 50_000, "docs/contract.md", "counted but not listed"),
        (LAST_GREY, 10, "docs/contract.md", "z0 to z10: every pixel that a footprint overlaps is that grey"),
        (bucket.MOST_SKEW, timedelta(minutes=1), "docs/operation.md", "a clock that is more than a minute"),
        (
            publisher_lock.LIFETIME,
            timedelta(minutes=2),
            "docs/operation.md",
            "A killed publisher's lock expires within two minutes",
        ),
        (
            publisher_lock.WRONG_CLOCKS,
            timedelta(minutes=15),
            "docs/operation.md",
            "waits that long, unless the lock is a quarter of an hour old",
        ),
        (
            conditions.LOOKS_WITHIN,
            timedelta(hours=2),
            "docs/operation.md",
            "it has not run for two hours, and Dagster's policy says stale",
        ),
        (alerts.SECONDS, 5, "docs/operation.md", "must answer with 2xx within five seconds"),
        (alerts.CONVERSATION_SECONDS, 15, "docs/operation.md", "A mail server gets 15 seconds in all"),
    ],
)
def test_a_number_that_a_document_promises_is_the_one_at_work(
    at_work: object, promised: object, document: str, promise: str
) -> None:
    """Other tests import these numbers or shorten them, and would pass with any."""
    assert at_work == promised
    assert promise in " ".join((ROOT / document).read_text().split())


def test_who_upgrades_is_told_to_copy_again_what_was_copied() -> None:
    deployment = (ROOT / "docs" / "deployment.md").read_text()
    copied = re.search(r"a folder with copies of (`\S+`) and (`\S+`)", deployment)
    assert copied
    upgrading = " ".join(deployment.partition("## Upgrading\n")[2].split())
    assert f"copy {copied[1]} and {copied[2]} to `DAGSTER_HOME` again" in upgrading


def test_what_is_installed_without_containers_is_upgraded_by_the_same_commands(tmp_path: Path) -> None:
    deployment = (ROOT / "docs" / "deployment.md").read_text()
    section = deployment.partition("## Without containers\n")[2]
    (commands,) = re.findall(r"```sh\n(python3.*?)```", section, re.DOTALL)
    assert " venv --allow-existing /opt/oam-mosaic" in commands, "else uv refuses it the second time"
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "build-viewer").symlink_to("/bin/true")
    (tmp_path / "opt").mkdir()
    for version in "12":
        page = tmp_path / "viewer" / "dist"
        shutil.rmtree(page, ignore_errors=True)
        page.mkdir(parents=True)
        (page / f"of-{version}.js").touch()
        copied = commands.splitlines()[-1].replace("/opt/oam-mosaic", str(tmp_path / "opt"))
        subprocess.run(["/bin/sh", "-c", copied], cwd=tmp_path, check=True)
    assert [each.name for each in (tmp_path / "opt" / "viewer").iterdir()] == ["of-2.js"]


def test_what_is_started_without_containers_faces_no_network_and_is_stopped_by_its_signal() -> None:
    deployment = (ROOT / "docs" / "deployment.md").read_text()
    section = deployment.partition("## Without containers\n")[2].partition("\n## ")[0]
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL))
    unit = ConfigParser(interpolation=None)
    unit.read_string(blocks["ini"])
    assert unit["Service"]["WorkingDirectory"] == unit["Service"]["ReadWritePaths"]
    assert unit["Service"]["KillMode"] == "mixed"
    assert "The tile server ([serving.md](serving.md)) is another such unit" in section
    assert unit["Install"]["WantedBy"] == "multi-user.target", "else they do not start with the machine"
    assert unit["Unit"]["After"] == unit["Unit"]["Wants"] == "network-online.target"
    assert "`systemctl enable --now oam-mosaic@code-server oam-mosaic@webserver oam-mosaic@daemon`" in section
    commands = [line for line in blocks["sh"].splitlines() if not line.startswith("#")]
    there = {"0.0.0.0": "127.0.0.1", "deploy/workspace.yaml": "/etc/oam-mosaic/workspace.yaml"}  # noqa: S104
    for command, service in zip(commands, ("code-server", "webserver", "daemon"), strict=True):
        program, *arguments = (there.get(word, word) for word in command_of(service))
        assert command == " ".join(["exec", f"/opt/oam-mosaic/bin/{program}", *arguments])

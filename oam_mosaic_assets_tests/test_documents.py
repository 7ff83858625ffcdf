"""What the documents list matches the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from oam_mosaic_assets import errors
from oam_mosaic_assets.cli import explain
from oam_mosaic_assets.core.geometry import REASONS

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

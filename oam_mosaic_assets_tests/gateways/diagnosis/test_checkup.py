"""Findings that follow from the source and from what is public together."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from oam_mosaic_assets.gateways.diagnosis.checkup import examine
from oam_mosaic_assets.gateways.diagnosis.finding import Finding, State
from oam_mosaic_assets.gateways.diagnosis.source import MOST_READ
from oam_mosaic_assets.gateways.from_settings import store_of
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.settings import Settings
from oam_mosaic_assets_tests.chain import some_items, write_items
from oam_mosaic_assets_tests.gateways.diagnosis.test_publication import a_pointer

PUBLIC = 2 * MOST_READ


def on_the_catalogue(
    folder: Path, *, images: int, source: str = "stac_items", **stated: str
) -> list[Finding]:
    """What is said of a file with so many images, where many more are public from a source of that kind."""
    items = folder / "items.ndjson"
    write_items(items, some_items(images))
    places = {"MOSAIC_STORE": str(folder / "store"), "MOSAIC_SCRATCH": str(folder / "scratch")}
    settings = Settings.read({"STAC_ITEMS": str(items), **places, **stated})
    pointer = replace(a_pointer(), source=source, images=PUBLIC - 1, set_aside=1)
    store_of(settings).put_bytes(
        settings.keys.pointer, pointer.to_json(), Headers("application/json"), public=True
    )
    return [each for each in examine(settings) if each.subject == "catalogue"]


def test_a_catalogue_that_lost_many_images_is_foreseen_to_wait_for_a_person(tmp_path: Path) -> None:
    (finding,) = on_the_catalogue(tmp_path, images=20)

    assert finding.state is State.WARNING
    assert finding.text == (
        "the next build will wait for a person: 20 images in the catalogue, 20,000 when the published mosaic "
        "was made: 99.9% fewer, more than the 10.0% that MAX_SHRINK_SHARE allows"
    )
    assert "oam-mosaic publish BUILD --confirm REASON" in finding.hint


@pytest.mark.parametrize("images", [0, MOST_READ], ids=["refused anyway", "how many more is not known"])
def test_what_is_not_known_is_not_foreseen(tmp_path: Path, images: int) -> None:
    assert on_the_catalogue(tmp_path, images=images) == []


@pytest.mark.parametrize(
    "stated",
    [{"MAX_SHRINK_SHARE": "1"}, {"source": "sample"}, {"TEST_MODE": "1"}],
    ids=["allowed", "another kind of source", "only those in the box count"],
)
def test_few_images_that_are_not_compared_are_not_remarked_on(tmp_path: Path, stated: dict[str, str]) -> None:
    assert on_the_catalogue(tmp_path, images=20, **stated) == []


def test_what_the_env_file_sets_is_told_and_where_it_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("TEST_MODE=1\nZOOM_MAX=9\nRETAIN_DAYS=\nPGSSLMODE=require\nLOG_LEVEL=INFO\n")
    monkeypatch.setattr(os, "environ", {"ZOOM_MAX": "10", "LOG_LEVEL": "INFO"})
    settings, overridden, *_ = (each for each in examine(Settings.read()) if each.subject == "settings")
    assert settings.text == "valid: from the made-up sample into a folder; .env sets TEST_MODE, LOG_LEVEL"
    assert overridden.state is State.WARNING
    assert overridden.text == "ZOOM_MAX is set in the environment, not as in .env"
    assert "unset ZOOM_MAX" in overridden.hint

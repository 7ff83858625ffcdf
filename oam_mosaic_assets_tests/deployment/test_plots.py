"""What Dagster's UI shows of several builds: the statistics plotted, and all products at a glance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import dagster as dg
import pytest
from playwright.sync_api import Locator, expect

from oam_mosaic_assets.automation.chain import chain_of
from oam_mosaic_assets.core.density import NAMED
from oam_mosaic_assets.core.product import BY_DEFAULT
from oam_mosaic_assets_tests.automation.live_dagster import environment_of, running_webserver
from oam_mosaic_assets_tests.chain import quick_folder, run_chain, some_items, write_items
from oam_mosaic_assets_tests.deployment.maintainer import Maintainer, maintainer_at

IMAGES: Final = (30, 31, 33)
"""How many each successive build has."""

COLOURS: Final = """canvas => {
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(new Uint32Array(pixels.buffer)).size
}"""
"""JavaScript that counts the colours of a chart."""


@pytest.fixture(scope="module")
def maintainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maintainer]:
    """A maintainer at the UI of an installation that has built three times."""
    with quick_folder() as folder:
        items = folder / "items.ndjson"
        environment = environment_of(folder, STAC_ITEMS=str(items), ZOOM_MAX="8")
        for images in IMAGES:
            write_items(items, some_items(images))
            with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
                ours = {**environment, "MOSAIC_PRODUCTS": "mosaic,statistics"}
                outcome = run_chain(ours, instance)
            assert outcome.success, outcome.text
        pictures = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("plots"))
        of_all = {name: value for name, value in environment.items() if name != "MOSAIC_PRODUCTS"}
        with running_webserver(folder, of_all) as live, maintainer_at(live.address, pictures) as there:
            yield there


def test_the_statistics_are_plotted_over_builds(maintainer: Maintainer) -> None:
    """Including those that are always zero: no image of the sample is from the last days."""
    maintainer.open("/assets/catalog_statistics")
    maintainer.clicks("Plots")
    numbers = ("items", "area_km2", "covered_km2", "excluded", "count_year_2024", *NAMED)
    for name in numbers:
        expect(maintainer.page.get_by_text(name, exact=True).first).to_be_attached()
    charts = maintainer.page.locator("canvas")
    expect(charts.nth(len(numbers) - 1)).to_be_attached()
    maintainer.looks("plots")
    for chart in charts.all():
        chart.scroll_into_view_if_needed()
        assert _colours(chart) > 2, "axes and a line are drawn"


def test_all_products_are_legible_in_one_look(maintainer: Maintainer) -> None:
    """The list beside the graph shows each asset's full name, even where the graph itself cuts it short."""
    maintainer.open("/asset-groups")
    height = (maintainer.page.viewport_size or {})["height"]
    for asset in chain_of(BY_DEFAULT):
        name = asset.key.to_user_string()
        box = maintainer.sees(name, alone=True).bounding_box()
        assert box, name
        assert box["y"] + box["height"] <= height, name
    maintainer.looks("all-products")


def _colours(chart: Locator) -> int:
    found: int = chart.evaluate(COLOURS)
    return found

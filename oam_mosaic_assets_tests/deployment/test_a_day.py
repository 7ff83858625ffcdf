"""A day in the life of a maintainer: what they see and do in Dagster's UI, in production."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from oam_mosaic_assets.core.audit import CHECKS
from oam_mosaic_assets.gateways.object_store import Headers
from oam_mosaic_assets.gateways.tippecanoe import find_tippecanoe
from oam_mosaic_assets_tests.automation.live_dagster import LiveDagster, until
from oam_mosaic_assets_tests.chain import (
    another_tippecanoe,
    is_running,
    nothing_left_behind,
    public_mosaic_is_whole,
    quick_folder,
    slow_tippecanoe,
    some_items,
)
from oam_mosaic_assets_tests.deployment.maintainer import Maintainer, maintainer_at
from oam_mosaic_assets_tests.deployment.production import Bucket, Production
from oam_mosaic_assets_tests.servers.buckets import new_bucket
from oam_mosaic_assets_tests.servers.ceph import CephServer
from oam_mosaic_assets_tests.servers.pgstac_items import load_items
from oam_mosaic_assets_tests.servers.postgres import PostgresServer

IMAGES = 500
POINTS = 3
CHAIN = ("stac_footprints", "footprints_geojson", "global_mosaic_pmtiles", "published_mosaic")


def some_points(count: int) -> list[dict[str, Any]]:
    """Items that no map can draw."""
    place = {"type": "Point", "coordinates": [7.0, 50.0]}
    return [{**item, "geometry": place} for item in some_items(count, first=IMAGES)]


@pytest.fixture(scope="module")
def production(postgres: PostgresServer, ceph: CephServer) -> Iterator[Production]:
    """Production in which a mosaic is late after a minute."""
    catalogue = postgres.create_pgstac("a_day")
    storage = postgres.create_empty("a_day_dagster")
    load_items(catalogue, [*some_items(IMAGES), *some_points(POINTS)])
    with quick_folder() as folder:
        (folder / "tippecanoe").symlink_to(find_tippecanoe())
        bucket = Bucket(ceph, new_bucket(ceph))
        made = Production(
            folder,
            catalogue,
            storage,
            bucket,
            TIPPECANOE=str(folder / "tippecanoe"),
            FRESH_WARN_HOURS="0.017",
        )
        with made.running():
            yield made
    postgres.drop(catalogue.name)
    postgres.drop(storage.name)


@pytest.fixture(scope="module")
def browser(production: Production, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maintainer]:
    pictures = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("day"))
    with maintainer_at(production.dagster.address, pictures) as maintainer:
        yield maintainer


@pytest.fixture
def maintainer(browser: Maintainer, request: pytest.FixtureRequest) -> Iterator[Maintainer]:
    """The maintainer; a screenshot is taken at the end of the test, even if it failed."""
    yield browser
    browser.page.screenshot(path=browser.pictures / f"last-of-{request.node.name}.png")


@pytest.fixture(scope="module")
def first_run(production: Production, browser: Maintainer) -> str:
    """The id of a run of the chain, started by a click."""
    run = browser.materialises_everything()
    page = browser.page.url
    browser.open("about:blank")  # the page of a run at work keeps the browser at work
    assert production.dagster.finished(run) == "SUCCESS", production.said()
    browser.open(page)
    browser.sees("Success", alone=True)
    browser.looks("run-succeeded")
    return run


def test_the_graph_shows_where_the_mosaic_comes_from(maintainer: Maintainer) -> None:
    maintainer.open("/")
    maintainer.clicks("Lineage")
    for asset in CHAIN:
        maintainer.sees(asset)
    maintainer.looks("graph")

    maintainer.open("/assets/published_mosaic?view=lineage&lineageScope=upstream&lineageDepth=3")
    places = [maintainer.page.locator("svg").get_by_text(asset, exact=True).bounding_box() for asset in CHAIN]
    lefts = [place["x"] for place in places if place]
    assert len(lefts) == len(CHAIN)
    assert lefts == sorted(lefts), "an asset stands to the right of what it is made from"
    maintainer.looks("lineage")

    maintainer.open("/assets/published_mosaic")
    maintainer.clicks("global_mosaic_pmtiles", "footprints_geojson", "stac_footprints")
    maintainer.sees("Every image's footprint, from one snapshot of the catalogue")
    maintainer.looks("footprints-before")


def test_the_schedules_run(maintainer: Maintainer) -> None:
    maintainer.open("/")
    maintainer.clicks("Automation")
    maintainer.sees("hourly_freshness")
    maintainer.looks("automation")
    maintainer.clicks("daily_mosaic")
    maintainer.sees("(0 3 * * *)")
    expect(maintainer.row("Running").locator("input")).to_be_checked()
    maintainer.sees("3:00:00")
    maintainer.looks("schedule")


@pytest.mark.usefixtures("first_run")
def test_a_click_materialises_the_chain_and_shows_what_came_of_it(
    production: Production, maintainer: Maintainer
) -> None:
    pointer = public_mosaic_is_whole(production.store, production.keys)
    assert pointer.images == IMAGES

    maintainer.open("/assets/published_mosaic")
    expect(maintainer.row("images")).to_contain_text(str(IMAGES))
    expect(maintainer.row("set aside")).to_contain_text(str(POINTS))
    expect(maintainer.row("set aside by reason")).to_contain_text("not_a_polygon")
    expect(maintainer.row("build")).to_contain_text(pointer.build)
    expect(maintainer.row("address")).to_contain_text("global-mosaic.pmtiles")
    maintainer.looks("published")

    maintainer.sees("[Show Markdown]").click()
    picture = maintainer.page.get_by_role("dialog").locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 960
    maintainer.sees(f"Build {pointer.build}")
    maintainer.looks("coverage")
    maintainer.clicks("Close")

    maintainer.open("/assets/global_mosaic_pmtiles?view=checks&checkDetail=every_image_is_drawn")
    expect(maintainer.page.get_by_text("Succeeded", exact=True)).to_have_count(len(CHECKS))
    maintainer.looks("audit")
    maintainer.open("/assets/stac_footprints")
    maintainer.sees("set aside by reason")
    maintainer.looks("footprints")


@pytest.mark.usefixtures("first_run")
def test_a_run_is_terminated(production: Production, maintainer: Maintainer) -> None:
    before = public_mosaic_is_whole(production.store, production.keys)
    number = production.folder / "number"
    production.image_moves()
    with another_tippecanoe(production.folder / "tippecanoe", slow_tippecanoe(production.folder, number)):
        maintainer.materialises_everything()
        until(lambda: number.exists() and number.read_text().endswith("\n"), production.said)
        maintainer.sees("Executing (1)")
        maintainer.looks("run-at-work")
        maintainer.clicks("Terminate", "Terminate 1 run")
        maintainer.sees("Canceled", alone=True)
        maintainer.looks("run-terminated")
    until(lambda: not is_running(int(number.read_text())), production.said)
    scratch = production.settings.mosaic_scratch
    until(lambda: not list(scratch.iterdir()), production.said)
    nothing_left_behind(production.store, production.keys, scratch)
    assert public_mosaic_is_whole(production.store, production.keys) == before


@pytest.mark.usefixtures("first_run")
def test_a_failed_run_says_what_happened_and_what_to_do(
    production: Production, maintainer: Maintainer
) -> None:
    with another_tippecanoe(production.folder / "tippecanoe", "/nowhere/tippecanoe"):
        maintainer.materialises_everything()
        maintainer.sees("Failure", alone=True)
    maintainer.sees("Errored (1)")
    maintainer.looks("run-failed")
    maintainer.reads_events("STEP_FAILURE")
    maintainer.sees("could not be started: No such file or directory")
    maintainer.sees("what to do")
    maintainer.sees("Set TIPPECANOE to the path of a working tippecanoe")
    maintainer.looks("why-it-failed")
    maintainer.open("/runs")
    maintainer.sees("Failure", alone=True)
    maintainer.looks("runs")
    public_mosaic_is_whole(production.store, production.keys)


@pytest.mark.usefixtures("first_run")
def test_a_mosaic_that_is_late_or_overwritten_is_flagged(
    production: Production, maintainer: Maintainer
) -> None:
    maintainer.open("/assets/published_mosaic?view=checks")
    production.store.put_bytes(
        production.keys.archive, b"somebody else's", Headers("application/octet-stream")
    )
    maintainer.clicks("Execute")
    maintainer.sees("global-mosaic.pmtiles was overwritten on")
    maintainer.sees("what to do")
    maintainer.looks("overwritten")

    # Dagster's own policy: the last materialisation is too long ago
    until(lambda: freshness_of_the_mosaic(production.dagster) == "WARNING", production.said)
    maintainer.open("/assets/published_mosaic")
    maintainer.sees("Warning", alone=True)
    maintainer.looks("late")
    maintainer.open("/asset-groups")
    maintainer.sees("published_mosaic")
    maintainer.looks("graph-in-the-evening")


def freshness_of_the_mosaic(dagster: LiveDagster) -> str:
    """What Dagster's own policy says, as the page of the asset shows it."""
    found = dagster.ask(
        """
        query Freshness($asset: AssetKeyInput!) {
          assetNodeOrError(assetKey: $asset) {
            ... on AssetNode { freshnessStatusInfo { freshnessStatus } }
          }
        }
        """,
        asset={"path": ["published_mosaic"]},
    )["assetNodeOrError"]
    status: str = found["freshnessStatusInfo"]["freshnessStatus"]
    return status

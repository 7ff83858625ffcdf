"""The page where something is slow, gone or cannot be read, as a stranger sees it in Chromium."""

from __future__ import annotations

import os
import re
import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Route, expect
from pmtiles.reader import MemorySource, Reader

from oam_mosaic_assets.core.grid import to_tiles
from oam_mosaic_assets_tests.servers.image_hosts import Request, running_nginx, scripted_host
from oam_mosaic_assets_tests.viewer.site import (
    ALONE,
    BESIDE,
    PLACES,
    SMALL,
    STACK,
    TINY,
    Published,
    Stranger,
    open_page,
    with_pointer,
    write_with_leaves,
)


def test_without_webgl_the_addresses_are_there(stranger: Stranger) -> None:
    stranger.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    stranger.opens(waits=False)
    expect(stranger.page.locator(".notice")).to_contain_text("it has no WebGL 2")
    stranger.page.get_by_role("heading", name="Use it in your map").click()
    expect(stranger.page.get_by_text("global-mosaic.pmtiles").first).to_be_visible()


def test_opened_as_a_file_it_says_what_it_needs(browser: Browser, published: Published) -> None:
    context, stranger = open_page(browser, "file:///")
    stranger.page.goto((published.store / "mosaic" / "viewer" / "index.html").as_uri())
    expect(stranger.page.get_by_text("the page must come from a web server")).to_be_visible()
    context.close()


def test_of_a_script_that_does_not_come_it_tells_after_some_seconds(browser: Browser, root: str) -> None:
    context, stranger = open_page(browser, root)
    page, held = stranger.page, list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    context.route("**/assets/index-*.js", hold)
    page.goto(f"{root}mosaic/viewer/index.html", wait_until="commit")
    expect(page.get_by_text("Looking for the mosaic")).to_be_visible()
    told, side = page.get_by_text("script does not run"), page.locator("header")
    stranger.waits_until("document.getAnimations().length")  # its style may come after its text
    height = []
    for milliseconds in (0, 4900, 5000):
        told.evaluate(
            "(each, at) => { const [one] = each.getAnimations(); one.pause(); one.currentTime = at; }",
            milliseconds,
        )
        expect(told).to_be_visible(visible=milliseconds == 5000)
        height.append((side.bounding_box() or {"height": 0.0})["height"])
    assert height[0] == height[1] < height[2]
    for each in held:
        each.continue_()
    expect(page.locator("#state")).to_contain_text("images")
    expect(told).to_have_count(0)
    context.close()


def test_a_connection_that_breaks_while_the_pointer_comes_is_no_matter_of_format(
    browser: Browser, root: str, published: Published
) -> None:
    content = with_pointer(published.store)

    def break_off(request: Request) -> None:
        request.answer("200 OK", content[: len(content) // 2], length=len(content))
        request.connection.shutdown(socket.SHUT_RDWR)

    context, stranger = open_page(browser, root)
    with scripted_host() as host:
        host.script = break_off
        context.route("**/latest.json", lambda route: route.continue_(url=host.address("latest.json")))
        stranger.opens(waits=False)
        expect(stranger.page.locator(".notice")).to_contain_text("does not answer. Check the connection")
    context.close()


@pytest.mark.parametrize(
    ("file", "status", "said"),
    [
        ("latest.json", 404, "Nothing is published here yet"),
        ("latest.json", 503, "does not answer"),
        ("config.json", 503, "does not answer"),
    ],
)
def test_where_nothing_could_be_shown_the_mosaic_is_once_there_is_one(
    browser: Browser, root: str, file: str, status: int, said: str
) -> None:
    context, stranger = open_page(browser, root)
    page, notice = stranger.page, stranger.page.locator(".notice")
    context.route(f"**/{file}", lambda route: route.fulfill(status=status))
    page.clock.install()
    stranger.opens(waits=False)
    expect(notice).to_contain_text(said)
    with page.expect_response(f"**/{file}"):
        page.clock.fast_forward(61_000)
    expect(notice).to_contain_text(said)
    context.unroute(f"**/{file}")
    page.clock.fast_forward(61_000)
    expect(page.locator("#state")).to_contain_text("images")
    expect(notice).to_have_count(0)
    context.close()


def test_from_a_server_without_ranges_the_archive_is_not_downloaded(
    browser: Browser, root: str, published: Published, tmp_path: Path
) -> None:
    archive = tmp_path / "root" / "global-mosaic.pmtiles"
    archive.parent.mkdir()
    shutil.copy(published.store / archive.name, archive)
    os.truncate(archive, 2**30)  # longer than what waits between the server and the page
    context, stranger = open_page(browser, root)
    with running_nginx(tmp_path / "nginx", archive.parent) as host:
        whole = host.address(f"whole/{archive.name}")
        context.route(f"**/{archive.name}", lambda route: route.continue_(url=whole))
        with stranger.page.expect_event("requestfailed") as ended:
            stranger.opens(waits=False)
        assert ended.value.url == whole
        expect(stranger.page.locator(".notice")).to_contain_text("supports HTTP Byte Serving")
    context.close()


def test_on_a_phone_held_sideways_notices_leave_the_list_in_reach(browser: Browser, root: str) -> None:
    context, stranger = open_page(browser, root, viewport={"width": 844, "height": 300})
    page = stranger.page
    page.clock.set_system_time(datetime.now(UTC) + timedelta(hours=80))
    context.route(re.compile(r"/(50|110)m-"), lambda route: route.fulfill(status=503))
    stranger.looks_at(ALONE, 14)
    expect(page.locator(".notice")).to_have_count(2)
    page.get_by_role("button", name="Field by the lagoon").click()
    expect(page.locator("#selection-title")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollHeight") == 300, "the map is not scrolled away"
    context.close()


def test_without_details_ids_are_shown(browser: Browser, root: str) -> None:
    context, stranger = open_page(browser, root)
    context.route("**/global-data.pmtiles", lambda route: route.fulfill(status=404))
    stranger.looks_at(ALONE, 14)
    stranger.page.mouse.click(*stranger.middle())
    expect(stranger.page.locator("#selection-title")).to_have_text(ALONE)
    expect(stranger.page.locator(".notice")).to_have_count(0)
    assert all("404" in each for each in stranger.complaints), stranger.complaints
    context.close()


def test_a_tap_is_answered_before_details_come_and_a_later_one_counts(browser: Browser, root: str) -> None:
    """The server is slow with the tiles of the details."""
    context, stranger = open_page(browser, root)
    held: list[Route] = []

    def hold_tiles(route: Route) -> None:
        is_tile = not route.request.headers["range"].startswith("bytes=0-")
        held.append(route) if is_tile else route.continue_()

    context.route("**/global-data.pmtiles", hold_tiles)
    page = stranger.page
    title = page.locator("#selection-title")
    longitude, latitude, _ = PLACES[ALONE]
    stranger.opens(f"14/{latitude}/{longitude}", waits=False)
    stranger.sees(ALONE)
    middle = stranger.middle()
    page.mouse.click(*middle)
    expect(title).to_have_text(ALONE)
    page.keyboard.press("Escape")
    expect(title).to_be_hidden()
    page.mouse.click(*middle)
    expect(title).to_have_text(ALONE)
    page.mouse.click(middle[0], middle[1] - 300)
    expect(title).to_be_hidden()
    stranger.goes_to(STACK[0])
    stranger.sees(STACK[0])
    stranger.waits_until("mosaicMap.loaded()")
    page.mouse.click(*middle)
    expect(title).to_contain_text("3 images here")
    page.locator("#selection").get_by_role("button", name=STACK[1]).click()
    expect(title).to_have_text(STACK[1])
    for each in held:
        each.continue_()
    expect(title).to_have_text("Palace 2022")
    expect(page.locator("#selection-body")).to_contain_text("1 May 2022")
    context.close()


@pytest.mark.parametrize("zoom", [3, 14])
def test_nothing_waits_for_what_is_not_needed(browser: Browser, root: str, zoom: int) -> None:
    """Neither borders nor details ever come."""
    context, stranger = open_page(browser, root)
    context.route(re.compile(r"/(50|110)m-|/global-data\.pmtiles"), lambda _: None)
    page = stranger.page
    longitude, latitude, _ = PLACES[ALONE]
    stranger.opens(f"{zoom}/{latitude}/{longitude}", waits=False)
    if zoom == 14:
        expect(page.locator("#in-view-title")).to_have_text("1 image in view")
        expect(page.locator("#in-view-body button")).to_have_text(ALONE)
        page.mouse.click(*stranger.middle())
        expect(page.locator("#selection-title")).to_have_text(ALONE)
    else:
        stranger.waits_until("window.mosaicMap?.loaded()")
        stranger.waits_until("mosaicMap.queryRenderedFeatures({ layers: ['places'] }).length")
        page.mouse.click(*stranger.middle())
        stranger.waits_until("mosaicMap.getZoom() > 6 && !mosaicMap.isMoving()")
        expect(page.locator("#in-view-title")).to_contain_text("in view")
    context.close()


def test_details_that_could_not_be_read_once_are_read_again(browser: Browser, root: str) -> None:
    is_away = [True]

    def answer(route: Route) -> None:
        route.abort() if is_away else route.continue_()

    context, stranger = open_page(browser, root)
    context.route("**/global-data.pmtiles", answer)
    stranger.looks_at(ALONE, 14)
    listed = stranger.page.locator("#in-view-body")
    expect(listed).to_contain_text(ALONE)
    is_away.clear()
    stranger.page.locator("#map canvas").press("-")
    expect(listed).to_contain_text("Field by the lagoon")
    context.close()


def test_a_directory_that_could_not_be_read_once_is_read_again(
    browser: Browser, root: str, published: Published
) -> None:
    write_with_leaves(published.store / "global-mosaic.pmtiles", published.store / "leaves.pmtiles")
    is_away: list[bool] = []
    context, stranger = open_page(browser, root)
    context.route(
        "**/global-mosaic.pmtiles",
        lambda route: route.abort() if is_away else route.continue_(url=f"{root}leaves.pmtiles"),
    )
    stranger.looks_at(ALONE, 14)
    assert stranger.drawn() == {ALONE}
    is_away.append(True)
    stranger.goes_to(SMALL)
    expect(stranger.page.get_by_text("A part of the map could not be read")).to_be_visible()
    is_away.clear()
    for name, listed in ((ALONE, "Field by the lagoon"), (SMALL, SMALL)):
        stranger.goes_to(name)
        expect(stranger.page.locator("#in-view-body")).to_contain_text(listed)
    assert stranger.drawn() == {SMALL}
    context.close()


def test_of_places_that_could_not_be_read_no_country_is_made_up(
    browser: Browser, root: str, published: Published
) -> None:
    write_with_leaves(published.store / "global-mosaic.pmtiles", published.store / "leaves.pmtiles")
    context, stranger = open_page(browser, root)

    def answer(route: Route) -> None:
        is_root = route.request.headers["range"].startswith("bytes=0-")
        route.continue_(url=f"{root}leaves.pmtiles") if is_root else route.abort()

    context.route("**/global-mosaic.pmtiles", answer)
    stranger.opens("2/10/20")
    expect(stranger.page.locator("#in-view-body")).to_contain_text("Countries cannot be listed")
    expect(stranger.page.locator(".notice", has_text="The borders or the dots")).to_be_visible()
    context.close()


def test_pictures_that_could_not_be_read_leave_the_footprints_and_can_be_asked_for_again(
    browser: Browser, root: str
) -> None:
    is_away = [True]
    context, stranger = open_page(browser, root)
    context.route(
        "**/global-coverage-exact.pmtiles", lambda route: route.abort() if is_away else route.continue_()
    )
    stranger.looks_at(ALONE, 14)
    footprints, coverage = (
        stranger.page.get_by_role("radio", name=name) for name in ("Footprints", "Raster coverage")
    )
    coverage.click()
    expect(footprints).to_be_checked()
    stranger.waits_until("mosaicMap.loaded()")
    assert stranger.orange(ALONE) > 100
    is_away.clear()
    coverage.click()
    expect(coverage).to_be_checked()
    stranger.waits_until("mosaicMap.getLayer('coverage') && mosaicMap.loaded()")
    assert stranger.grey(ALONE) > 1000
    context.close()


def test_pictures_that_have_left_the_view_are_asked_for_no_longer(browser: Browser, root: str) -> None:
    context, stranger = open_page(browser, root)
    cancelled: list[str] = []
    stranger.page.on("requestfailed", lambda request: cancelled.append(request.url))
    stranger.looks_at(ALONE, 14)
    held: list[Route] = []

    def hold_tiles(route: Route) -> None:
        is_tile = not route.request.headers["range"].startswith("bytes=0-")
        held.append(route) if is_tile else route.continue_()

    context.route("**/global-imagery.pmtiles", hold_tiles)
    stranger.page.get_by_role("radio", name="Imagery").click()
    while not held:
        stranger.page.wait_for_timeout(50)
    stranger.goes_to(STACK[0])
    stranger.sees(STACK[0])
    assert [each for each in cancelled if each.endswith("/global-imagery.pmtiles")]
    expect(stranger.page.locator(".notice")).to_have_count(0)
    context.close()


def test_a_build_whose_archive_is_gone_says_so_and_keeps_its_addresses(browser: Browser, root: str) -> None:
    context, stranger = open_page(browser, root)
    context.route("**/global-mosaic.pmtiles", lambda route: route.fulfill(status=404))
    stranger.opens(waits=False)
    expect(stranger.page.locator(".notice")).to_contain_text("the archive of this build cannot be read")
    expect(stranger.page.get_by_role("button", name="Try again")).to_be_visible()
    expect(stranger.page.get_by_role("heading", name="Use it in your map")).to_be_visible()
    context.close()


@pytest.mark.parametrize("status", [404, 0])
def test_a_map_whose_worker_does_not_come_says_so(browser: Browser, root: str, status: int) -> None:
    context, stranger = open_page(browser, root)
    context.route(
        "**/assets/*worker*.js", lambda route: route.fulfill(status=status) if status else route.abort()
    )
    stranger.opens(waits=False)
    notice = stranger.page.get_by_role("alert")
    expect(notice).to_contain_text("The map cannot be shown: a script that draws it did not come")
    expect(notice.get_by_role("button", name="Try again")).to_be_visible()
    expect(stranger.page.locator("#in-view")).to_be_hidden()
    context.close()


def test_while_the_map_loads_nothing_is_counted(browser: Browser, root: str, published: Published) -> None:
    context, stranger = open_page(browser, root)
    longitude, latitude, _ = PLACES[TINY]  # it lies within one tile
    held = _hold_tile(context, published, TINY)
    stranger.opens(f"14/{latitude}/{longitude}", waits=False)
    expect(stranger.page.locator("#in-view-title")).to_have_text("Looking for images…")
    expect(stranger.page.locator("#live")).not_to_contain_text("0 images")
    for _ in range(300):  # on a slow machine the page asks for the tile later than it says so
        if held:
            break
        stranger.page.wait_for_timeout(100)
    for each in held:
        each.continue_()
    expect(stranger.page.locator("#in-view-title")).to_have_text("1 image in view")
    context.close()


def test_a_store_that_fails_later_is_told_and_what_stood_there_is_not_left(
    browser: Browser, root: str
) -> None:
    context, stranger = open_page(browser, root)
    stranger.looks_at(ALONE, 14)
    expect(stranger.page.locator("#in-view-title")).to_have_text("1 image in view")
    context.route("**/global-mosaic.pmtiles", lambda route: route.fulfill(status=503))
    stranger.goes_to(STACK[0])
    expect(stranger.page.locator(".notice")).to_contain_text("A part of the map could not be read")
    expect(stranger.page.locator("#in-view-title")).to_have_text("The images here could not be read")
    expect(stranger.page.locator("#live")).to_have_text("The images here could not be read, Myanmar")
    expect(stranger.page.locator("#where")).to_have_text("Myanmar")
    stranger.page.locator("#map canvas").press("Enter")
    expect(stranger.page.locator("#live")).to_have_text("What is here has not been read yet")
    stranger.page.evaluate("void mosaicMap.panBy([0, 1])")
    stranger.page.wait_for_timeout(2_000)
    expect(stranger.page.locator("#in-view-title")).to_have_text("The images here could not be read")
    context.unroute("**/global-mosaic.pmtiles")
    stranger.page.evaluate("void mosaicMap.panBy([0, 1])")
    expect(stranger.page.locator("#in-view-title")).to_have_text("4 images in view, the newest first")
    expect(stranger.page.locator(".notice")).to_have_count(0)
    context.close()


def test_a_link_to_an_image_is_followed_though_a_tile_never_comes(
    browser: Browser, root: str, published: Published
) -> None:
    context, stranger = open_page(browser, root)
    longitude, latitude, _ = PLACES[STACK[0]]
    held = _hold_tile(context, published, STACK[0])
    stranger.opens(f"14/{latitude}/{longitude}&layer=coverage&image={BESIDE}", waits=False)
    expect(stranger.page.locator("#selection-title")).to_have_text("Palace 2019")
    expect(stranger.page.get_by_role("radio", name="Raster coverage")).to_be_checked()
    assert held
    context.close()


def _hold_tile(context: BrowserContext, published: Published, name: str) -> list[Route]:
    """Requests for the z14 tile in the middle of an image, which are not answered."""
    column, row = to_tiles(np.array([PLACES[name][:2]]), 14)[0].astype(int)
    archive, read = MemorySource((published.store / "global-mosaic.pmtiles").read_bytes()), list[int]()

    def noted(at: int, size: int) -> bytes:
        read.append(at)
        return archive(at, size)

    assert Reader(noted).get(14, column, row)
    held: list[Route] = []

    def hold_tile(route: Route) -> None:
        if route.request.headers["range"].startswith(f"bytes={read[-1]}-"):
            held.append(route)
        else:
            route.continue_()

    context.route("**/global-mosaic.pmtiles", hold_tile)
    return held

"""The viewer's page, as a stranger sees it in Chromium."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Browser, Locator, Route, expect

from oam_mosaic_assets.assets.published_mosaic import PUBLISHED
from oam_mosaic_assets.core.product import EXACT, IMAGERY
from oam_mosaic_assets_tests.campaign.swaps import BROWSER, install_readers
from oam_mosaic_assets_tests.servers.tiles import serving
from oam_mosaic_assets_tests.viewer.site import (
    ALONE,
    BESIDE,
    COLOUR,
    DATELINE,
    DEEP_ARCHIVE,
    FAR,
    HOSTILE,
    HOSTILE_ARCHIVE,
    PLACES,
    SCENE,
    SMALL,
    SPECKS,
    STACK,
    TACLOBAN,
    TINY,
    Published,
    Stranger,
    open_page,
    serious,
    with_config,
    with_pointer,
)

VECTOR_TILES = "http://127.0.0.1:3004/global-mosaic/{z}/{x}/{y}"
RASTER_TILES = "https://tiles.example.org/{z}/{x}/{y}.png"
NOTE_WHEN_SHOWN = """
window.shownAt = null;
document.addEventListener("readystatechange", () => {
  const state = document.querySelector("#state");
  if (state) new MutationObserver(() => { if (state.querySelector("strong")) shownAt ??= performance.now(); })
    .observe(state, { childList: true });
}, { once: true });
"""
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize("name", [ALONE, TINY])
@pytest.mark.parametrize("zoom", [0, 3, 8, 14])
def test_every_place_with_imagery_is_seen_at_every_zoom(stranger: Stranger, name: str, zoom: int) -> None:
    stranger.looks_at(name, zoom)
    assert stranger.orange(name) > 3
    if zoom == 14 or (zoom == 8 and name == ALONE):
        assert name in stranger.drawn()


@pytest.mark.parametrize("name", [ALONE, TINY])
@pytest.mark.parametrize("zoom", [0, 13])
def test_the_raster_coverage_shows_the_same_places(stranger: Stranger, name: str, zoom: int) -> None:
    longitude, latitude, _ = PLACES[name]
    stranger.opens(f"{zoom}/{latitude}/{longitude}&layer=coverage")
    stranger.waits_until("mosaicMap.getLayer('coverage') && mosaicMap.loaded()")
    assert stranger.orange(name) == 0
    assert stranger.grey(name) >= 1


@pytest.mark.parametrize("zoom", [7, 11, 14, 16])
def test_the_imagery_shows_what_images_show(stranger: Stranger, zoom: int) -> None:
    longitude, latitude, _ = PLACES[ALONE]
    stranger.opens(f"{zoom}/{latitude}/{longitude}&layer=imagery")
    stranger.waits_until("mosaicMap.getLayer('imagery') && mosaicMap.loaded()")
    expect(stranger.page.get_by_role("radio", name="Imagery")).to_be_checked()
    expect(stranger.page.locator(".maplibregl-ctrl-attrib")).to_contain_text("Images © their providers")
    stranger.page.wait_for_timeout(400)  # it fades in
    shown = stranger.colour(ALONE)
    assert all(abs(one - other) < 12 for one, other in zip(shown, COLOUR, strict=True)), shown


def test_where_imagery_is_smaller_than_a_pixel_a_dot_says_where_it_is(stranger: Stranger) -> None:
    longitude, latitude, _ = PLACES[ALONE]
    stranger.opens(f"3/{latitude}/{longitude}&layer=imagery")
    stranger.waits_until("mosaicMap.getLayer('imagery') && mosaicMap.loaded()")
    assert stranger.orange(ALONE) > 3


@pytest.mark.parametrize("zoom", [4, 5.5, 7, 8.5])
def test_among_imagery_dots_say_where_images_of_200_metres_are(stranger: Stranger, zoom: float) -> None:
    longitude, latitude, _ = PLACES[SMALL]
    stranger.opens(f"{zoom}/{latitude}/{longitude}&layer=imagery")
    stranger.waits_until("mosaicMap.getLayer('imagery') && mosaicMap.loaded()")
    assert stranger.orange(SMALL) > 3


def test_the_layer_is_switched_by_keyboard_and_kept_in_the_address(stranger: Stranger) -> None:
    page = stranger.page
    stranger.looks_at(ALONE, 14)
    assert (stranger.orange(ALONE) > 100, stranger.grey(ALONE)) == (True, 0)
    footprints, coverage = (
        page.get_by_role("radio", name=name) for name in ("Footprints", "Raster coverage")
    )
    expect(footprints).to_be_checked()
    footprints.focus()
    page.keyboard.press("ArrowRight")
    expect(coverage).to_be_checked()
    expect(page.locator("#live")).to_have_text("The map shows raster coverage")
    page.reload()
    expect(coverage).to_be_checked()
    stranger.waits_until("window.mosaicMap?.getLayer('coverage') && mosaicMap.loaded()")
    assert (stranger.orange(ALONE), stranger.grey(ALONE) > 1000) == (0, True)
    page.mouse.click(*stranger.middle())
    expect(page.locator("#selection-title")).to_have_text("Field by the lagoon")
    assert page.url.endswith(f"&layer=coverage&image={ALONE}")
    page.keyboard.press("Escape")
    footprints.check()
    expect(page.locator("#live")).to_have_text("The map shows footprints")
    assert "layer=" not in page.url
    stranger.waits_until("mosaicMap.loaded()")
    assert stranger.orange(ALONE) > 100


def test_without_raster_coverage_there_is_no_switch(stranger: Stranger, published: Published) -> None:
    without = with_pointer(published.store, products={})
    stranger.page.route("**/latest.json", lambda route: route.fulfill(body=without))
    stranger.opens("14/5.6/-0.2&layer=coverage")
    expect(stranger.page.locator("#layers")).to_be_hidden()
    assert stranger.orange(ALONE) > 100


def test_a_click_shows_the_image_and_all_that_is_known_of_it(
    stranger: Stranger, published: Published
) -> None:
    page = stranger.page
    stranger.looks_at(ALONE, 14)
    page.mouse.move(*stranger.middle())
    expect(page.locator("#tip")).to_contain_text("Field by the lagoon")
    page.mouse.click(*stranger.middle())
    shown = page.locator("#selection")
    expect(shown.get_by_role("heading")).to_have_text("Field by the lagoon")
    for text in ("1 March 2024", "5 cm", "CC-BY-4.0", "A mapper", "123 MB", ALONE):
        expect(shown).to_contain_text(text)
    links = {each.inner_text(): each.get_attribute("href") or "" for each in shown.get_by_role("link").all()}
    assert links["Thumbnail"] == "https://images.invalid/thumbnail.png"
    assert links["STAC item"].endswith(f"/items/{ALONE}")
    assert links["Preview"].endswith(f"/items/{ALONE}/preview.png?assets=visual")
    assert page.url.endswith(f"&image={ALONE}")
    expect(page.locator("#build")).to_contain_text(published.pointer.build)


def test_a_preview_whose_address_has_a_query_is_asked_for_with_what_is_drawn(
    stranger: Stranger, published: Published
) -> None:
    config = with_config(published.store, preview="https://tiles.example.org/preview?item={id}")
    stranger.page.route("**/config.json", lambda route: route.fulfill(body=config))
    stranger.looks_at(ALONE, 14)
    stranger.page.mouse.click(*stranger.middle())
    preview = stranger.page.locator("#selection").get_by_role("link", name="Preview")
    expected = f"https://tiles.example.org/preview?item={ALONE}&assets=visual"
    expect(preview).to_have_attribute("href", expected)


def test_the_tile_server_shows_the_page(browser: Browser, published: Published, tmp_path: Path) -> None:
    """Only the tile server runs; nothing else serves the folder."""
    settings = {"MOSAIC_STORE": str(published.store), "STAC_ITEMS": "/any.ndjson"}
    with serving(tmp_path / "serve", settings) as server:
        server.serves(published.pointer.build)
        context, stranger = open_page(browser, f"http://127.0.0.1:{server.ports[2]}/")
        stranger.opens("14/5.6/-0.2", page="")
        assert stranger.page.url.startswith(f"{stranger.root}mosaic/viewer/index.html#map=14/")
        assert ALONE in stranger.drawn()
        stranger.page.mouse.click(*stranger.middle())
        expect(stranger.page.locator("#selection-title")).to_have_text("Field by the lagoon")
        expect(stranger.page.locator(".notice")).to_have_count(0)
        context.close()
        assert stranger.abroad == []
        assert stranger.complaints == []


def test_of_several_images_at_a_place_one_is_chosen_from_a_list(stranger: Stranger) -> None:
    page = stranger.page
    stranger.looks_at(STACK[0], 14)
    page.mouse.click(*stranger.middle())
    expect(page.locator("#selection-title")).to_have_text("3 images here, the newest first")
    names = page.locator("#selection-body button span").all_inner_texts()
    assert names == ["Palace 2023", "Palace 2022", "Palace 2021"]
    page.locator("#selection").get_by_role("button", name="Palace 2022").click()
    expect(page.locator("#selection-title")).to_have_text("Palace 2022")
    page.get_by_role("button", name="Back to the list").click()
    expect(page.locator("#selection-title")).to_contain_text("3 images")


def test_images_at_a_corner_of_an_older_one_are_listed_from_the_newest(stranger: Stranger) -> None:
    longitude, latitude, side = PLACES[BESIDE]
    stranger.opens(f"12/{latitude - side / 2}/{longitude - side / 2}")
    stranger.page.mouse.click(*stranger.middle())
    expect(stranger.page.locator("#selection-title")).to_have_text("4 images here, the newest first")
    names = stranger.page.locator("#selection-body button span").all_inner_texts()
    assert names == ["Palace 2023", "Palace 2022", "Palace 2021", "Palace 2019"]


def test_images_in_view_are_listed_as_the_mosaic_draws_them(stranger: Stranger) -> None:
    stranger.looks_at(SPECKS[0], 14)
    expect(stranger.page.locator("#in-view-title")).to_have_text("4 images in view, the newest first")
    listed = stranger.page.locator("#in-view-body button").all()
    ids = [each.get_attribute("data-key") for each in listed]
    assert ids == [SPECKS[2], SPECKS[0], SCENE, SPECKS[1]], "of one day, by id; without a date, last"


@pytest.mark.parametrize("stranger", [{"viewport": {"width": 3840, "height": 2160}}], indirect=True)
@pytest.mark.parametrize("zoom", [7, 12])
def test_images_on_a_large_screen_are_listed_by_title(stranger: Stranger, zoom: int) -> None:
    stranger.looks_at(STACK[0], zoom)
    expect(stranger.page.locator("#in-view-title")).to_have_text("4 images in view, the newest first")
    names = stranger.page.locator("#in-view-body button span").all_inner_texts()
    assert names == ["Palace 2023", "Palace 2022", "Palace 2021", "Palace 2019"]


@pytest.mark.parametrize("zoom", [2, 8])
def test_a_click_on_what_is_too_small_to_be_chosen_goes_closer(stranger: Stranger, zoom: int) -> None:
    stranger.looks_at(TINY, zoom)
    stranger.page.mouse.click(*stranger.middle())
    stranger.waits_until(f"mosaicMap.getZoom() >= {zoom + 3} && !mosaicMap.isMoving()")


def test_what_is_only_counted_under_a_click_is_told(stranger: Stranger) -> None:
    page = stranger.page
    selection = page.locator("#selection")
    stranger.looks_at(SPECKS[0], 7)
    page.mouse.click(*stranger.middle())
    expect(page.locator("#selection-title")).to_contain_text("1 image here")
    expect(selection).to_contain_text("and 3 too small to list here")
    expect(page.locator("#live")).to_have_text("1 image here, and 3 too small to list")
    selection.get_by_role("button", name=SCENE).click()
    expect(page.locator("#selection-title")).to_have_text(SCENE)
    page.get_by_role("button", name="Back to the list").click()
    selection.get_by_role("button", name="Zoom in").click()
    stranger.waits_until("mosaicMap.getZoom() > 10 && !mosaicMap.isMoving()")
    page.mouse.click(*stranger.middle())
    expect(page.locator("#selection-title")).to_contain_text("4 images here")


def test_the_address_keeps_position_and_selection(stranger: Stranger) -> None:
    page = stranger.page
    stranger.opens(f"14.5/5.6/-0.2&image={ALONE}")
    expect(page.locator("#selection-title")).to_have_text("Field by the lagoon")
    page.reload()
    expect(page.locator("#selection-title")).to_have_text("Field by the lagoon")
    assert page.evaluate("mosaicMap.getZoom()") == 14.5
    page.get_by_role("button", name="Close").click()
    assert "image=" not in page.url
    assert "#map=14.5/" in page.url


def test_the_catalogues_text_is_text(stranger: Stranger) -> None:
    page = stranger.page
    hostile = f"{stranger.root}{HOSTILE_ARCHIVE}"
    page.route("**/global-data.pmtiles", lambda route: route.continue_(url=hostile))
    stranger.looks_at(HOSTILE, 14)
    page.mouse.click(*stranger.middle())
    expect(page.locator("#selection-title")).to_contain_text("<img src=x onerror=")
    expect(page.locator("#selection")).to_contain_text("<b>none</b>")
    assert page.locator("#selection img, #selection b, #selection script, #in-view b").count() == 0
    links = [each.get_attribute("href") or "" for each in page.locator("#selection a").all()]
    assert len(links) == 2, "a script and a password are no links"
    assert all(
        re.fullmatch(r"https://api\.imagery\.hotosm\.org/[\w/-]+/%3C%2Fscript%3E[\w%'.?=/-]+", each)
        for each in links
    )
    page.reload()
    expect(page.locator("#selection-title")).to_contain_text("<img src=x onerror=")
    assert page.title() == "OpenAerialMap global mosaic"


@pytest.mark.parametrize(
    ("hours", "words"), [(1, None), (30, "A little late"), (80, "This mosaic is out of date")]
)
def test_an_old_mosaic_says_so(stranger: Stranger, hours: int, words: str | None) -> None:
    stranger.page.clock.set_system_time(datetime.now(UTC) + timedelta(hours=hours))
    stranger.opens()
    notice = stranger.page.locator(".notice")
    if words is None:
        expect(notice).to_have_count(0)
    else:
        expect(notice).to_contain_text(words)
        expect(notice).to_contain_text("30 hours" if hours == 30 else "3 days")


def test_nobody_is_interrupted_because_a_build_grows_older(stranger: Stranger, published: Published) -> None:
    stranger.page.clock.install()
    stranger.opens(query=f"?build={published.pointer.build}")
    notice = stranger.page.locator(".notice")
    before = notice.inner_text()
    stranger.page.clock.fast_forward(3_600_000)
    stranger.page.clock.fast_forward(61_000)
    expect(notice).not_to_have_text(before)
    expect(stranger.page.locator("[role=alert]")).to_have_count(0)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("20990101T000000Z", "A newer mosaic is public"),
        ("20200101T000000Z", "An earlier mosaic is public again"),
    ],
)
def test_another_build_that_becomes_public_is_told(
    stranger: Stranger, published: Published, time: str, words: str
) -> None:
    stranger.page.clock.install()
    stranger.opens()
    other = with_pointer(published.store, build=f"{time}-0123456789ab")
    stranger.page.route("**/latest.json", lambda route: route.fulfill(body=other))
    stranger.page.clock.fast_forward(61_000)
    expect(stranger.page.get_by_role("alert")).to_contain_text(words)
    stranger.page.unroute("**/latest.json")
    stranger.page.clock.fast_forward(61_000)
    expect(stranger.page.locator(".notice")).to_have_count(0)


def test_one_build_can_be_looked_at(stranger: Stranger, published: Published) -> None:
    """The link in Dagster names the build."""
    (event,) = published.site.instance.fetch_materializations(PUBLISHED, limit=1).records
    materialised = event.asset_materialization
    assert materialised is not None
    link = materialised.metadata["viewer"]
    assert isinstance(link, dg.UrlMetadataValue)
    query = f"?build={published.pointer.build}"
    assert (link.url or "").endswith(f"/mosaic/viewer/index.html{query}")
    stranger.opens(query=query)
    expect(stranger.page.locator("#state")).to_contain_text(f"{len(PLACES)} images")
    expect(stranger.page.locator(".notice")).to_contain_text("This is one build")


def test_instead_of_an_unknown_build_the_newest_is_offered(stranger: Stranger) -> None:
    stranger.opens("14/5.6/-0.2", query="?build=yesterday", waits=False)
    expect(stranger.page.locator(".notice")).to_contain_text("no such build")
    stranger.page.get_by_role("button", name="Show the newest").click()
    expect(stranger.page.locator("#state")).to_contain_text(f"{len(PLACES)} images")
    assert stranger.page.url.startswith(f"{stranger.root}mosaic/viewer/index.html#map=14/5.6/-0.2")


@pytest.mark.parametrize("stranger", [{"color_scheme": "dark"}], indirect=True)
def test_in_the_dark_it_is_dark(stranger: Stranger) -> None:
    stranger.looks_at(ALONE, 8)
    page = stranger.page
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 60
    assert page.evaluate("mosaicMap.getPaintProperty('sea', 'background-color')") == "#12171b"
    assert stranger.orange(ALONE) > 3
    page.emulate_media(color_scheme="light")
    stranger.waits_until("mosaicMap.getPaintProperty('sea', 'background-color') === '#dfe6ea'")


@pytest.mark.parametrize("stranger", [PHONE], indirect=True)
def test_on_a_phone_a_tap_chooses_and_nothing_is_cut_off(stranger: Stranger) -> None:
    page = stranger.page
    stranger.looks_at(ALONE, 14)
    page.touchscreen.tap(*stranger.middle())
    expect(page.locator("#selection-title")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('#map').clientHeight") > 300
    small = [
        each.inner_text()
        for each in page.locator("#selection button").all()
        if each.is_visible() and (each.bounding_box() or {"height": 0})["height"] < 40
    ]
    assert small == []


def test_the_page_stays_clear_of_a_phones_notch(stranger: Stranger) -> None:
    """As browsers see to by themselves, unless a page takes the whole screen."""
    stranger.opens(waits=False)
    viewport = stranger.page.locator("meta[name=viewport]").get_attribute("content") or ""
    assert "viewport-fit" not in viewport


def test_by_keyboard_alone(stranger: Stranger) -> None:
    page = stranger.page
    stranger.opens("14/5.6/-0.198")
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#map canvas")).to_be_focused()
    expect(page.locator("#cross")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#selection")).to_be_focused()
    expect(page.locator("#live")).to_have_text("Chosen: Field by the lagoon")
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()
    expect(page.locator("#map canvas")).to_be_focused()
    page.keyboard.press("-")
    stranger.waits_until("mosaicMap.getZoom() < 14 && !mosaicMap.isMoving()")
    listed = page.locator("#in-view-body button")
    listed.first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#selection-title")).to_have_text("Field by the lagoon")


def test_far_out_the_countries_with_imagery_are_listed(stranger: Stranger) -> None:
    page = stranger.page
    stranger.opens("1/10/20")
    for country in ("Ghana", "Myanmar", "Peru"):
        expect(page.locator("#in-view-body").get_by_role("button", name=country)).to_be_visible()
    page.locator("#in-view-body").get_by_role("button", name="Ghana").click()
    expect(page.locator("#in-view-title")).to_have_text("1 image in view")
    expect(page.locator("#live")).to_have_text("1 image in view, Ghana")


def test_each_country_has_its_number_of_places_beside_its_name(stranger: Stranger) -> None:
    """The square of 30 km lies in 16 tiles of z12, each of the two small ones in one."""
    stranger.opens("3/-25/135")
    entry = stranger.page.locator("#in-view-body").get_by_role("button", name="Australia")
    expect(entry).to_have_text("Australia 18")


def test_a_long_title_stays_clear_of_the_arrow(stranger: Stranger) -> None:
    title = stranger.page.locator("#in-view-title")
    stranger.opens()
    title.evaluate("each => { each.textContent = 'too small to list '.repeat(9); }")
    boxes = [each.bounding_box() for each in (title, stranger.page.locator("#in-view summary"))]
    text, line = (each["x"] + each["width"] for each in boxes if each is not None)
    assert line - text > 34, "margin, arrow, and a gap"


def test_at_borders_and_coasts_countries_are_listed_by_the_whole_of_a_place(stranger: Stranger) -> None:
    listed = stranger.page.locator("#in-view-body button")
    stranger.opens("2/0/80")
    for country in ("Dem. Rep. Congo", "Rwanda", "Philippines"):
        expect(listed.filter(has_text=country)).to_be_visible()
    expect(listed.filter(has_text="At sea")).to_have_count(0)
    expect(stranger.page.locator("#in-view-body")).to_contain_text(
        "Near borders and coasts, this is approximate"
    )
    stranger.opens(f"4/{PLACES[TACLOBAN][1]}/{PLACES[TACLOBAN][0]}")
    expect(stranger.page.locator("#live")).to_have_text("Imagery in 1 country in view")


def test_without_borders_no_country_is_made_up(browser: Browser, root: str) -> None:
    context, stranger = open_page(browser, root)
    context.route(re.compile(r"/(50|110)m-"), lambda route: route.fulfill(status=503))
    stranger.opens("2/10/20")
    listed = stranger.page.locator("#in-view-body")
    expect(listed).to_contain_text("Countries cannot be listed, since a part of the map could not be read")
    expect(listed.get_by_role("button")).to_have_count(0)
    expect(stranger.page.locator(".notice")).to_contain_text("The borders or the dots could not be read")
    context.close()


def test_a_list_of_the_same_words_acts_on_what_is_in_view_now(stranger: Stranger) -> None:
    page = stranger.page
    entries = page.locator("#in-view-body button")
    stranger.opens(f"5/{PLACES[SMALL][1]}/{PLACES[SMALL][0]}")
    expect(entries).to_have_text(["Australia 1"])
    before = entries.get_attribute("data-bounds")
    entries.focus()
    stranger.goes_to(FAR)
    expect(entries).not_to_have_attribute("data-bounds", before or "")
    expect(entries).to_have_text(["Australia 1"])
    expect(entries).to_be_focused()
    page.keyboard.press("Enter")
    stranger.waits_until("mosaicMap.getZoom() > 6 && !mosaicMap.isMoving()")
    stranger.sees(FAR)


def test_a_list_that_details_change_keeps_the_focus_at_the_same_image(browser: Browser, root: str) -> None:
    """Of three images that have the same title."""
    away = [True]
    context, stranger = open_page(browser, root)
    context.route("**/global-data.pmtiles", lambda route: route.abort() if away else route.continue_())
    stranger.looks_at(SPECKS[0], 14)
    page = stranger.page
    page.get_by_role("button", name=SPECKS[1]).focus()
    away.clear()
    page.evaluate("mosaicMap.panBy([0, 1])")
    expect(page.get_by_role("button", name="Speck")).to_have_count(3)
    expect(page.locator("#in-view-body button:focus")).to_have_attribute("data-key", SPECKS[1])
    context.close()


@pytest.mark.parametrize("longitude", [-179.9, 179.9])
def test_an_image_across_the_antimeridian_is_approached_as_one(stranger: Stranger, longitude: float) -> None:
    stranger.opens(f"9/67/{longitude}&image={DATELINE}")
    expect(stranger.page.locator("#selection-title")).to_have_text(DATELINE)
    stranger.page.locator("#approach").click()
    stranger.waits_until("mosaicMap.getZoom() > 10 && !mosaicMap.isMoving()")
    stranger.waits_until("Math.abs(Math.abs(mosaicMap.getCenter().lng) - 180) < 0.02")


def test_an_image_larger_than_the_screen_is_approached_as_a_whole(stranger: Stranger) -> None:
    stranger.opens(f"16/{PLACES[SCENE][1]}/{PLACES[SCENE][0]}&image={SCENE}")
    expect(stranger.page.locator("#selection-title")).to_have_text(SCENE)
    stranger.page.locator("#approach").click()
    stranger.waits_until("mosaicMap.getZoom() < 12 && !mosaicMap.isMoving()")
    assert stranger.page.evaluate("mosaicMap.getZoom()") > 9
    for corner in ("[134.85, -25.15]", "[135.15, -24.85]"):
        assert stranger.page.evaluate(f"mosaicMap.getBounds().contains({corner})")


def test_an_image_that_is_not_there_is_not_made_up(stranger: Stranger) -> None:
    stranger.opens("14/5.6/-0.2&image=5f1c0c2bd1c7c3000756f1f2")
    expect(stranger.page.locator("#selection-body")).to_contain_text("no image with this id here")
    expect(stranger.page.locator("#selection a")).to_have_count(0)
    expect(stranger.page.locator("#approach")).to_be_hidden()


def test_an_image_too_small_to_be_drawn_as_itself_is_counted(stranger: Stranger) -> None:
    page = stranger.page
    stranger.looks_at(TINY, 7.5)
    expect(page.locator("#in-view-title")).to_have_text("1 image in view, too small to list")
    expect(page.locator("#in-view-body")).to_have_text("Zoom in, or choose a mark on the map.")
    stranger.looks_at(TINY, 14)
    expect(page.locator("#in-view-title")).to_have_text("1 image in view")


def test_a_mosaic_that_begins_far_in_says_where(stranger: Stranger) -> None:
    page = stranger.page
    deep = f"{stranger.root}{DEEP_ARCHIVE}"
    page.route("**/global-mosaic.pmtiles", lambda route: route.continue_(url=deep))
    for zoom in (2, 8):
        stranger.looks_at(ALONE, zoom)
        expect(page.locator("#in-view-title")).to_have_text("Too far out to see images")
        expect(page.locator("#in-view-body")).to_have_text(
            "This mosaic begins at zoom 13. Zoom in to see its images."
        )
    stranger.looks_at(ALONE, 13)
    expect(page.locator("#in-view-title")).to_have_text("1 image in view")


def test_far_out_the_country_in_the_middle_of_the_map_is_not_named(stranger: Stranger) -> None:
    stranger.opens("2/10/20")
    expect(stranger.page.locator("#where")).to_be_hidden()
    stranger.looks_at(ALONE, 14)
    expect(stranger.page.locator("#where")).to_have_text("Ghana")


def test_every_address_is_copied(stranger: Stranger, published: Published) -> None:
    page = stranger.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    stranger.opens()
    page.get_by_role("heading", name="Use it in your map").click()
    wanted = {
        "PMTiles": f"{stranger.root}global-mosaic.pmtiles",
        "PMTiles, this build": f"{stranger.root}{published.pointer.archive}",
        "PMTiles, raster coverage": f"{stranger.root}global-coverage-exact.pmtiles",
        "PMTiles, imagery": f"{stranger.root}global-imagery.pmtiles",
        "Vector tiles (XYZ)": VECTOR_TILES,
        "QGIS, vector": VECTOR_TILES,
        "Raster tiles (XYZ)": RASTER_TILES,
        "QGIS, raster": RASTER_TILES,
        "JOSM": "tms[0,22]:https://tiles.example.org/{zoom}/{x}/{y}.png",
        "iD and Rapid": RASTER_TILES,
    }
    assert page.locator("#addresses h3").all_inner_texts() == list(wanted)
    for client, address in wanted.items():
        page.get_by_role("button", name=f"Copy the address for {client}", exact=True).click()
        expect(page.locator("#live")).to_have_text(f"Copied the address for {client}")
        assert page.evaluate("navigator.clipboard.readText()") == address


def test_the_tilejson_of_a_bucket_is_offered(stranger: Stranger, published: Published) -> None:
    """That of a folder is not: the archive's address in it is that of a file."""
    config = with_config(published.store, public="https://bucket.example.org/")
    stranger.page.route("**/config.json", lambda route: route.fulfill(body=config))
    stranger.opens()
    stranger.page.get_by_role("heading", name="Use it in your map").click()
    offered = stranger.page.locator("#addresses li", has=stranger.page.get_by_text("TileJSON", exact=True))
    expect(offered.locator("code")).to_have_text("https://bucket.example.org/global-mosaic.json")


@pytest.mark.parametrize(("shows", "first"), [("coverage", 5), ("imagery", 0)])
def test_the_first_zoom_of_what_each_client_reads_is_said(
    stranger: Stranger, published: Published, shows: str, first: int
) -> None:
    config = with_config(published.store, zoom_min=5, raster_shows=shows)
    stranger.page.route("**/config.json", lambda route: route.fulfill(body=config))
    stranger.opens()
    stranger.page.get_by_role("heading", name="Use it in your map").click()
    for client, said in {
        "PMTiles, raster coverage": "zooms 5 to 15.",
        "QGIS, vector": "Zooms 5 to 15.",
        "QGIS, raster": f"Zooms {first} to 22.",
        "JOSM": f"tms[{first},22]:",
    }.items():
        offered = stranger.page.locator("#addresses li", has=stranger.page.get_by_text(client, exact=True))
        expect(offered).to_contain_text(said)


@pytest.mark.parametrize(
    ("shows", "products"), [("coverage", []), ("coverage", [IMAGERY.name]), ("imagery", [])]
)
def test_without_pictures_to_serve_no_raster_tiles_are_offered(
    stranger: Stranger, published: Published, shows: str, products: list[str]
) -> None:
    """The tile server answers 404 then; as coverage it does not serve the imagery."""
    offered = _offers(stranger, published, shows, products)
    expect(offered.filter(has_text="QGIS, vector")).to_have_count(1)
    expect(offered.filter(has_text="JOSM")).to_have_count(0)
    expect(offered.filter(has_text="Raster tiles")).to_have_count(0)


@pytest.mark.parametrize(
    ("product", "words"),
    [(EXACT.name, "Pictures: coverage to z15"), (IMAGERY.name, "Pictures: the images themselves.")],
)
def test_a_tile_server_of_imagery_is_said_to_show_what_the_build_has(
    stranger: Stranger, published: Published, product: str, words: str
) -> None:
    """Of a build without imagery it serves the coverage."""
    offered = _offers(stranger, published, "imagery", [product])
    expect(offered.filter(has_text="Raster tiles")).to_contain_text(words)
    expect(offered.filter(has_text="JOSM")).to_have_count(1)


def _offers(stranger: Stranger, published: Published, shows: str, products: list[str]) -> Locator:
    """What is offered under "Use it in your map" for a build that has these archives of pictures."""
    config = with_config(published.store, raster_shows=shows)
    has = {name: published.pointer.products[name] for name in products}
    pointer = with_pointer(published.store, products=has)
    stranger.page.route("**/config.json", lambda route: route.fulfill(body=config))
    stranger.page.route("**/latest.json", lambda route: route.fulfill(body=pointer))
    stranger.opens(waits=False)
    return stranger.page.locator("#addresses li")


def test_an_address_that_may_not_be_copied_is_marked(stranger: Stranger) -> None:
    stranger.page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    stranger.opens()  # once the map is drawn it says what is in view, in the same place
    stranger.page.get_by_role("heading", name="Use it in your map").click()
    stranger.page.get_by_role("button", name="Copy the address for JOSM", exact=True).click()
    expect(stranger.page.locator("#live")).to_contain_text("Could not copy")
    marked = stranger.page.evaluate("getSelection().toString()")
    assert marked == "tms[0,22]:https://tiles.example.org/{zoom}/{x}/{y}.png"


@pytest.mark.parametrize(
    "stranger",
    [{}, {"color_scheme": "dark"}, PHONE],
    indirect=True,
    ids=["light", "dark", "phone"],
)
def test_nobody_is_shut_out(stranger: Stranger) -> None:
    install_readers()
    page = stranger.page
    stranger.opens(f"14/5.6/-0.2&image={ALONE}")
    expect(page.locator("#selection-title")).to_have_text("Field by the lagoon")
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    # as an extension would, since the page's policy allows no other script
    page.evaluate((BROWSER / "node_modules" / "axe-core" / "axe.min.js").read_text())
    assert serious(page.evaluate("axe.run()")["violations"]) == []


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, "", "Nothing is published here yet"),
        (403, "", "Nothing is published here yet"),
        (503, "", "The store that holds the mosaic does not answer"),
        (0, "", "The store that holds the mosaic does not answer"),
        (200, "<html>", "cannot be understood"),
        (
            200,
            '{"format": 2, "build": "x", "archive": "y", "checked_at": "2026-01-01"}',
            "cannot be understood",
        ),
    ],
)
def test_what_is_wrong_is_said_in_words(
    browser: Browser, root: str, status: int, body: str, words: str
) -> None:
    def answer(route: Route) -> None:
        route.fulfill(status=status, body=body) if status else route.abort()

    context, stranger = open_page(browser, root)
    context.route("**/latest.json", answer)
    stranger.opens(waits=False)
    expect(stranger.page.locator(".notice")).to_contain_text(words)
    expect(stranger.page.get_by_role("button", name="Try again")).to_be_visible()
    context.close()


@pytest.mark.parametrize("source", ["sample", "pgstac"])
def test_a_sample_is_said_to_be_made_up(
    browser: Browser, root: str, published: Published, source: str
) -> None:
    content = replace(published.pointer, source=source).to_json()
    context, stranger = open_page(browser, root)
    context.route("**/latest.json", lambda route: route.fulfill(body=content))
    stranger.opens(waits=False)
    made_up = ", all made up for trying this out" if source == "sample" else ""
    expect(stranger.page.locator("#state")).to_contain_text(f"images{made_up}, compared with the catalogue")
    context.close()


def test_the_page_is_small(published: Published) -> None:
    """All scripts but the map library's, gzipped."""
    assets = published.store / "mosaic" / "viewer" / "assets"
    ours = [path for path in assets.glob("*.js") if not path.name.startswith("maplibre")]
    assert 3_000 < sum(map(_packed, ours)) < 60_000


@pytest.mark.alone
def test_the_page_is_there_within_a_second(stranger: Stranger) -> None:
    """It shows what is public and how old that is; best of three visits, as other work may disturb one."""
    stranger.page.add_init_script(NOTE_WHEN_SHOWN)
    taken = []
    for _ in range(3):
        stranger.opens(waits=False)
        stranger.waits_until("window.shownAt")
        taken.append(stranger.page.evaluate("shownAt"))
        stranger.waits_until("window.mosaicMap?.loaded()")
        stranger.page.goto("about:blank")
    assert min(taken) < 1000, taken


def _packed(path: Path) -> int:
    return len(gzip.compress(path.read_bytes()))

"""The map and the lists of images, as a stranger sees them in Chromium."""

from __future__ import annotations

import re
from itertools import product

import pytest
from playwright.sync_api import Browser, expect

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
    view_of,
    with_config,
    with_pointer,
)


def test_every_place_with_imagery_is_seen_at_every_zoom(stranger: Stranger) -> None:
    stranger.opens()
    for name, zoom in product([ALONE, TINY], [0, 3, 8, 14]):
        stranger.looks_again_at(name, zoom)
        assert stranger.orange(name) > 3, (name, zoom)
        if zoom == 14 or (zoom == 8 and name == ALONE):
            assert name in stranger.drawn(), zoom


def test_the_raster_coverage_shows_the_same_places(stranger: Stranger) -> None:
    stranger.opens(f"{view_of(ALONE, 0)}&layer=coverage")
    stranger.waits_until("mosaicMap.getLayer('coverage') && mosaicMap.loaded()")
    for name, zoom in product([ALONE, TINY], [0, 13]):
        stranger.looks_again_at(name, zoom)
        assert (stranger.orange(name), stranger.grey(name) >= 1) == (0, True), (name, zoom)


def test_the_imagery_shows_what_images_show(stranger: Stranger) -> None:
    stranger.opens(f"{view_of(ALONE, 7)}&layer=imagery")
    stranger.waits_until("mosaicMap.getLayer('imagery') && mosaicMap.loaded()")
    expect(stranger.page.get_by_role("radio", name="Imagery")).to_be_checked()
    expect(stranger.page.locator(".maplibregl-ctrl-attrib")).to_contain_text("Images © their providers")
    for zoom in (7, 11, 14, 16):
        stranger.looks_again_at(ALONE, zoom)
        stranger.page.wait_for_timeout(400)  # it fades in
        shown = stranger.colour(ALONE)
        assert all(abs(one - other) < 12 for one, other in zip(shown, COLOUR, strict=True)), (zoom, shown)


def test_among_imagery_dots_say_where_small_images_are(stranger: Stranger) -> None:
    stranger.opens(f"{view_of(ALONE, 3)}&layer=imagery")
    stranger.waits_until("mosaicMap.getLayer('imagery') && mosaicMap.loaded()")
    for name, zoom in ((ALONE, 3.0), (SMALL, 4.0), (SMALL, 5.5), (SMALL, 7.0), (SMALL, 8.5)):
        stranger.looks_again_at(name, zoom)
        assert stranger.orange(name) > 3, (name, zoom)


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


def test_a_click_on_what_is_too_small_to_be_chosen_goes_closer(stranger: Stranger) -> None:
    stranger.opens()
    for zoom in (2, 8):
        stranger.looks_again_at(TINY, zoom)
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


def test_far_out_countries_are_listed_with_their_number_of_places(stranger: Stranger) -> None:
    page = stranger.page
    stranger.opens("0/10/20")
    listed = page.locator("#in-view-body").get_by_role("button")
    for country in ("Ghana", "Myanmar", "Peru"):
        expect(listed.filter(has_text=country)).to_be_visible()
    # the square of 30 km lies in 16 tiles of z12, each of the two small ones in one
    expect(listed.filter(has_text="Australia")).to_have_text("Australia 18")
    listed.filter(has_text="Ghana").click()
    expect(page.locator("#in-view-title")).to_have_text("1 image in view")
    expect(page.locator("#live")).to_have_text("1 image in view, Ghana")


def test_at_borders_and_coasts_countries_are_listed_by_the_whole_of_a_place(stranger: Stranger) -> None:
    listed = stranger.page.locator("#in-view-body button")
    stranger.opens("1/0/80")
    for country in ("Dem. Rep. Congo", "Rwanda", "Philippines"):
        expect(listed.filter(has_text=country)).to_be_visible()
    expect(listed.filter(has_text="At sea")).to_have_count(0)
    expect(stranger.page.locator("#in-view-body")).to_contain_text(
        "Near borders and coasts, this is approximate"
    )
    stranger.looks_at(TACLOBAN, 4)
    expect(stranger.page.locator("#live")).to_have_text("Imagery in 1 country in view")


@pytest.mark.parametrize(
    ("view", "way", "there"),
    [
        ("7/9.6/-0.2", "some 450 km away, to the south", ALONE),
        ("8/-17.8/-170", "some 1,300 km away, to the west", TINY),  # across the antimeridian
        ("4/-48/-165", "some 3,700 km away, to the north-west", TINY),  # where countries would be listed
        ("16/5.61/-0.17", "less than 28 km away", ALONE),  # in the same tile of z12
    ],
)
def test_where_there_is_nothing_it_leads_to_the_nearest_imagery(
    stranger: Stranger, view: str, way: str, there: str
) -> None:
    page = stranger.page
    stranger.opens(view)
    expect(page.locator("#in-view-body p")).to_have_text(f"The nearest imagery is {way}.")
    page.get_by_role("button", name="Go there").click()
    stranger.waits_until("mosaicMap.getZoom() > 10 && !mosaicMap.isMoving()")
    stranger.sees(there)
    expect(page.locator("#in-view-title")).to_have_text("1 image in view")


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
    stranger.looks_at(SMALL, 5)
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
    page.evaluate("void mosaicMap.panBy([0, 1])")
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
    stranger.opens(f"{view_of(SCENE, 16)}&image={SCENE}")
    expect(stranger.page.locator("#selection-title")).to_have_text(SCENE)
    stranger.page.locator("#approach").click()
    stranger.waits_until("mosaicMap.getZoom() < 12 && !mosaicMap.isMoving()")
    assert stranger.page.evaluate("mosaicMap.getZoom()") > 9
    for corner in ("[134.85, -25.15]", "[135.15, -24.85]"):
        assert stranger.page.evaluate(f"mosaicMap.getBounds().contains({corner})")


@pytest.mark.parametrize(
    "stranger",
    [{"viewport": {"width": 667, "height": 232}}, {"viewport": {"width": 320, "height": 180}}],
    indirect=True,
    ids=["phone held sideways", "enlarged four times"],
)
def test_on_a_small_map_an_image_is_approached_as_far_as_there_is_room(stranger: Stranger) -> None:
    stranger.opens(f"{view_of(ALONE, 14)}&image={ALONE}")
    expect(stranger.page.locator("#selection-title")).to_have_text("Field by the lagoon")
    stranger.page.locator("#approach").click()
    stranger.waits_until("mosaicMap.getZoom() < 13 && !mosaicMap.isMoving()")
    assert stranger.page.evaluate("mosaicMap.getZoom()") > 10
    for corner in ("[-0.21, 5.59]", "[-0.19, 5.61]"):
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
        page.locator("#map canvas").press("Enter")
        expect(page.locator("#live")).to_have_text("What is here has not been read yet")
    stranger.looks_at(ALONE, 13)
    expect(page.locator("#in-view-title")).to_have_text("1 image in view")


def test_far_out_the_country_in_the_middle_of_the_map_is_not_named(stranger: Stranger) -> None:
    stranger.opens("2/10/20")
    expect(stranger.page.locator("#where")).to_be_hidden()
    stranger.looks_at(ALONE, 14)
    expect(stranger.page.locator("#where")).to_have_text("Ghana")

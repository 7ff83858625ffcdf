"""The page around the map, as a stranger sees it in Chromium: words, addresses, and whom it serves."""

from __future__ import annotations

import gzip
import json
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
    PLACES,
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


@pytest.mark.parametrize(
    ("hours", "words"), [(1, None), (30, "A little late"), (80, "This mosaic is out of date")]
)
def test_an_old_mosaic_says_so(stranger: Stranger, hours: int, words: str | None) -> None:
    stranger.page.clock.set_system_time(datetime.now(UTC) + timedelta(hours=hours))
    stranger.opens(waits=False)
    notice = stranger.page.locator(".notice")
    expect(stranger.page.locator("#state")).to_contain_text("compared with the catalogue")
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
    stranger.opens(query=query, waits=False)
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


@pytest.mark.parametrize("stranger", [PHONE], indirect=True)
def test_a_phone_of_some_years_ago_shows_the_mosaic(stranger: Stranger) -> None:
    """Neither is known to iOS 15."""
    stranger.page.add_init_script("delete AbortSignal.timeout; delete AbortSignal.any;")
    stranger.opens("3/10/0")
    expect(stranger.page.locator("#in-view-body")).to_contain_text("Ghana")
    expect(stranger.page.locator(".notice")).to_have_count(0)


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


@pytest.mark.parametrize("view", ["14/5.6/-0.1", "3/0/-30"])
def test_whoever_finds_nothing_is_told_each_time(stranger: Stranger, view: str) -> None:
    """A screen reader does not read out a text that replaces the same one."""
    stranger.opens(view)
    told, canvas = stranger.page.locator("#live"), stranger.page.locator("#map canvas")
    canvas.press("Enter")
    expect(told).to_have_text("No imagery here")
    before = json.dumps(told.text_content())
    canvas.press("Enter")
    stranger.waits_until(f"document.querySelector('#live').textContent !== {before}")
    expect(told).to_have_text("No imagery here")


def test_a_long_title_stays_clear_of_the_arrow(stranger: Stranger) -> None:
    title = stranger.page.locator("#in-view-title")
    stranger.opens()
    title.evaluate("each => { each.textContent = 'too small to list '.repeat(9); }")
    boxes = [each.bounding_box() for each in (title, stranger.page.locator("#in-view summary"))]
    text, line = (each["x"] + each["width"] for each in boxes if each is not None)
    assert line - text > 34, "margin, arrow, and a gap"


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
    stranger.opens(waits=False)
    stranger.page.get_by_role("heading", name="Use it in your map").click()
    offered = stranger.page.locator("#addresses li", has=stranger.page.get_by_text("TileJSON", exact=True))
    expect(offered.locator("code")).to_have_text("https://bucket.example.org/global-mosaic.json")


@pytest.mark.parametrize(("shows", "first"), [("coverage", 5), ("imagery", 0)])
def test_the_first_zoom_of_what_each_client_reads_is_said(
    stranger: Stranger, published: Published, shows: str, first: int
) -> None:
    config = with_config(published.store, zoom_min=5, raster_shows=shows)
    stranger.page.route("**/config.json", lambda route: route.fulfill(body=config))
    stranger.opens(waits=False)
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

"""Images taken from the tiles of a real TiTiler, and from tile servers that misbehave."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image as Picture

from oam_mosaic_assets.core.imagery.blocks import in_pixels
from oam_mosaic_assets.core.imagery.outcome import Unreadable
from oam_mosaic_assets.core.imagery.pixels import TILE
from oam_mosaic_assets.core.imagery.recipe import Image, Recipe
from oam_mosaic_assets.core.rendering import render_query
from oam_mosaic_assets.gateways.imagery.addresses import Rules
from oam_mosaic_assets.gateways.imagery.asking import GIVEN_UP
from oam_mosaic_assets.gateways.imagery.cutting import TOGETHER
from oam_mosaic_assets.gateways.imagery.hosts import Hosts
from oam_mosaic_assets.gateways.imagery.source import Limits
from oam_mosaic_assets.gateways.imagery.tiles import Tiles
from oam_mosaic_assets_tests.gateways.imagery.bench import LIMITS, Bench, drone, plain
from oam_mosaic_assets_tests.images import Writing, scene, utm, write_image
from oam_mosaic_assets_tests.servers.image_hosts import Nginx, Request, ScriptedHost
from oam_mosaic_assets_tests.servers.titiler import TILES, running_titiler

ASSETS = "127.0.0.1:9"
"""The host of images that only the tile server reads."""


@pytest.fixture(scope="module")
def titiler() -> Iterator[str]:
    with running_titiler() as address:
        yield address


def bench_on(titiler: str, nginx: Nginx, folder: Path) -> Bench:
    bench = Bench(folder, nginx.host, titiler.removeprefix("http://"))
    bench.recipe = Recipe(tiles=f"{titiler}{TILES}")
    return bench


@pytest.mark.parametrize("feather", [0, 32])
def test_tiles_show_what_their_images_show(titiler: str, nginx: Nginx, tmp_path: Path, feather: int) -> None:
    places = [(500_000 + 9000 * column, 5_000_000 + 9000 * row) for column in range(2) for row in range(2)]
    images = [drone(nginx, f"tiled-{n}", *place)[0] for n, place in enumerate(places)]
    bench = bench_on(titiler, nginx, tmp_path)
    bench.recipe = replace(bench.recipe, feather=feather)
    tally = bench.build(images)
    assert (tally.images, tally.read, tally.skipped) == (4, 4, [])
    assert tally.hosts.keys() == {titiler.removeprefix("http://")}
    itself = Bench(tmp_path / "itself", nginx.host)
    itself.recipe = Recipe(feather=feather)
    itself.build(images)
    rng = np.random.default_rng(1)
    for image in images:
        west, south, east, north = image.footprint.buffer(-0.0008).bounds
        points = rng.uniform((west, south), (east, north), (300, 2))
        seen, as_read = bench.seen_at(points), itself.seen_at(points)
        assert (seen[:, 3] == 255).all()
        assert np.abs(seen[:, :3].astype(int) - as_read[:, :3]).mean() < 6.0
        assert np.abs(seen[:, :3] - scene(*points.T).T).mean() < 12.0
        beside = np.array([[east + 0.02, north], [west - 0.02, south]])
        assert (bench.seen_at(beside)[:, 3] == 0).all()


def test_nothing_changed_costs_no_request_however_long_ago(
    titiler: str, nginx: Nginx, tmp_path: Path
) -> None:
    image, _ = drone(nginx, "kept", 600_000, 5_100_000)
    bench = bench_on(titiler, nginx, tmp_path)
    assert bench.build([image]).requests > 0
    bench.now += timedelta(days=100)
    again = bench.build([image])
    assert (again.requests, again.made, again.read) == (0, 0, 1)
    changed = bench.build([replace(image, updated=bench.now)])
    assert (changed.requests > 0, changed.made, changed.read) == (True, changed.blocks, 1)


def test_with_the_setting_every_block_is_made_again(titiler: str, nginx: Nginx, tmp_path: Path) -> None:
    image, _ = drone(nginx, "switched", 620_000, 5_100_000)
    bench = bench_on(titiler, nginx, tmp_path)
    with_tiles, bench.recipe = bench.recipe, Recipe()
    assert bench.build([image]).hosts.keys() == {nginx.host}
    bench.recipe = with_tiles
    tally = bench.build([image])
    assert (tally.made, tally.hosts.keys()) == (tally.blocks, {titiler.removeprefix("http://")})


def test_render_params_reach_titiler(titiler: str, nginx: Nginx, tmp_path: Path) -> None:
    image = plain(nginx, "swapped", utm(33, 640_000, 5_100_000, 3.0, (300, 250)), (200, 100, 50))
    image = replace(image, render_params="bidx=3&bidx=2&bidx=1")
    bench = bench_on(titiler, nginx, tmp_path)
    bench.build([image])
    (seen,) = bench.seen_at(np.array([image.footprint.centroid.coords[0]]))
    assert np.abs(seen.astype(int) - (50, 100, 200, 255)).max() < 8


RENDERED: dict[str, tuple[str, dict[str, Any]]] = {
    "named": ("uint8", {"colormap_name": "viridis"}),
    "reversed": ("uint8", {"colormap_name": "rdylgn_r"}),
    "stretched-named": ("int16", {"rescale": [[-900, 1900]], "colormap_name": "terrain"}),
    "classes": ("uint8", {"colormap": {"7": [200, 100, 50, 255], "8": "#3264c8ff"}}),
    "classes-beyond-a-byte": (
        "uint16",
        {"colormap": {"7": [200, 100, 50, 255], "1008": [50, 100, 200, 255]}},
    ),
    "ranges": (
        "float32",
        {"colormap": [[[0, 500], [200, 100, 50, 255]], [[500, 1e9], [50, 100, 200, 255]]]},
    ),
    "stretched-ranges": ("uint16", {"rescale": [[0, 2000]], "colormap": [[[0, 90], [200, 100, 50, 255]]]}),
    "both": ("uint8", {"colormap_name": "viridis", "colormap": {"5": [200, 100, 50, 255]}}),
}
"""The type of an image, and the rendering that the catalogue states."""


@pytest.mark.parametrize("kind", RENDERED)
def test_colour_tables_mean_what_they_mean_to_titiler(
    titiler: str, nginx: Nginx, tmp_path: Path, kind: str
) -> None:
    (dtype, render), place = RENDERED[kind], utm(33, 640_000, 5_100_000, 3.0, (1024, 768))
    rows, columns = np.indices((768, 1024)) // 256
    which = rows * 4 + columns  # twelve fields of one value each
    values = np.where(which < 6, which + 2, which * 126.0) if dtype != "uint8" else which * 20.0 + 5
    if "classes" in kind:
        values = np.array([7, 8 if dtype == "uint8" else 1008, 9])[rows]
    write_image(nginx.root / f"{kind}.tif", place, Writing(bands=values[None].astype(dtype)))
    query = render_query({"properties": {"renders": {"visual": render}}}, "visual", [])
    image = Image(
        id=kind, footprint=place.footprint(), asset=nginx.address(f"{kind}.tif"), render_params=query
    )
    bench, itself = bench_on(titiler, nginx, tmp_path), Bench(tmp_path / "itself", nginx.host)
    west, south, east, north = image.footprint.bounds
    middles = [((column + 0.5) / 4, (row + 0.5) / 3) for row in range(3) for column in range(4)]
    points = np.array([[west + (east - west) * x, south + (north - south) * y] for x, y in middles])
    for each in (bench, itself):
        assert each.build([image]).read == 1
    wanted, shown = bench.seen_at(points).astype(int), itself.seen_at(points).astype(int)
    is_seen = wanted[:, 3] > 0
    assert (shown[:, 3] == wanted[:, 3]).all()
    assert is_seen.sum() >= 4
    assert len(np.unique(wanted[is_seen], axis=0)) > 1 or "stretched" in kind
    assert np.abs(shown - wanted)[is_seen].max() < 8


def test_images_that_titiler_cannot_read_are_told_and_seen_in_grey(
    titiler: str, nginx: Nginx, tmp_path: Path
) -> None:
    """However many they are, the others are read: an error for an image is no fault of TiTiler's host."""
    good, _ = drone(nginx, "well", 700_000, 5_200_000)
    beside, _ = drone(nginx, "ill", 702_000, 5_200_000)
    whole = (nginx.root / "ill.tif").read_bytes()
    (nginx.root / "ill.tif").write_bytes(whole[:100])
    missing = {f"lost-{n}": nginx.address(f"lost-{n}.tif") for n in range(GIVEN_UP + 1)}
    addresses = {
        **missing,
        "cut": nginx.address("ill.tif"),
        "refused_address": "http://127.0.0.1:1/a.tif",
        "bad_address": "file:///etc/passwd",
        "no_asset": None,
    }
    images = [
        *(Image(id=f"a-{name}", footprint=beside.footprint, asset=each) for name, each in addresses.items()),
        replace(good, gsd=9.0, id="z"),
    ]
    bench = bench_on(titiler, nginx, tmp_path)
    tally = bench.build(images)
    assert tally.read == 1
    reasons = {each.id.removeprefix("a-"): each.reason for each in tally.skipped}
    own = ("refused_address", "bad_address", "no_asset")
    assert reasons == {**dict.fromkeys([*missing, "cut"], "server_fault"), **{each: each for each in own}}
    middle = np.array([beside.footprint.centroid.coords[0], good.footprint.centroid.coords[0]])
    hint, shown = bench.seen_at(middle)
    assert 0 < hint[3] < 255
    assert shown[3] == 255
    assert bench.build(images).requests == 0
    # the next day they are tried again, and one is well
    (nginx.root / "ill.tif").write_bytes(whole)
    bench.now += timedelta(days=1)
    later = bench.build(images)
    assert later.read == 2
    assert len(later.skipped) == len(tally.skipped) - 1
    assert bench.seen_at(middle)[0, 3] == 255


def test_titiler_is_not_asked_for_what_it_draws_itself(titiler: str, nginx: Nginx, tmp_path: Path) -> None:
    """Else whoever writes in the catalogue could have it read any address, among them those inside."""
    image, _ = drone(nginx, "inside", 660_000, 5_100_000)
    asset = f"{titiler}/preview.tif?url={image.asset}"
    tally = bench_on(titiler, nginx, tmp_path).build([replace(image, asset=asset)])
    assert [each.reason for each in tally.skipped] == ["refused_address"]
    assert tally.requests == 0


@pytest.mark.parametrize("asset", ["http://localhost/a", "HTTP://LOCALHOST:80/a", "https://localhost/a"])
def test_the_server_of_tiles_is_known_however_its_address_is_written(asset: str) -> None:
    hosts = Hosts(Rules(frozenset({"localhost"})))
    area = shapely.box(0, 0, 1, 1)
    with pytest.raises(Unreadable, match="the server of its tiles"):
        Tiles("http://localhost/{z}/{x}/{y}.png", asset, area, hosts, Limits())


def png(size: int = TILE, colour: tuple[int, ...] = (10, 20, 30, 255)) -> bytes:
    written = io.BytesIO()
    Picture.new("RGBA", (size, size), colour).save(written, "PNG")
    return written.getvalue()


class Misbehaving:
    """A tile server whose answer for one row of tiles is given: the first that the image covers entirely."""

    def __init__(self, host: ScriptedHost, folder: Path) -> None:
        self.host = host
        host.script = self._answer
        self.status, self.body = "404 Not Found", b""
        self.bench = Bench(folder, host.host, ASSETS)
        self.bench.recipe = Recipe(tiles=f"http://{host.host}/{{z}}/{{x}}/{{y}}.png?of={{id}}")
        # 10 km: many tiles lie within it, in more blocks than are in work at once
        self.image = Image(
            id="ä /{z}",
            footprint=utm(33, 500_000, 5_500_000, 100.0, (100, 100)).footprint(),
            asset=f"http://{ASSETS}/itself.tif",
        )
        self.row = int(in_pixels(self.image.footprint).bounds[1]) // TILE + 1

    def _answer(self, request: Request) -> None:
        row = int(request.path.split("/")[3].partition(".")[0])
        if row == self.row:
            request.answer(self.status, self.body)
        else:
            request.answer("200 OK", png())


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        ("404 Not Found", b"{}", "missing"),
        ("204 No Content", b"", "missing"),
        ("403 Forbidden", b"", "forbidden"),
        ("200 OK", b"<html>Sign in</html>", "damaged"),
        ("200 OK", png()[:-40], "damaged"),
        ("200 OK", png(2 * TILE), "unsupported"),
        ("200 OK", b"\x89PNG\r\n\x1a\n" + bytes(2**20), "no_ranges"),
        ("500 Internal Server Error", b"", "server_fault"),
    ],
)
def test_an_image_is_not_half_shown(
    host: ScriptedHost, tmp_path: Path, status: str, body: bytes, reason: str
) -> None:
    """A tile that it covers entirely must be there: TiTiler may only have failed to read it."""
    server = Misbehaving(host, tmp_path)
    server.status, server.body = status, body
    tally = server.bench.build([server.image])
    assert [each.reason for each in tally.skipped] == [reason]
    seen = server.bench.seen_at(np.array([server.image.footprint.centroid.coords[0]]))
    assert 0 < seen[0, 3] < 255


def test_an_image_may_end_before_its_footprint_does(host: ScriptedHost, tmp_path: Path) -> None:
    server = Misbehaving(host, tmp_path)
    area = in_pixels(server.image.footprint)

    def answer(request: Request) -> None:
        x, y = (int(each.partition(".")[0]) for each in request.path.split("/")[2:4])
        is_whole = shapely.contains(area, shapely.box(*(TILE * np.array([x, y, x + 1, y + 1]))))
        request.answer(*(("200 OK", png()) if is_whole else ("404 Not Found",)))

    host.script = answer
    tally = server.bench.build([server.image])
    assert (tally.read, tally.skipped) == (1, [])
    (seen,) = server.bench.seen_at(np.array([server.image.footprint.centroid.coords[0]]))
    assert np.abs(seen.astype(int) - (10, 20, 30, 255)).max() < 8
    assert all("of=%C3%A4%20%2F%7Bz%7D" in each.path for each in host.asked)


def test_two_items_of_one_image_each_show_their_own_part_of_it(host: ScriptedHost, tmp_path: Path) -> None:
    host.script = lambda request: request.answer("200 OK", png())
    bench = Bench(tmp_path, host.host, ASSETS, workers=1)
    bench.recipe = Recipe(tiles=f"http://{host.host}/{{z}}/{{x}}/{{y}}.png?of={{url}}")
    west, east = (
        Image(
            id=name,
            footprint=utm(33, 500_000 + at, 5_500_000, 10.0, (200, 200)).footprint(),
            asset=f"http://{ASSETS}/itself.tif",
        )
        for name, at in (("west", 0), ("east", 3_000))
    )
    tally = bench.build([west, east])
    assert (tally.read, tally.skipped) == (2, [])
    middles = np.array([each.footprint.centroid.coords[0] for each in (west, east)])
    assert (bench.seen_at(middles)[:, 3] == 255).all()


def test_an_image_of_a_slow_titiler_is_finished_in_several_builds(host: ScriptedHost, tmp_path: Path) -> None:
    """Each draws the tiles of one block before the image's time is over, but not those of all its blocks."""
    server = Misbehaving(host, tmp_path)
    bench = server.bench
    bench.limits = {**LIMITS, "seconds": 1.0}
    image = replace(server.image, footprint=utm(33, 500_000, 5_500_000, 100.0, (80, 80)).footprint())

    def answer_a_few(request: Request) -> None:
        if len(host.asked) <= 20:
            request.answer("200 OK", png())

    host.script = answer_a_few
    for _ in range(2 * TOGETHER):
        host.asked.clear()
        tally = bench.build([image])
        assert 1 < tally.blocks <= TOGETHER
        bench.now += timedelta(days=1)
    assert (tally.read, tally.left) == (1, 0)


def test_images_at_unknown_hosts_are_no_fault_of_titiler(host: ScriptedHost, tmp_path: Path) -> None:
    server = Misbehaving(host, tmp_path)
    host.script = lambda request: request.answer("200 OK", png())
    lost = [
        replace(server.image, id=f"{n}", asset=f"https://nobody-{n}.invalid/a.tif")
        for n in range(GIVEN_UP + 1)
    ]
    tally = server.bench.build([*lost, server.image])
    assert tally.shown == [server.image.id]
    assert {each.reason for each in tally.skipped} == {"unknown_host"}


def test_images_read_long_ago_are_shown_for_a_month_while_titiler_is_away(
    host: ScriptedHost, tmp_path: Path
) -> None:
    """Though nobody asked for them since; among them are those for which it is not asked in vain."""
    server = Misbehaving(host, tmp_path)
    bench = server.bench
    host.script = lambda request: request.answer("200 OK", png())
    images = [
        replace(
            server.image,
            id=f"{n}",
            footprint=utm(33, 400_000 + 15_000 * n, 5_500_000, 3.0, (300, 250)).footprint(),
        )
        for n in range(GIVEN_UP + 3)
    ]
    blocks = bench.build(images).blocks
    middles = np.array([each.footprint.centroid.coords[0] for each in images])
    bench.now += timedelta(days=100)
    bench.recipe = replace(bench.recipe, feather=8)
    host.script = lambda request: request.connection.shutdown(socket.SHUT_RDWR)
    for _ in range(2):
        tally = bench.build(images)
        assert (tally.read, tally.made, tally.left) == (len(images), 0, blocks)
        assert (bench.seen_at(middles)[:, 3] == 255).all()
        bench.now += timedelta(days=29)
    assert [each.reason for each in bench.build(images).skipped] == ["unreachable"] * len(images)
    assert (bench.seen_at(middles)[:, 3] < 255).all()
    host.script = lambda request: request.answer("200 OK", png())
    bench.now += timedelta(days=1)
    assert bench.build(images).read == len(images)


def test_an_image_that_is_nowhere_is_tried_again(host: ScriptedHost, tmp_path: Path) -> None:
    server = Misbehaving(host, tmp_path)
    host.script = lambda request: request.answer("404 Not Found")
    assert [each.reason for each in server.bench.build([server.image]).skipped] == ["missing"]
    server.bench.now += timedelta(days=1)
    host.asked.clear()
    assert [each.reason for each in server.bench.build([server.image]).skipped] == ["missing"]
    assert len(host.asked) == 1
    host.script = lambda request: request.answer("200 OK", png())
    server.bench.now += timedelta(days=1)
    assert server.bench.build([server.image]).read == 1


def test_addresses_of_tiles_are_made_of_quoted_parts() -> None:
    image = Image(id="a/b {z}", footprint=shapely.box(0, 0, 1, 1), asset="https://x.org/a?b={y}&c=d e")
    by_id = Recipe(tiles="https://t.org/{id}/{z}/{x}/{y}").with_tiles(replace(image, render_params="bidx=1"))
    assert by_id.tiles == "https://t.org/a%2Fb%20%7Bz%7D/{z}/{x}/{y}?bidx=1"
    by_url = Recipe(tiles="https://t.org/{z}/{x}/{y}?url={url}").with_tiles(
        replace(image, render_params="rescale=0%2C9")
    )
    assert by_url.tiles == (
        "https://t.org/{z}/{x}/{y}?url=https%3A%2F%2Fx.org%2Fa%3Fb%3D%7By%7D%26c%3Dd%20e&rescale=0%2C9"
    )
    assert Recipe(tiles="https://t.org/{id}/{z}/{x}/{y}").with_tiles(replace(image, asset=None)).tiles is None
    assert Recipe().with_tiles(image) == image
    assert len({Recipe().digest, *(Recipe(tiles=f"https://{host}").digest for host in "ab")}) == 3
